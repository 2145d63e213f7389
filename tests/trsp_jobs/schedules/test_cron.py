"""Times by cron in a time zone: what clocks that are set do to them, and what cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from trsp_core.errors import InvalidSpec
from trsp_jobs.schedules.cron import PREVIEWED, Cron

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo")


def local(cron: Cron, start: str, count: int) -> list[str]:
    zone = ZoneInfo(cron.zone)
    moment = datetime.fromisoformat(start).replace(tzinfo=zone)
    return [time.astimezone(zone).strftime("%m-%d %H:%M %Z") for time in islice(cron.after(moment), count)]


def test_a_skipped_time_runs_at_the_first_moment_after_the_gap() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    assert local(daily, "2026-03-28 00:00", 3) == ["03-28 02:30 CET", "03-29 03:00 CEST", "03-30 02:30 CEST"]


def test_several_skipped_times_and_the_one_after_the_gap_are_one_run() -> None:
    often = Cron("0,20,40 2,3 * * *", "Europe/Berlin")
    assert local(often, "2026-03-29 00:00", 4) == [
        "03-29 03:00 CEST",
        "03-29 03:20 CEST",
        "03-29 03:40 CEST",
        "03-30 02:00 CEST",
    ]


def test_a_repeated_time_runs_once_the_first_time() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    assert local(daily, "2026-10-24 12:00", 2) == ["10-25 02:30 CEST", "10-26 02:30 CET"]


def test_within_the_repeated_hour_a_daily_time_is_not_repeated() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    second = datetime(2026, 10, 25, 2, 15, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    assert daily.next(second) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_an_hourly_time_runs_in_both_repeated_hours() -> None:
    hourly = Cron("15 * * * *", "Europe/Berlin")
    assert local(hourly, "2026-10-25 01:30", 3) == ["10-25 02:15 CEST", "10-25 02:15 CET", "10-25 03:15 CET"]


def test_times_are_those_of_the_zone() -> None:
    winter = datetime(2026, 1, 5, tzinfo=UTC)
    assert Cron("0 9 * * *", "Asia/Kathmandu").next(winter) == datetime(2026, 1, 5, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "pointer"),
    [
        ("61 * * * *", "UTC", "/cron"),
        ("* * * *", "UTC", "/cron"),
        ("0 * * * * *", "UTC", "/cron"),
        ("@daily", "UTC", "/cron"),
        ("0 0 31 2 *", "UTC", "/cron"),
        ("0 0 * * MON" + " " * 100, "UTC", "/cron"),
        ("0 0 * * *", "Europe/Berlim", "/zone"),
        ("0 0 * * *", "../../etc/passwd", "/zone"),
        ("0 0 * * *", "/etc/localtime", "/zone"),
        ("0 0 * * *", "", "/zone"),
    ],
)
def test_what_cannot_be_read_is_refused_by_field(expression: str, zone: str, pointer: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Cron(expression, zone)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_both_fields_are_told_at_once_and_a_zone_is_suggested() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Cron("nonsense", "europe/berlin")
    assert [problem.pointer for problem in caught.value.problems] == ["/zone", "/cron"]
    assert caught.value.problems[0].suggestion == "Europe/Berlin"


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_read_or_refused(expression: str, zone: str) -> None:
    try:
        Cron(expression, zone)
    except InvalidSpec as error:
        assert {problem.pointer for problem in error.problems} <= {"/cron", "/zone"}


fields = st.tuples(
    st.sampled_from(["*", "*/7", "0", "30", "0,20,40", "59"]),
    st.sampled_from(["*", "*/6", "0", "1", "2", "2,3", "23"]),
    st.sampled_from(["*", "1", "31", "L"]),
    st.sampled_from(["*", "3", "10", "*/2"]),
    st.sampled_from(["*", "0", "SUN", "MON-FRI"]),
).filter(lambda parts: not (parts[2] == "31" and parts[3] == "*/2"))
crons = st.builds(lambda parts, zone: Cron(" ".join(parts), zone), fields, st.sampled_from(ZONES))
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@settings(max_examples=200, deadline=None)
@given(crons, moments)
def test_times_ascend_strictly_and_begin_after_the_moment(cron: Cron, moment: datetime) -> None:
    times = [moment, *cron.preview(moment)]
    assert len(times) == PREVIEWED + 1
    assert all(earlier < later for earlier, later in pairwise(times))


@settings(max_examples=200, deadline=None)
@given(crons, moments)
def test_going_on_from_a_time_gives_the_same_times(cron: Cron, moment: datetime) -> None:
    first, *rest = cron.preview(moment)
    assert cron.preview(first)[: len(rest)] == rest
    assert cron.next(first - timedelta(seconds=1)) == first
