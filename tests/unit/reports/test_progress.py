from __future__ import annotations

import io
import logging

import pytest

from analytics.progress import LOGGER_NAME, report
from reports.progress import shown_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_one_line_per_step() -> None:
    out = io.StringIO()
    with shown_progress(out):
        report("pull", "reading drops")
        report("build", "facts")
    assert out.getvalue() == "pull: reading drops\nbuild: facts\n"


def test_of_counted_steps_a_log_gets_the_first_and_the_last() -> None:
    out = io.StringIO()
    with shown_progress(out):
        for done in range(1, 1001):
            report("pull", "files", done, 1000)
    lines = out.getvalue().splitlines()
    assert lines[0] == "pull: files (1/1,000)"
    assert lines[-1] == "pull: files (1,000/1,000)"
    assert len(lines) < 100


def test_hostile_names_are_written_out() -> None:
    out = io.StringIO()
    with shown_progress(out):
        report("pull", "file \x1b[2J")
    assert "\x1b" not in out.getvalue()


def test_a_terminal_shows_each_stage_with_its_count() -> None:
    out = Terminal()
    with shown_progress(out):
        report("pull", "[red]files[/red]", 3, 3)
        report("build", "facts")
    text = out.getvalue()
    assert "pull: [red]files[/red] (3/3)" in text
    assert "build: facts" in text


def test_warnings_of_the_stages_are_shown_and_errors_are_left_to_the_command() -> None:
    out = io.StringIO()
    with shown_progress(out):
        logging.getLogger("analytics.sources.files").warning("cannot read %s", "\x1b[2J")
        logging.getLogger("analytics.landing.pull").error("failed")
    assert out.getvalue() == "warning: cannot read \\x1b[2J\n"


def test_a_terminal_shows_warnings_as_text() -> None:
    out = Terminal()
    with shown_progress(out):
        logging.getLogger("analytics.sources.files").warning("cannot read [red]x")
    assert "warning: cannot read [red]x" in out.getvalue()


def test_a_handler_of_the_root_logger_says_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Some libraries call logging.warning(), which gives the root logger a handler on stderr."""
    with shown_progress(io.StringIO()):
        report("pull", "reading drops")
        logging.getLogger("analytics.sources.files").warning("odd")
    assert caplog.records == []


def test_nothing_is_listening_afterwards() -> None:
    logger = logging.getLogger(LOGGER_NAME)
    before = (logger.level, list(logger.handlers))
    with shown_progress(io.StringIO()):
        assert list(logger.handlers) != before[1]
    assert (logger.level, list(logger.handlers)) == before
