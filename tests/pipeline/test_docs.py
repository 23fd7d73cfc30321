"""What the docs show is what the commands print."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from analytics.metrics.document import document
from analytics.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Commands of the README and of the guide to what was shipped that come with their output."""
    for page in (ROOT / "README.md", ROOT / "docs" / "supply-chain.md"):
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            first, *output = block.rstrip("\n").split("\n")
            if output and not output[0].startswith("$ "):
                yield first.removeprefix("$ "), output


def test_the_metrics_page_is_the_registrys() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == document()


SOURCES = re.findall(
    r"^## (\S+)\n\n(    sources:\n(?:    .*\n)+)", (ROOT / "docs" / "operators.md").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("kind", "shown"), SOURCES, ids=[kind for kind, _ in SOURCES])
def test_the_sources_that_are_shown_are_settings(
    kind: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"\$\{(\w+)\}", shown):
        monkeypatch.setenv(name, "x")
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("organization: Acme\n" + textwrap.dedent(shown), "utf-8")
    assert [source.type for source in load_settings(path).sources] == [kind.lower()]


def test_each_source_that_asks_an_api_is_shown() -> None:
    assert {kind for kind, _ in SOURCES} == {"GitHub", "GitLab", "PagerDuty", "Jira", "Prometheus"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from quarterdeck.cli import main

    folder = tmp_path_factory.mktemp("readme")
    runner = CliRunner()
    assert runner.invoke(main, ["sample", str(folder / "sample")]).exit_code == 0
    for stage in ("pull", "build", "verify", "measure"):
        result = runner.invoke(main, [stage, "--settings", str(folder / "sample" / "quarterdeck.yaml")])
        assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), list(shown_commands()))
def test_the_docs_show_what_the_command_prints(command: str, shown: list[str], sample: Path) -> None:
    from quarterdeck.cli import main

    program, *words = command.split()
    assert program == "quarterdeck"
    words = [str(sample / word) if word.startswith("sample/") else word for word in words]
    printed = CliRunner().invoke(main, words).stdout
    # An ellipsis stands for any text, alone on a line for any lines.
    pattern = "\n".join(".*?" if line == "…" else re.escape(line).replace("…", "[^\n]*") for line in shown)
    assert re.fullmatch(pattern + r"\n*", printed, re.DOTALL), f"{command} prints now:\n{printed}"
