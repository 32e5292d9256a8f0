"""Times are read as people write them, and kept as whole seconds of UTC."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnguard._base.times import now, seconds_of, time_of, to_utc
from nnguard.errors import ArgumentError

UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-12-31", datetime(2027, 12, 31, tzinfo=UTC)),
        ("2027-12-31T18:00", datetime(2027, 12, 31, 18, tzinfo=UTC)),
        ("2027-12-31T18:00Z", datetime(2027, 12, 31, 18, tzinfo=UTC)),
        ("2027-12-31 18:00:05z", datetime(2027, 12, 31, 18, 0, 5, tzinfo=UTC)),
        ("2027-12-31T18:00:05.999999Z", datetime(2027, 12, 31, 18, 0, 5, tzinfo=UTC)),
        ("2027-12-31T18:00+01:00", datetime(2027, 12, 31, 17, tzinfo=UTC)),
        ("2028-01-01T00:30-05:30", datetime(2028, 1, 1, 6, tzinfo=UTC)),
    ],
)
def test_text_is_read(text: str, expected: datetime) -> None:
    assert to_utc(text) == expected
    assert to_utc(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "Z", "tomorrow", "2027-13-01", "31.12.2027", "2027-12-31T25:00Z", "1800000000x"]
)
def test_what_is_not_a_time_is_named(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"expires_at: .* is not a date or time") as caught:
        to_utc(text, "expires_at")
    assert "2027-12-31" in caught.value.hint


def test_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"issued_at: .* has no time zone"):
        to_utc(datetime(2027, 12, 31), "issued_at")


@pytest.mark.parametrize("time", [None, 5, date(2027, 12, 31), b"2027-12-31"])
def test_another_type_is_named(time: Any) -> None:
    with pytest.raises(TypeError, match="now: expected a datetime or ISO 8601 text, not"):
        to_utc(time, "now")


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))),
        "0001-01-01T00:00+01:00",
    ],
)
def test_times_beyond_the_calendar_are_refused(time: Any) -> None:
    with pytest.raises(ArgumentError, match="too far out"):
        to_utc(time)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()))
def test_seconds_and_text_come_back(time: datetime) -> None:
    whole = to_utc(time)
    assert timedelta(0) <= time - whole < timedelta(seconds=1)
    assert time_of(seconds_of(time)) == whole
    assert to_utc(whole.isoformat()) == whole


def test_times_are_whole_seconds_of_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert seconds_of(datetime(1970, 1, 1, 1, 0, 5, 999_999, berlin)) == 5
    assert time_of(5) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert now().microsecond == 0
    assert now().tzinfo is UTC


@pytest.mark.parametrize("seconds", [None, "5", 5.0, True, 1 << 40, 1 << 70, -(1 << 70)])
def test_what_is_not_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ArgumentError, match="time"):
        time_of(seconds)
