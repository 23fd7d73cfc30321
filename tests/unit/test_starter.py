from __future__ import annotations

import re
from pathlib import Path

import pytest

from analytics.catalog import load_catalog
from analytics.settings import load_settings
from analytics.starter import StarterError, write_starter


def test_what_is_written_loads(tmp_path: Path) -> None:
    write_starter(tmp_path / "new")
    settings = load_settings(tmp_path / "new" / "quarterdeck.yaml")
    assert isinstance(settings.catalog, list)
    assert [service.name for service in load_catalog(settings.catalog).services] == ["example-service"]
    assert [source.name for source in settings.sources] == ["drops"]
    assert (tmp_path / "new" / "feeds").is_dir()


def test_commented_keys_are_known_keys(tmp_path: Path) -> None:
    """Whoever removes a comment sign must not run into an unknown key."""
    write_starter(tmp_path)
    path = tmp_path / "quarterdeck.yaml"
    text = path.read_text(encoding="utf-8")
    for line in ("# now:", "# targets:", "#   change_lead_time:", "#   change_fail_rate:", "# reports:", "#   title:"):
        assert line in text
        text = text.replace(line, line.removeprefix("# ").replace("#  ", " ", 1))
    path.write_text(text, encoding="utf-8")
    settings = load_settings(path)
    assert settings.targets == {"change_lead_time": 24, "change_fail_rate": 0.15}
    assert settings.fixed_now is not None


def test_commented_sources_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_starter(tmp_path)
    path = tmp_path / "quarterdeck.yaml"
    head, rest = path.read_text(encoding="utf-8").split("sources:\n")
    block, tail = rest.split("\n\n# How an incident")
    # Words of a comment begin with a capital letter, keys and dashes do not.
    block = re.sub(r"^  # (?=[-\s])", "  ", block, flags=re.M)
    path.write_text(f"{head}sources:\n{block}\n\n# How an incident{tail}", encoding="utf-8")
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN", "PAGERDUTY_TOKEN", "JIRA_TOKEN"):
        monkeypatch.setenv(name, "x")
    kinds = [source.type for source in load_settings(path).sources]
    assert kinds == ["files", "git", "github", "gitlab", "pagerduty", "jira", "prometheus"]


@pytest.mark.parametrize("taken", ["quarterdeck.yaml", "catalog.yaml"])
def test_nothing_is_overwritten_nor_half_written(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine", encoding="utf-8")
    with pytest.raises(StarterError, match=taken):
        write_starter(tmp_path)
    assert (tmp_path / taken).read_text(encoding="utf-8") == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StarterError, match="file"):
        write_starter(tmp_path / "file" / "inside")
