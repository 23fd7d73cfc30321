"""Settings and catalog: what is wrong is said with file, line, key and the nearest known key."""

import pickle
import sys
import zoneinfo
from datetime import date
from pathlib import Path

import pytest

from analytics.catalog import load_catalog
from analytics.errors import SettingsError
from analytics.metric_names import METRIC_NAMES
from analytics.metrics.registry import METRICS
from analytics.secrets import Secret
from analytics.settings import FilesSource, load_settings


def write(folder: Path, text: str, name: str = "quarterdeck.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    settings = load_settings(
        write(tmp_path, "organization: A\nsources:\n  - {name: drops, type: files, path: ./feeds}\n")
    )
    (source,) = settings.sources
    assert isinstance(source, FilesSource)
    assert source.path == tmp_path / "feeds"
    assert settings.storage == tmp_path / "quarterdeck-data"


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_key(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, "organization: A\n\ntimezone: UTC\n"))
    assert "quarterdeck.yaml:3" in text
    assert "'timezone'" in text
    assert "Did you mean 'time_zone'?" in text


def test_a_wrong_key_deep_inside_a_source_is_found(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, "organization: A\nsources:\n  - name: x\n    type: files\n    pth: y\n"))
    assert "quarterdeck.yaml:5" in text
    assert "sources.0.pth" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("time_zone: Mars/Olympus", "not an IANA time zone"),
        ("now: 2026-01-01T00:00:00", "timezone"),
        ("now: 9999-12-31T23:59:59Z", "between the years"),
        ("now: 0001-01-01T00:00:00+14:00", "between the years"),
        ("fiscal_year_start_month: 13", "less than or equal to 12"),
        ("storage: {lake: ./folder}", "a folder stands under `path`"),
        ("sources: [{name: a, type: files, path: x}, {name: a, type: files, path: y}]", "two sources are named 'a'"),
        ("sources: [{name: ../a, type: files, path: x}]", "pattern"),
    ],
)
def test_a_bad_value_is_refused_in_words(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(write(tmp_path, f"organization: A\n{line}\n"))


@pytest.mark.parametrize(
    ("storage", "path", "lake"),
    [
        ("./data", "data", None),
        ("s3://bucket/some prefix/", "quarterdeck-data", "s3://bucket/some prefix"),
        ("{path: ./data}", "data", None),
        ("{path: ./data, lake: 's3://bucket'}", "data", "s3://bucket"),
    ],
)
def test_the_storage_is_a_folder_and_the_lake_may_be_elsewhere(
    tmp_path: Path, storage: str, path: str, lake: str | None
) -> None:
    settings = load_settings(write(tmp_path, f"organization: A\nstorage: {storage}\n"))
    assert (settings.storage, settings.lake_url) == (tmp_path / path, lake)
    moved = settings.model_copy(update={"storage": tmp_path / "moved"})
    assert (moved.storage, moved.lake_dir, moved.lake_url) == (tmp_path / "moved", tmp_path / "moved" / "lake", lake)


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("3", "write a folder, the URL of an object store, or a mapping"),
        ("{lak: ./x}", "Did you mean 'lake'?"),
        ("{lake: ./x}", "a folder stands under `path`"),
        ("{lake: 'file:///x'}", "a folder stands under `path`"),
        ("{lake: 's3://'}", "write the URL of an object store"),
        ("{lake: 's3:///x'}", "write the URL of an object store"),
        ("{lake: 's3://canary:canary@bucket'}", "write the URL without user and password"),
        ("{lake: 's3://bucket/../x'}", "no dots as a folder"),
        ("{lake: 's3://bucket/x?versionId=1'}", "holds no query"),
        ("{lake: 's3://bucket/x*'}", "no pattern"),
        ("{options: {anon: true}}", "options belong to an object store"),
        ("{lake: 's3://b', options: {secret: canary}}", "secret: the secret itself must not stand here"),
        ("{lake: 's3://b', options: {client_kwargs: {aws_session_token: canary}}}", "the secret itself must not stand"),
        ("{lake: 's3://b', options: {key: '${QD_NOT_SET}'}}", "QD_NOT_SET is not set"),
    ],
)
def test_a_storage_that_cannot_be_meant_is_refused_in_words(tmp_path: Path, storage: str, said: str) -> None:
    text = refusal(write(tmp_path, f"organization: A\nstorage: {storage}\n"))
    assert said in text
    assert "quarterdeck.yaml:2" in text
    assert "canary" not in text


