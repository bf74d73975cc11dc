"""Durations, times and untrusted text as the command reads and prints them."""

from __future__ import annotations

import time

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.cli.invocation import parse_day, parse_duration_ns, parse_time
from otel_agent_telemetry.cli.output import (
    format_clock,
    format_cost,
    format_count,
    format_duration,
    format_moment,
    format_size,
    printable,
    printable_lines,
    shortened,
)
from otel_agent_telemetry.clock import parse_iso

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2h", 7200), ("1d12h", 129_600), ("0.5m", 30), ("1W", 604_800), (" 250ms ", 0.25), ("0s", 0)],
)
def test_durations_are_read(text, seconds):
    """Numbers with units, added up."""
    assert parse_duration_ns(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2h!", "-2h", "2y", "1e3s", "999999999w"])
def test_what_is_no_duration_is_a_usage_error(text):
    """Nothing is guessed."""
    with pytest.raises(typer.BadParameter):
        parse_duration_ns(text)


def test_moments_are_instants_or_so_long_ago():
    """A zone counts."""
    assert parse_time("2h", 7200 * SECOND) == "1970-01-01T00:00:00.000000+00:00"
    assert parse_time("2026-01-02", 0, utc=True) == "2026-01-02T00:00:00.000000+00:00"
    assert parse_time("2026-01-02T01:00:00+01:00", 0) == "2026-01-02T00:00:00.000000+00:00"
    with pytest.raises(typer.BadParameter):
        parse_time("tomorrow", 0)


@pytest.fixture
def in_berlin(monkeypatch):
    """This machine's zone: an hour ahead of UTC, two in summer."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "is_end", "expected"),
    [
        ("2026-01-02", False, "2026-01-01T23:00:00.000000+00:00"),
        ("2026-01-02", True, "2026-01-02T22:59:59.999999+00:00"),
        ("2026-07-02 08:00", True, "2026-07-02T06:00:00.000000+00:00"),
        ("2026-07-02T08:00:00Z", True, "2026-07-02T08:00:00.000000+00:00"),
        ("2026-03-29", True, "2026-03-29T21:59:59.999999+00:00"),
        ("today", False, "2026-11-27T23:00:00.000000+00:00"),
        ("Yesterday", False, "2026-11-26T23:00:00.000000+00:00"),
        ("yesterday", True, "2026-11-27T22:59:59.999999+00:00"),
    ],
)
@pytest.mark.usefixtures("in_berlin")
def test_days_and_times_without_a_zone_are_those_of_this_machine(text, is_end, expected):
    """A day means its end where it ends a time; the day on which summer time begins has 23 hours."""
    assert parse_time(text, parse_iso("2026-11-27T23:30:00Z"), is_end=is_end) == expected


@pytest.mark.usefixtures("in_berlin")
def test_a_day_of_utc_is_read_and_printed_as_such_when_asked_for():
    """`--utc`: what a colleague in another zone reads, too."""
    assert parse_time("2026-01-02", 0, is_end=True, utc=True) == "2026-01-02T23:59:59.999999+00:00"
    assert format_moment("2026-01-02T12:00:00Z", utc=False) == "2026-01-02 13:00:00 +01:00"
    assert format_moment("2026-01-02T12:00:00Z", utc=True) == "2026-01-02 12:00:00 UTC"
    assert format_clock("2026-07-02T12:00:00.1239Z", utc=False) == "14:00:00.123"
    assert (format_moment("soon\x1b", utc=True), format_clock("", utc=True)) == ("soon\\x1b", "")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10.0k"), (999_949, "999.9k"), (999_950, "1.0M"), (7_300_000_000, "7.3G")],
)
def test_counts_take_six_characters(number, expected):
    """No exponent, and no `1000.0k`."""
    assert format_count(number) == expected


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [
        (0.0, "$0.00"),
        (0.00000123, "$0.0000012"),
        (0.0806, "$0.081"),
        (0.0999, "$0.10"),
        (12.4, "$12.40"),
        (1234.5, "$1,234"),
    ],
)
def test_costs_have_two_digits_that_count(dollars, expected):
    """A call costs a ten-thousandth of a dollar, a week thousands."""
    assert format_cost(dollars) == expected


@pytest.mark.parametrize(
    "text", ["2026-13-01", "20260230", "x", "", "2026-1-1", "\u0662\u0660\u0662\u0666\u0660\u0661\u0660\u0661"]
)
def test_what_is_no_day_is_a_usage_error(text):
    """A day of the journal must be one."""
    with pytest.raises(typer.BadParameter):
        parse_day(text)


def test_days_are_written_either_way():
    """With or without dashes."""
    assert parse_day("2026-01-02") == parse_day("20260102") == "20260102"


def test_durations_and_sizes_read_well():
    """The largest two units."""
    shown = [format_duration(ms) for ms in (0, 999, 12_340, 60_000, 307_000, 3_600_000, 12_000_000, 183_600_000)]
    assert shown == ["0 ms", "999 ms", "12.3 s", "1m 00s", "5m 07s", "1h 00m", "3h 20m", "2d 03h"]
    assert [format_size(n) for n in (0, 1023, 1536, 1 << 30)] == ["0 B", "1023 B", "1.5 KiB", "1.0 GiB"]


@given(st.text())
def test_printable_text_holds_no_control_or_format_character(text):
    """Whatever comes in, one line of visible characters comes out; plain text is left as it is."""
    import unicodedata

    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    if text.isascii() and text.isprintable():
        assert shown == text


def test_lines_and_widths():
    """A text of several lines keeps them, each printable; a long one is cut with a sign."""
    assert printable_lines("a\n\x1b[2Jb\r\n\tc") == ["a", "\\x1b[2Jb", "    c"]
    assert shortened("abcdef", 4) == "abc…"
