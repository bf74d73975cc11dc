"""Durations, times and untrusted text as the command reads and prints them."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.cli.invocation import parse_day, parse_duration_ns, parse_time
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_size,
    printable,
    printable_lines,
    shortened,
)

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
    """A zone counts; without one it is UTC."""
    assert parse_time("2h", 7200 * SECOND) == "1970-01-01T00:00:00.000000+00:00"
    assert parse_time("2026-01-02", 0) == "2026-01-02T00:00:00.000000+00:00"
    assert parse_time("2026-01-02T01:00:00+01:00", 0) == "2026-01-02T00:00:00.000000+00:00"
    with pytest.raises(typer.BadParameter):
        parse_time("yesterday", 0)


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