def test_options_of_a_store_keep_their_secrets_as_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QD_TEST_KEY", "canary-secret")
    monkeypatch.setenv("QD_TEST_HOST", "s3.example.com")
    options = "endpoint_url: 'https://${QD_TEST_HOST}', key: '${QD_TEST_KEY}', client_kwargs: {x_token: 'file:tok'}"
    settings = load_settings(write(tmp_path, f"organization: A\nstorage: {{lake: 's3://b', options: {{{options}}}}}\n"))
    assert settings.stored.options == {
        "endpoint_url": "https://s3.example.com",
        "key": Secret("${QD_TEST_KEY}"),
        "client_kwargs": {"x_token": Secret(f"file:{tmp_path}/tok")},
    }
    assert b"canary" not in pickle.dumps(settings)
    assert "canary" not in repr(settings)


def test_a_missing_environment_variable_is_named_and_a_present_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "{name: g, type: github, organization: a, token: '${QD_TEST_TOKEN}'}"
    path = write(tmp_path, f"organization: A\nsources:\n  - {source}\n")
    monkeypatch.delenv("QD_TEST_TOKEN", raising=False)
    assert "QD_TEST_TOKEN is not set" in refusal(path)
    monkeypatch.setenv("QD_TEST_TOKEN", "canary-secret")
    assert "canary-secret" not in repr(load_settings(path))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert "stands twice" in refusal(write(tmp_path, "organization: A\norganization: B\n"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!!bool maybe", "does not fit its tag"),
        ('!!int ""', "does not fit its tag"),
        ("!!timestamp soon", "does not fit its tag"),
        ('"a\\0b"', "a NUL character"),
        ("a\0b", "not valid YAML"),
        ("0x" + "f" * 6000, "a number of 6,002 characters"),
        ("1" + ":59" * 3000 + ".5", "a number of 9,003 characters"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("[" * 5000, "deeper than 64 levels"),
    ],
)
def test_a_value_that_the_yaml_library_stumbles_over_is_refused_by_file(tmp_path: Path, value: str, words: str) -> None:
    said = refusal(write(tmp_path, f"organization: {value}\n"))
    assert "quarterdeck.yaml" in said
    assert words in said


def test_a_settings_file_without_end_is_not_read_to_its_end() -> None:
    assert "larger than" in refusal(Path("/dev/zero"))


def test_aliases_are_refused_because_they_grow_without_bound(tmp_path: Path) -> None:
    assert "aliases" in refusal(write(tmp_path, "organization: &a A\ntime_zone: *a\n"))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    assert "quarterdeck init" in refusal(tmp_path / "none.yaml")


def test_two_entries_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    path = write(
        tmp_path, "services:\n  - {name: a, repository: x/y}\n  - {name: a, repository: x/z}\n", "catalog.yaml"
    )
    with pytest.raises(SettingsError, match="declared twice"):
        load_catalog([path])


def test_a_selector_is_exactly_one_way(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "services:\n  - {name: a, repository: x/y, deploys: {tags: 'v*', releases: true}}\n",
        "catalog.yaml",
    )
    with pytest.raises(SettingsError, match="exactly one"):
        load_catalog([path])


def test_backstage_components_become_services(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: shop
  annotations:
    github.com/project-slug: acme/shop
    quarterdeck/tier: "1"
    quarterdeck/environments: prod-eu, prod-us
    quarterdeck/since: "2025-01-15"
spec:
  owner: group:default/payments
  lifecycle: production
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: payments}
spec: {}
""",
        "catalog-info.yaml",
    )
    (service,) = load_catalog([tmp_path]).services
    assert (service.name, service.team, service.tier, service.repository) == ("shop", "payments", 1, "acme/shop")
    assert service.deploys.environments == ["prod-eu", "prod-us"]
    assert service.since == date(2025, 1, 15)
    assert load_catalog([path]).of_repository("ACME/Shop") == [service]


def test_a_backstage_component_without_a_repository_says_which_annotation_is_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: x}\nspec: {owner: y}\n",
        "catalog-info.yaml",
    )
    with pytest.raises(SettingsError, match="project-slug"):
        load_catalog([path])


def test_a_machine_without_time_zones_is_told_from_a_wrong_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("{organization: Acme, time_zone: Pacific/Kiritimati}")
    for name in ("tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Europe", "tzdata.zoneinfo.Pacific"):
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        with pytest.raises(SettingsError, match="time_zone: this machine has no time zones; install tzdata"):
            load_settings(path)
    finally:
        zoneinfo.reset_tzpath()
    monkeypatch.undo()
    assert load_settings(path).time_zone == "Pacific/Kiritimati"


def test_targets_may_name_every_metric_and_nothing_else() -> None:
    assert sorted(METRIC_NAMES) == sorted(metric.name for metric in METRICS)
