"""Each recipe does what its page shows: its lines make the sample feed of the sample export, and all of it is typed."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from analytics.delivery.build import build
from analytics.lake.tables import lake_relation
from analytics.landing.coverage import quarantined
from analytics.landing.pull import pull
from analytics.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "recipes"
SAMPLES = ROOT / "tests" / "data" / "recipes"
SCRIPT = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"```console\n\$ python3 (\S+\.py)(.*?) < (\S+) > (\S+)\n```")
CATALOG = {
    "services": [{"name": name, "repository": f"acme/{name}"} for name in ("checkout", "pricing", "shop")],
}


@dataclass(frozen=True)
class Shown:
    """A command on a recipe's page: the lines it runs, their arguments, the export they read and the file they make."""

    page: str
    code: str
    words: tuple[str, ...]
    export: str
    output: str

    @property
    def sample(self) -> Path:
        return SAMPLES / self.page / self.output

    @property
    def entity(self) -> str:
        return "gate_results" if self.output.endswith(".sarif") else self.output.partition(".")[0]

    @property
    def feed(self) -> str:
        """Where the sample lies in the feed folder."""
        return f"{self.entity}/{self.page}-{self.output}"


def shown() -> Iterator[Shown]:
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text("utf-8")
        scripts = dict(SCRIPT.findall(text))
        for name, words, export, output in COMMAND.findall(text):
            yield Shown(path.stem, scripts[name], (name, *shlex.split(words)), export, output)


RECIPES = list(shown())
by_name = pytest.mark.parametrize("recipe", RECIPES, ids=[f"{one.page}: {one.output}" for one in RECIPES])


@by_name
def test_the_lines_make_the_sample_of_the_export(recipe: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SAMPLES / recipe.page
    made = io.StringIO()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", list(recipe.words))
    monkeypatch.setattr(sys, "stdin", io.StringIO((folder / recipe.export).read_text("utf-8")))
    monkeypatch.setattr(sys, "stdout", made)
    exec(compile(recipe.code, recipe.words[0], "exec"), {"__name__": "__main__"})
    read = [json.loads(line) for line in made.getvalue().splitlines()]
    assert read == [json.loads(line) for line in recipe.sample.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """All samples as one organisation's feeds, pulled and built."""
    folder = tmp_path_factory.mktemp("recipes")
    for recipe in RECIPES:
        target = folder / "feeds" / recipe.feed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(recipe.sample, target)
    (folder / "catalog.yaml").write_text(json.dumps(CATALOG), "utf-8")
    source = {"name": "drops", "type": "files", "path": "feeds"}
    written = {"organization": "Acme", "now": "2026-10-05T06:00:00Z", "sources": [source]}
    (folder / "quarterdeck.yaml").write_text(json.dumps(written), "utf-8")
    settings = load_settings(folder / "quarterdeck.yaml")
    assert all(result.ok for result in pull(settings))
    build(settings)
    return settings


@by_name
def test_every_record_of_the_sample_is_typed(recipe: Shown, built: Settings) -> None:
    text = recipe.sample.read_text("utf-8")
    records = json.loads(text)["runs"] if recipe.entity == "gate_results" else text.splitlines()
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT line FROM {lake_relation(built, recipe.entity)} WHERE origin = ? ORDER BY line", [recipe.feed]
        ).fetchall()
    assert rows == [(line,) for line in range(1, len(records) + 1)]


def test_nothing_of_any_sample_is_refused(built: Settings) -> None:
    assert quarantined(built) == []


def test_each_tool_of_the_index_has_its_page_and_each_page_its_sample() -> None:
    index = set(re.findall(r"\]\((\S+)\.md\)", (PAGES / "README.md").read_text("utf-8")))
    assert index == {path.stem for path in PAGES.glob("*.md")} - {"README"} == {recipe.page for recipe in RECIPES}


def test_gates_are_blocked_overridden_or_passed_as_their_files_say(built: Settings) -> None:
    with duckdb.connect() as con:
        rows = con.execute(
            "SELECT repository, run_id, gate, outcome, resolution "
            f"FROM {lake_relation(built, 'gate_results')} ORDER BY ALL"
        ).fetchall()
    codeql = "CodeQL .github/workflows/codeql.yml:analyze/language:python"
    assert rows == [
        ("acme/checkout", "4711", "Trivy", "blocked", None),
        ("acme/pricing", "5120", "conftest", "passed", None),
        ("acme/shop", "9001", codeql, "overridden", "false_positive"),
        ("acme/shop", "9002", "SonarQube", "blocked", None),
    ]  # fmt: skip


def test_what_happened_is_what_the_tools_told(built: Settings) -> None:
    with duckdb.connect() as con:
        ends = dict(
            con.execute(
                f"SELECT incident_id, date_diff('second', opened_at, coalesce(mitigated_at, resolved_at)) "
                f"FROM {lake_relation(built, 'incidents')}"
            ).fetchall()
        )
        deployed = con.execute(
            "SELECT split_part(deployment_id, ':', 1), coalesce(attempt, 1), status "
            f"FROM {lake_relation(built, 'deployments')} ORDER BY created_at"
        ).fetchall()
        budgets = con.execute(
            f'SELECT error_budget_remaining FROM {lake_relation(built, "slo_samples")} ORDER BY "at"'
        ).fetchall()
    assert ends["opsgenie:70413a06-38d6-4c85-92b8-5ebc900d42e2"] == 2979
    assert ends["servicenow:INC0010001"] == 150 * 60
    assert ends["datadog:41:checkout"] == ends["datadog:41:pricing"] == 40 * 60
    assert ends["drift:checkout-production:2026-08-02T05:00:00Z"] == 2 * 86_400
    assert ends["launchdarkly:kill-express-checkout:66b0c1"] == 35 * 60
    still_open = sorted(name.partition(":")[0] for name, seconds in ends.items() if seconds is None)
    assert still_open == ["datadog", "drift", "launchdarkly", "opsgenie", "servicenow"]
    assert deployed == [
        ("argocd", 1, "success"), ("argocd", 1, "failure"), ("spinnaker", 1, "success"), ("spinnaker", 1, "failure"),
        ("flux", 1, "failure"), ("flux", 2, "success"), ("flux", 1, "success"), ("spinnaker", 1, "in_progress"),
    ]  # fmt: skip
    assert budgets == [(0.5125,), (0.0,)]
