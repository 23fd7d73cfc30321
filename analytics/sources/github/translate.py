"""GitHub's items as records of the house, from the whole body of an answer, so that they can be made again later.

Nothing here judges: an item that lacks its core gives a record that lacks it, which the landing then refuses with the
reason. No JSON value makes a function raise, and none is lost. Source: contract.md section 4, ingestion.md section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from analytics.sources.github.payload_paths import Path, value_at

Record = dict[str, Any]
Found = tuple[str, int, Record, Any]

_RUN_ADDRESS = re.compile(r"/actions/runs/([0-9]{1,19})")
_DIGEST = re.compile(r"(?<![0-9A-Za-z])sha256:[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_BARE_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
# A longer payload is not looked into.
PAYLOAD_CHARACTERS = 64 * 1024
_WORKFLOWS = ".github/workflows/"
# Kinds whose body is the list itself.
_LISTS = frozenset(
    {"issues", "releases", "commits", "tags", "file_revisions", "pull_requests_rest", "reviews_rest", "attestations"}
)
# Kinds whose body holds the list under a name.
_NAMED_LISTS = {"runs": "workflow_runs", "jobs": "jobs", "deployment_records": "deployment_records"}
# As git gives them: a message ends at its first NUL, and after so many bytes.
MESSAGE_BYTES = 64 * 1024


def translate(kind: str, body: str, repository: str, digest_path: Path | None = None) -> Iterator[Found]:
    """Entity, place in the list, record and raw item of everything that an answer of this kind holds.

    Kinds are those of `_TRANSLATORS`; `digest_path` is where a deployment's payload names its artifact. Raises
    ValueError for a body that is no JSON; the client refused those before.
    """
    records_in = _TRANSLATORS[kind]
    if records_in is _of_deployment:
        records_in = partial(_of_deployment, digest_path=digest_path)
    for index, item in enumerate(_items(kind, msgspec.json.decode(body))):
        for entity, record in records_in(_mapping(item), repository):
            yield entity, index, {name: value for name, value in record.items() if value is not None}, item


def _items(kind: str, body: Any) -> list[Any]:
    found: Any
    if kind == "run":
        return [body]
    if kind in _LISTS:
        found = body
    elif kind in _NAMED_LISTS:
        found = _mapping(body).get(_NAMED_LISTS[kind])
    elif kind == "deployments_by_id":
        found = _at(body, "data", "nodes")
    else:
        field = "pullRequests" if kind == "pull_requests" else "deployments"
        found = _at(body, "data", "node", field, "nodes")
    return [item for item in found if item is not None] if isinstance(found, list) else []


def pipeline_run(raw: Record, repository: str) -> Record:
    """An attempt of a workflow run; GitHub tells its end only as the time of its last change."""
    status = raw.get("status")
    path = raw.get("path")
    workflow = path.split("@", 1)[0].removeprefix(_WORKFLOWS) if isinstance(path, str) and path else raw.get("name")
    referenced = raw.get("referenced_workflows")
    return {
        "repository": repository,
        "run_id": raw.get("id"),
        # Runs from before attempts were counted have one.
        "attempt": raw.get("run_attempt", 1),
        "workflow": workflow,
        "event": raw.get("event"),
        "head_sha": raw.get("head_sha"),
        "head_branch": raw.get("head_branch"),
        "status": status,
        "conclusion": raw.get("conclusion"),
        "created_at": raw.get("created_at"),
        "started_at": raw.get("run_started_at"),
        "completed_at": raw.get("updated_at") if status == "completed" else None,
        "actor": _at(raw, "triggering_actor", "login") or _at(raw, "actor", "login"),
        "referenced_workflows": [_at(one, "path") for one in referenced] if isinstance(referenced, list) else None,
        "updated_at": raw.get("updated_at"),
    }


def pipeline_job(raw: Record, repository: str) -> Record:
    """A job of an attempt; "re-run failed jobs" shows passed jobs again with the times they had."""
    return {
        "repository": repository,
        "run_id": raw.get("run_id"),
        "attempt": raw.get("run_attempt", 1),
        "job_id": raw.get("id"),
        "name": raw.get("name"),
        "status": raw.get("status"),
        "conclusion": raw.get("conclusion"),
        "created_at": raw.get("created_at"),
        "started_at": raw.get("started_at"),
        "completed_at": raw.get("completed_at"),
        "runner": raw.get("runner_name") or None,
        "runner_labels": raw.get("labels"),
    }


def pull_request(node: Record, repository: str) -> Record:
    """A pull request of GraphQL; the first review is the first that its author did not write."""
    author = _at(node, "author", "login")
    given = sorted(
        (str(review["submittedAt"]), str(review.get("state")))
        for review in _nodes(node, "reviews")
        if review.get("submittedAt") and _at(review, "author", "login") != author
    )
    return {
        "repository": repository,
        "number": node.get("number"),
        "title": node.get("title"),
        "author": author,
        "labels": [label.get("name") for label in _nodes(node, "labels")],
        "created_at": node.get("createdAt"),
        "first_review_at": given[0][0] if given else None,
        "approved_at": next((at for at, state in given if state == "APPROVED"), None),
        "merged_at": node.get("mergedAt"),
        "closed_at": node.get("closedAt"),
        "merge_commit_sha": _at(node, "mergeCommit", "oid"),
        "commits": [_at(one, "commit", "oid") for one in _nodes(node, "commits")],
        "head_ref": node.get("headRefName"),
        "updated_at": node.get("updatedAt"),
    }


def commit(raw: Record, repository: str) -> Record:
    """A commit of REST as git tells it; changed files where they were asked for."""
    files = raw.get("files")
    paths: set[Any] = set()
    for file in files if isinstance(files, list) else ():
        paths.add(_at(file, "filename"))
        # A copy leaves the other path as it was.
        paths.add(_at(file, "previous_filename") if _at(file, "status") == "renamed" else None)
    parents = raw.get("parents")
    return {
        "repository": repository,
        "sha": raw.get("sha"),
        "parents": [_at(parent, "sha") for parent in parents] if isinstance(parents, list) else None,
        "author": _at(raw, "commit", "author", "name") or _at(raw, "commit", "author", "email"),
        "authored_at": _at(raw, "commit", "author", "date"),
        "committed_at": _at(raw, "commit", "committer", "date"),
        "message": _message(_at(raw, "commit", "message")),
        "files": sorted((path for path in paths if isinstance(path, str)), key=str.encode)
        if isinstance(files, list)
        else None,
    }


def tag(node: Record, repository: str) -> Record:
    """A tag of GraphQL; its time is the tagger's, else the commit's."""
    target = node.get("target")
    at = _at(target, "tagger", "date")
    while _at(target, "__typename") == "Tag":
        target = _at(target, "target")
    is_commit = _at(target, "__typename") == "Commit"
    return {
        "repository": repository,
        "name": node.get("name"),
        "sha": _at(target, "oid") if is_commit else None,
        "tagged_at": at or _at(target, "committedDate"),
    }


def file_revision(raw: Record, repository: str) -> Record:
    """The newest changes of a watched path."""
    return {
        "repository": repository,
        "path": raw.get("path"),
        "sha": _at(raw, "commit", "sha"),
        "committed_at": _at(raw, "commit", "commit", "committer", "date"),
        "earlier": raw.get("earlier") or None,
    }


def pull_request_rest(raw: Record, repository: str) -> Record:
    """A pull request of REST (a list, a saved webhook); its commits and reviews come apart."""
    labels = raw.get("labels")
    return {
        "repository": repository,
        "number": raw.get("number"),
        "title": raw.get("title"),
        "author": _at(raw, "user", "login"),
        "labels": [_at(label, "name") for label in labels] if isinstance(labels, list) else None,
        "created_at": raw.get("created_at"),
        "merged_at": raw.get("merged_at"),
        "closed_at": raw.get("closed_at"),
        # An open pull request has one too: that of a merge nobody made.
        "merge_commit_sha": raw.get("merge_commit_sha") if raw.get("merged_at") else None,
        "head_ref": _at(raw, "head", "ref"),
        "updated_at": raw.get("updated_at"),
    }


def review_rest(raw: Record, repository: str) -> Record:
    """A submitted review of REST; the pull request is known by its address."""
    number = str(raw.get("pull_request_url") or "").rpartition("/")[2]
    return {
        "repository": repository,
        "number": int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None,
        "reviewer": _at(raw, "user", "login") or "ghost",
        "state": raw.get("state"),
        "submitted_at": raw.get("submitted_at"),
        "updated_at": raw.get("submitted_at"),
    }


def reviews(node: Record, repository: str) -> list[Record]:
    """The newest submitted review of each reviewer; one that is still being written has no time."""
    newest: dict[str, Record] = {}
    for review in _nodes(node, "reviews"):
        if not review.get("submittedAt"):
            continue
        # The account of a reviewer who left is gone; GitHub shows it as `ghost`.
        reviewer = _at(review, "author", "login") or "ghost"
        record = {
            "repository": repository,
            "number": node.get("number"),
            "reviewer": reviewer,
            "state": review.get("state"),
            "submitted_at": review["submittedAt"],
            "updated_at": review["submittedAt"],
        }
        known = newest.get(str(reviewer))
        if known is None or str(known["submitted_at"]) <= str(record["submitted_at"]):
            newest[str(reviewer)] = record
    return list(newest.values())


def deployment(node: Record, repository: str, digest_path: Path | None = None) -> Record:
    """A deployment of GraphQL with its whole history; `node_id` is what it is read again by."""
    statuses = [
        {"state": _lower(status.get("state")), "at": status.get("createdAt") or status.get("updatedAt")}
        # GitHub lists the newest first; those of one second stay in the order in which they came.
        for status in reversed(_nodes(node, "statuses"))
    ]
    addresses = (str(status.get("logUrl") or "") for status in _nodes(node, "statuses"))
    run = next((match[1] for address in addresses if (match := _RUN_ADDRESS.search(address))), None)
    return {
        "deployment_id": node.get("databaseId"),
        "node_id": node.get("id"),
        "repository": repository,
        "environment": node.get("environment"),
        "sha": node.get("commitOid"),
        "ref": _at(node, "ref", "name"),
        "digest": payload_digest(node.get("payload"), digest_path),
        "run_id": run,
        "statuses": sorted(statuses, key=lambda status: str(status["at"])),
        "created_at": node.get("createdAt"),
        "creator": _at(node, "creator", "login"),
        "updated_at": node.get("updatedAt"),
    }


def payload_digest(payload: Any, path: Path | None = None) -> str | None:
    """The artifact that a deployment's payload names, as `sha256:…`: the one digest in it, None for none or several.

    With a path only what stands there counts: a digest, with or without its algorithm, or a reference that holds one.
    GitHub says nothing of what a payload holds; GraphQL gives it as JSON inside text, twice where it is an object.
    """
    if isinstance(payload, str):
        text = payload
    else:
        try:
            text = msgspec.json.encode(payload).decode()
        except (TypeError, ValueError, RecursionError):
            return None
    if len(text) > PAYLOAD_CHARACTERS:
        return None
    if path is not None:
        named = value_at(payload, path)
        if not isinstance(named, str):
            return None
        text = f"sha256:{named}" if _BARE_DIGEST.fullmatch(named) else named
    found = {match.lower() for match in _DIGEST.findall(text)}
    return found.pop() if len(found) == 1 else None


def incident(raw: Record, repository: str) -> Record:
    """A labelled issue."""
    labels = raw.get("labels")
    return {
        "incident_id": raw.get("id"),
        "repository": repository,
        "title": raw.get("title"),
        "labels": [_at(label, "name") for label in labels] if isinstance(labels, list) else None,
        "opened_at": raw.get("created_at"),
        "resolved_at": raw.get("closed_at"),
        "url": raw.get("html_url"),
        "updated_at": raw.get("updated_at"),
    }


def release(raw: Record, repository: str) -> Record:
    """A published release; its commit is the tag's, since `target_commitish` may be a branch that moved on."""
    return {
        "repository": repository,
        "tag": raw.get("tag_name"),
        "name": raw.get("name"),
        "published_at": raw.get("published_at"),
        "updated_at": raw.get("updated_at"),
    }


