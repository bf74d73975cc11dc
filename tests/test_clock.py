"""The one text form of an instant."""

import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.clock import SystemClock, day_of, iso_utc, normal_iso, parse_iso

FIRST = -62_135_596_800 * 10**9
LAST = 253_402_300_799 * 10**9 + 999_999_999
INSTANTS = st.integers(FIRST, LAST)
ANY_INSTANT = st.integers(-(10**24), 10**24)


@given(INSTANTS)
def test_text_of_an_instant_reads_back_to_the_microsecond(ns: int) -> None:
    """parse_iso undoes iso_utc, up to the nanoseconds that the text does not hold."""
    assert parse_iso(iso_utc(ns)) == ns - ns % 1000


@given(ANY_INSTANT, ANY_INSTANT)
def test_comparing_texts_compares_instants(one: int, other: int) -> None:
    """Texts sort as instants do, clamped ones included, before 1970 too."""
    if one <= other:
        assert iso_utc(one) <= iso_utc(other)
    else:
        assert iso_utc(one) >= iso_utc(other)


@given(ANY_INSTANT)
def test_text_has_a_fixed_width_and_is_a_fixed_point(ns: int) -> None:
    """Every instant has 32 characters in UTC, and normalising the text changes nothing."""
    text = iso_utc(ns)
    assert len(text) == 32
    assert text.endswith("+00:00")
    assert normal_iso(text) == text


@given(INSTANTS)
def test_text_agrees_with_datetime(ns: int) -> None:
    """The text is what datetime makes of the same microseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
    assert iso_utc(ns) == moment.isoformat(timespec="microseconds")


def test_instants_outside_the_calendar_are_clamped() -> None:
    """Year 10000 and the time before year 1 read as the last and the first instant."""
    assert iso_utc(LAST + 1) == "9999-12-31T23:59:59.999999+00:00"
    assert iso_utc(10**30) == "9999-12-31T23:59:59.999999+00:00"
    assert iso_utc(FIRST - 1) == "0001-01-01T00:00:00.000000+00:00"


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_every_zone_reads_as_the_same_instant(moment: datetime, minutes: int) -> None:
    """A zone's offset is taken off; the compact form of an offset means the same."""
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = local.isoformat(timespec="microseconds")
    expected = local.astimezone(UTC).isoformat(timespec="microseconds")
    assert normal_iso(text) == expected
    assert normal_iso(text[:-3] + text[-2:]) == expected


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2025-12-10T12:05:30Z", "2025-12-10T12:05:30.000000+00:00"),
        ("2025-12-10T12:05:30z", "2025-12-10T12:05:30.000000+00:00"),
        (" 2025-12-10T12:05:30 ", "2025-12-10T12:05:30.000000+00:00"),
        ("2025-12-10 12:05:30", "2025-12-10T12:05:30.000000+00:00"),
        ("2025-12-10T12:05", "2025-12-10T12:05:00.000000+00:00"),
        ("2025-12-10", "2025-12-10T00:00:00.000000+00:00"),
        ("2025-12-10T12:05:30.5", "2025-12-10T12:05:30.500000+00:00"),
        ("2025-12-10T12:05:30.1234Z", "2025-12-10T12:05:30.123400+00:00"),
        ("2025-12-10T12:05:30.123456789Z", "2025-12-10T12:05:30.123456+00:00"),
        ("2025-12-10T12:05:30,25+0130", "2025-12-10T10:35:30.250000+00:00"),
        ("2025-12-10t12:05:30-00:30", "2025-12-10T12:35:30.000000+00:00"),
        ("2025-12-10T12:05:30+01:30:15", "2025-12-10T10:35:15.000000+00:00"),
        ("2025-12-10T12:05+0130", "2025-12-10T10:35:00.000000+00:00"),
        ("2025-12-10T12", "2025-12-10T12:00:00.000000+00:00"),
        ("2025-12-10T12Z", "2025-12-10T12:00:00.000000+00:00"),
        ("2025-12-10Z", "2025-12-10T00:00:00.000000+00:00"),
    ],
)
def test_texts_of_other_makers_read_alike_on_every_python(text: str, normal: str) -> None:
    """Fractions of any length, both zone forms, a missing zone and a missing time are read."""
    assert normal_iso(text) == normal


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2025-13-01T00:00:00Z", "12:05:30", "2025-12-10T25:00", "1765368330"]
)
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    """Anything else raises ValueError and nothing else."""
    with pytest.raises(ValueError):
        parse_iso(text)


@pytest.mark.parametrize(
    "text",
    [
        "20260131T120000Z",
        "20260131",
        "2026-01-31T120000",
        "2026-W05-6T12:00:00Z",
        "2026W056",
        "2026-031",
        "2026-01-31 12:00:00+00",
        "2026-01-31T12:00:00+01:75",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:00:00.5",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00.5",
        "2026-01-31T12:00:00.",
        "2026-01-31T12:00:00 Z",
        "2026-01-31_12:00:00",
        "2026-01-31+12:00",
        "2026-01-31T12:00:00ZZ",
        "2026-01-31T12:00:00Z\x00",
        "\u0662026-01-31T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "0000-01-31T12:00:00Z",
    ],
)
def test_what_only_some_pythons_read_is_refused_by_all(text: str) -> None:
    """Forms that `datetime` takes in one version and not in another, and their likes, are no time."""
    with pytest.raises(ValueError):
        parse_iso(text)


@given(st.text(max_size=40))
def test_arbitrary_text_raises_nothing_but_value_error(text: str) -> None:
    """A text from anywhere is a time or a ValueError."""
    try:
        normal_iso(text)
    except ValueError:
        return


def test_day_is_the_utc_day() -> None:
    """The journal's file key changes at midnight UTC."""
    midnight = parse_iso("2025-12-11T00:00:00Z")
    assert (day_of(midnight - 1), day_of(midnight)) == ("20251210", "20251211")


def test_system_clock_reads_the_wall_clock() -> None:
    """SystemClock is time.time_ns."""
    before = time.time_ns()
    assert before <= SystemClock().now_ns() <= time.time_ns()


def test_threads_in_different_seconds_do_not_mix_their_texts() -> None:
    """The cache of the last second never gives one thread another thread's second."""
    wrong: list[str] = []

    def format_many(second: int) -> None:
        expected = iso_utc(second * 10**9)
        wrong.extend(text for _ in range(3000) if (text := iso_utc(second * 10**9)) != expected)

    threads = [threading.Thread(target=format_many, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.integers(min_value=-62_135_596_800, max_value=253_402_300_799))
def test_the_text_of_a_second_is_the_calendars(second):
    """Years 1 to 9999, leap days included: the same text as datetime's."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    assert iso_utc(second * 1_000_000_000)[:19] == expected.isoformat()[:19]


def test_the_text_of_each_day_of_four_centuries():
    """Every day from 1 March 1600 to 28 February 2000, where the rule of leap years has its whole period."""
    day = datetime(1600, 3, 1, tzinfo=UTC)
    for _ in range(146_097):
        assert iso_utc(int(day.timestamp()) * 1_000_000_000)[:10] == day.isoformat()[:10]
        day += timedelta(days=1)
