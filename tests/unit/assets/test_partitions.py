from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from analytics.periods import Calendar, Quarter
from analytics.settings import Settings
from assets.partitions import key_of_quarter, quarter_of_key, quarter_partitions


def with_now(settings: Settings, now: str | None, **fields: object) -> Settings:
    fixed = datetime.fromisoformat(now) if now else None
    return settings.model_copy(update={"fixed_now": fixed, **fields})


def quarters(settings: Settings, **kw: object) -> list[str]:
    keys = quarter_partitions(settings, **kw).get_partition_keys()  # type: ignore[arg-type]
    return [str(quarter_of_key(settings.calendar, key)) for key in keys]


@pytest.mark.parametrize("month", [1, 2, 7, 12])
def test_a_key_and_its_quarter_name_each_other(month: int) -> None:
    calendar = Calendar(ZoneInfo("Europe/Berlin"), month)
    for quarter in calendar.quarters_between(Quarter(2024, 1), Quarter(2027, 4)):
        assert quarter_of_key(calendar, key_of_quarter(calendar, quarter)) == quarter


def test_a_key_is_the_quarters_first_day() -> None:
    assert key_of_quarter(Calendar(ZoneInfo("UTC")), Quarter(2026, 3)) == "2026-07-01"


def test_partitions_are_the_eight_quarters_before_the_cut_off_and_the_one_in_progress(settings: Settings) -> None:
    found = quarters(settings)
    assert (found[0], found[-1], len(found)) == ("2024-Q2", "2026-Q2", 9)


@pytest.mark.parametrize("month", range(1, 13))
def test_fiscal_quarters_are_partitions(settings: Settings, month: int) -> None:
    fiscal = with_now(settings, "2026-04-10T00:00:00+00:00", fiscal_year_start_month=month)
    current = fiscal.calendar.quarter_of(fiscal.now())
    assert quarters(fiscal) == [str(current.plus(n)) for n in range(-8, 1)]


def test_windows_begin_at_local_midnight(settings: Settings) -> None:
    window = quarter_partitions(settings).time_window_for_partition_key("2026-01-01")
    assert window.start.astimezone(UTC) == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert window.end.astimezone(UTC) == datetime(2026, 3, 31, 22, tzinfo=UTC)


@pytest.mark.parametrize("now", ["1999-02-01T00:00:00+00:00", "2091-02-01T00:00:00+00:00"])
def test_a_fixed_cut_off_decides_whatever_the_wall_clock_says(settings: Settings, now: str) -> None:
    found = quarters(with_now(settings, now))
    assert (found[-1], len(found)) == (f"{now[:4]}-Q1", 9)


def test_without_a_fixed_cut_off_the_last_partition_is_in_progress(settings: Settings) -> None:
    live = with_now(settings, None)
    assert quarters(live)[-1] == str(live.calendar.quarter_of(live.now()))


def test_data_that_goes_further_back_has_its_partitions(settings: Settings) -> None:
    for quarter in ("2021-Q4", "undated"):
        folder = settings.lake_dir / "run_attempts" / f"quarter={quarter}"
        folder.mkdir(parents=True)
        (folder / "part-0000.parquet").touch()
    assert quarters(settings)[0] == "2021-Q4"


def test_a_quarter_that_is_asked_for_is_a_partition(settings: Settings) -> None:
    assert quarters(settings, including=[Quarter(2019, 2)])[0] == "2019-Q2"