def artifacts(raw: Record, repository: str) -> list[Record]:
    """The assets of a release that have a digest; older ones have none."""
    assets = raw.get("assets")
    return [
        {
            "digest": _at(asset, "digest"),
            "name": _at(asset, "name"),
            "repository": repository,
            "release": raw.get("tag_name"),
            "created_at": _at(asset, "created_at"),
            "updated_at": _at(asset, "updated_at"),
        }
        for asset in (assets if isinstance(assets, list) else [])
        if _at(asset, "digest")
    ]


def deployment_record(raw: Record, repository: str) -> Record:
    """What runs in one place (environments, cluster, name); the next one there overwrites it, its time tells which."""
    # GitHub's schema says `created_at`, its example `created`.
    made = raw.get("created_at") or raw.get("created")
    at = raw.get("updated_at") or made
    return {
        "digest": raw.get("digest"),
        "repository": repository,
        "environment": raw.get("logical_environment"),
        "physical_environment": raw.get("physical_environment") or None,
        "cluster": raw.get("cluster") or None,
        "deployment_name": raw.get("deployment_name"),
        "recorded_at": at,
        "status": raw.get("status"),
        "created_at": made,
        "updated_at": at,
    }


def _of_run(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "pipeline_runs", pipeline_run(raw, repository)


def _of_job(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "pipeline_jobs", pipeline_job(raw, repository)


def _of_pull_request(node: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "pull_requests", pull_request(node, repository)
    for review in reviews(node, repository):
        yield "reviews", review


def _of_deployment(node: Record, repository: str, digest_path: Path | None = None) -> Iterator[tuple[str, Record]]:
    yield "deployments", deployment(node, repository, digest_path)


def _of_issue(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    # REST lists pull requests among issues.
    if not raw.get("pull_request"):
        yield "incidents", incident(raw, repository)


def _of_release(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    # A draft is shipped to nobody, and may never be.
    if raw.get("draft") is not True:
        yield "releases", release(raw, repository)
        for artifact in artifacts(raw, repository):
            yield "artifacts", artifact


def _of_commit(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "commits", commit(raw, repository)


def _of_tag(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "tags", tag(raw, repository)


def _of_file_revision(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "file_revisions", file_revision(raw, repository)


def _of_pull_request_rest(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "pull_requests", pull_request_rest(raw, repository)


def _of_review_rest(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    # One that is still being written is nobody's review yet.
    if raw.get("submitted_at") or raw.get("state") != "PENDING":
        yield "reviews", review_rest(raw, repository)


def _of_attestation(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "attestations", {"digest": raw.get("digest"), "bundle": raw.get("bundle")}


def _of_deployment_record(raw: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "deployment_records", deployment_record(raw, repository)


_TRANSLATORS: dict[str, Callable[[Record, str], Iterator[tuple[str, Record]]]] = {
    "runs": _of_run,
    "run": _of_run,
    "jobs": _of_job,
    "pull_requests": _of_pull_request,
    "deployments": _of_deployment,
    "deployments_by_id": _of_deployment,
    "issues": _of_issue,
    "releases": _of_release,
    "commits": _of_commit,
    "tags": _of_tag,
    "file_revisions": _of_file_revision,
    "pull_requests_rest": _of_pull_request_rest,
    "reviews_rest": _of_review_rest,
    "attestations": _of_attestation,
    "deployment_records": _of_deployment_record,
}


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _nodes(node: Record, field: str) -> list[Record]:
    nodes = _at(node, field, "nodes")
    return [one for one in nodes if isinstance(one, dict)] if isinstance(nodes, list) else []


def _message(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    data = value.split("\0", 1)[0].encode("utf-8", "replace")
    return data[:MESSAGE_BYTES].decode("utf-8", "replace").rstrip("\n")


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
