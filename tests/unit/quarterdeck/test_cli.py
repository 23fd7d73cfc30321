from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analytics.errors import LakeError
from analytics.periods import Quarter
from quarterdeck.cli import main

VALUES = [
    {
        "metric": "change_fail_rate",
        "scope": "service",
        "name": "=cmd()",
        "quarter": "2026-Q1",
        "series": None,
        "value": 0.5,
        "unit": "ratio",
        "n": 2,
        "numerator": 1,
        "denominator": 2,
        "low": None,
        "high": None,
        "open": 0,
        "reason": None,
        "reading": "too few data",
        "definition": "change_fail_rate@1",
    }
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings whose cut-off lies in 2026-Q2, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("{organization: Acme, now: 2026-04-10T00:00:00Z, catalog: catalog.yaml}", encoding="utf-8")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each call of metric_values as (quarter, scope)."""
    calls: list[Any] = []

    def metric_values(settings: Any, quarter: Quarter, scope: str | None = None) -> list[dict[str, Any]]:
        calls.append((str(quarter), scope))
        return VALUES

    monkeypatch.setattr("analytics.metrics.values.metric_values", metric_values)
    return calls


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words)


# The words


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = (
        "init doctor run pull build verify measure pack deliver metrics explain findings evidence inspect coverage "
        "reprocess sample verify-pack ui"
    )
    assert sorted(main.commands) == sorted(wanted.split())


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_each_command_explains_itself_and_takes_settings_and_debug(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "--settings FILE" in result.output
    assert "--debug" in result.output


@pytest.mark.parametrize(
    "words", [["--settings", "x/other.yaml", "metrics"], ["metrics", "--settings", "x/other.yaml"]]
)
def test_settings_may_stand_before_or_after_the_command(settings: Path, asked: list[Any], words: list[str]) -> None:
    (settings.parent / "x").mkdir()
    (settings.parent / "x" / "other.yaml").write_text("{organization: Acme, now: 2020-04-10T00:00:00Z}")
    assert invoke(*words).exit_code == 0
    assert asked == [("2020-Q1", None)]


def test_the_quarter_defaults_to_the_last_complete_one(settings: Path, asked: list[Any]) -> None:
    invoke("metrics")
    assert asked == [("2026-Q1", None)]


def test_a_cut_off_on_the_boundary_completes_the_quarter_before(settings: Path, asked: list[Any]) -> None:
    settings.write_text("{organization: Acme, now: 2026-04-01T00:00:00Z}")
    invoke("metrics")
    assert asked == [("2026-Q1", None)]


def test_the_quarter_is_cut_in_the_settings_zone(settings: Path, asked: list[Any]) -> None:
    settings.write_text("{organization: Acme, now: 2026-03-31T22:30:00Z, time_zone: Europe/Berlin}")
    invoke("metrics")
    assert asked == [("2026-Q1", None)]


@pytest.mark.parametrize("quarter", ["2026", "2026-Q5", "Q1", "2026-Q1; x", ""])
def test_a_word_that_is_no_quarter_exits_2(settings: Path, quarter: str) -> None:
    result = invoke("metrics", "--quarter", quarter)
    assert result.exit_code == 2
    assert "is not a quarter" in result.stderr
    assert "2026-Q3" in result.stderr


def test_a_quarter_that_has_not_begun_exits_2(settings: Path, asked: list[Any]) -> None:
    result = invoke("metrics", "--quarter", "2026-Q3")
    assert (result.exit_code, asked) == (2, [])
    assert "2026-Q2" in result.stderr


def test_the_quarter_in_progress_may_be_asked_for(settings: Path, asked: list[Any]) -> None:
    assert invoke("metrics", "--quarter", "2026-q2").exit_code == 0
    assert asked == [("2026-Q2", None)]


def test_an_unknown_command_exits_2_with_the_nearest(settings: Path) -> None:
    result = invoke("metrcs")
    assert result.exit_code == 2
    assert "metrics" in result.stderr


# Errors


def test_missing_settings_exit_2_and_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("metrics")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: quarterdeck.yaml: cannot be read")
    assert "quarterdeck init" in result.stderr


def test_a_wrong_key_exits_2_with_line_and_nearest_key(settings: Path) -> None:
    settings.write_text("organization: Acme\ntime_zon: UTC\n")
    result = invoke("coverage")
    assert result.exit_code == 2
    assert "quarterdeck.yaml:2" in result.stderr
    assert "time_zone" in result.stderr


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def metric_values(*_: Any) -> None:
        raise error

    monkeypatch.setattr("analytics.metrics.values.metric_values", metric_values)


def test_an_error_for_a_reader_exits_with_its_code_and_no_traceback(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, LakeError("nothing measured", where="x.duckdb", fix="Run it."))
    result = invoke("metrics")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: x.duckdb: nothing measured\n  Run it.\n"


def test_an_unexpected_error_is_one_line_and_a_hint(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RuntimeError("first line\nsecond line"))
    result = invoke("metrics")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "second line" not in result.stderr
    assert "unexpected RuntimeError: first line" in result.stderr
    assert "--debug" in result.stderr


@pytest.mark.parametrize("words", [["--debug", "metrics"], ["metrics", "--debug"]])
def test_debug_shows_the_traceback(settings: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    fail_with(monkeypatch, LakeError("nothing measured"))
    result = invoke(*words)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "error: nothing measured" in result.stderr


def test_an_error_cannot_drive_the_terminal(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, LakeError("file \x9b2J\u202e"))
    assert "file \\x9b2J\\u202e" in invoke("metrics").stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")])
def test_an_interrupt_exits_130_and_says_that_it_can_go_on(
    settings: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fail_with(monkeypatch, error)
    result = invoke("metrics")
    assert result.exit_code == 130
    assert "go on" in result.stderr


# Questions


def test_metrics_as_json_prints_json_alone(settings: Path, asked: list[Any]) -> None:
    result = invoke("metrics", "--format", "json", "--scope", "service")
    assert asked == [("2026-Q1", "service")]
    assert json.loads(result.stdout) == VALUES
    assert list(json.loads(result.stdout)[0]) == list(VALUES[0])
    assert result.stderr == ""


def test_metrics_as_csv_neutralise_formulas(settings: Path, asked: list[Any]) -> None:
    assert "'=cmd()" in invoke("metrics", "--format", "csv").stdout


def test_an_unknown_scope_or_format_exits_2(settings: Path) -> None:
    assert invoke("metrics", "--scope", "galaxy").exit_code == 2
    assert invoke("metrics", "--format", "xml").exit_code == 2


def test_an_unknown_metric_exits_2_with_the_nearest(settings: Path) -> None:
    result = invoke("explain", "change_lead_tim")
    assert result.exit_code == 2
    assert "change_lead_time" in result.stderr


def test_service_and_team_exclude_each_other(settings: Path) -> None:
    assert invoke("explain", "change_lead_time", "--service", "a", "--team", "b").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [["--help"], ["metrics"], ["explain", "change_lead_time"], ["coverage"], ["run", "--help"], ["doctor"]],
)
def test_questions_are_answered_without_the_heavy_libraries(settings: Path, words: list[str]) -> None:
    code = (
        "import sys\n"
        "from quarterdeck.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'polars', 'scipy', 'plotly', 'jinja2'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy), file=sys.stderr)"
    )
    repository = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(repository)!r})\n{code}"],
        cwd=settings.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "heavy: []"


def test_a_reader_who_has_seen_enough_ends_it_quietly(settings: Path) -> None:
    repository = Path(__file__).resolve().parents[3]
    words = ["metrics", "--help"]
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from quarterdeck.cli import main; main({words})"
    done = subprocess.run(
        ["bash", "-c", f'exec 3>&1; {sys.executable} -c "{code}" 2>&3 | true; exit ${{PIPESTATUS[1]}}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


# Stages


def test_pull_says_which_source_failed_after_the_rest_is_done(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(settings: Any, only: Any = None, shard: Any = None) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(source="gone", items=0, quarantined=0, resume_at=None, error="./gone: no such folder"),
            SimpleNamespace(source="drops", items=5, quarantined=1, resume_at=None, error=None),
        ]

    monkeypatch.setattr("analytics.landing.pull.pull", pull)
    result = invoke("pull")
    assert result.exit_code == 1
    assert "error: source gone: ./gone: no such folder" in result.stderr
    assert "drops" in result.stdout


def test_pack_prints_its_folder_alone(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_pack(settings: Any, quarter: Quarter) -> SimpleNamespace:
        return SimpleNamespace(path=settings.packs_dir / str(quarter), unchanged=False, pack_id="x", revision=0)

    monkeypatch.setattr("reports.pack.make_pack", make_pack)
    result = invoke("pack")
    assert result.stdout == f"{settings.parent}/quarterdeck-data/packs/2026-Q1\n"


def verified(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    known = {"ok": True, "problems": (), "pack_id": "abc", "signature": "none", "files": 3}
    monkeypatch.setattr("reports.manifest.verify_pack", lambda folder, *_: SimpleNamespace(**{**known, **fields}))


def test_verify_pack_says_ok_with_the_packs_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified(monkeypatch)
    result = invoke("verify-pack", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout == "ok: pack abc; files: 3; signature: none\n"


def test_verify_pack_exits_1_with_each_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified(monkeypatch, ok=False, problems=("index.html: changed", "x.csv: missing"))
    result = invoke("verify-pack", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["index.html: changed", "x.csv: missing"]


def test_verify_pack_of_no_folder_exits_2(tmp_path: Path) -> None:
    assert invoke("verify-pack", str(tmp_path / "nowhere")).exit_code == 2


def test_init_writes_what_doctor_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("init", str(tmp_path / "new")).exit_code == 0
    monkeypatch.chdir(tmp_path / "new")
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert invoke("init").exit_code == 1


def test_doctor_exits_2_when_the_settings_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("init", str(tmp_path / "new")).exit_code == 0
    monkeypatch.chdir(tmp_path / "new")
    with Path("quarterdeck.yaml").open("a", encoding="utf-8") as file:
        file.write("targets: {change_fail_rat: 0.15}\n")
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "targets.change_fail_rat: unknown key" in result.stdout
    assert "'change_fail_rate'" in result.stdout


def test_doctor_exits_1_when_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("init", str(tmp_path / "new")).exit_code == 0
    monkeypatch.chdir(tmp_path / "new")
    Path("feeds").rmdir()
    result = invoke("doctor")
    assert result.exit_code == 1
    assert any(line.startswith("fail") for line in result.stdout.splitlines())
