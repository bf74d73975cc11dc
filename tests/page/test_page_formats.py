"""Figures and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from otel_agent_telemetry.page import formats

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, formats.NOTHING),
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (4240, "4.24 s"),
        (60_000, "1 min"),
        (185_000, "3 min 5 s"),
        (3_600_000, "1 h"),
        (5_460_000, "1 h 31 min"),
        (187_200_000, "2 d 4 h"),
    ],
)
def test_durations_have_their_two_largest_units(milliseconds, text) -> None:
    """Nobody reads hours in milliseconds."""
    assert formats.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (None, formats.NOTHING),
        (0, "$0.00"),
        (0.000069, "$0.000069"),
        (0.00048912, "$0.00049"),
        (0.0099, "$0.0099"),
        (0.01, "$0.01"),
        (1234.5, "$1,234.50"),
        (1e-15, "$0.000000000000"),
        (-0.0005, "$-0.00050"),
    ],
)
def test_costs_are_never_written_with_an_exponent(dollars, text) -> None:
    """`$6.9e-05` is no amount of money."""
    assert formats.cost(dollars) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, formats.NOTHING),
        (0, "0"),
        (999, "999"),
        (1280, "1.28 k"),
        (45_600_000, "45.6 M"),
        (7e9, "7 G"),
        (999_949, "1 M"),
        (999_400, "999 k"),
        (-2_500, "-2.5 k"),
        (3e15, "3,000 T"),
    ],
)
def test_large_counts_are_short(value, text) -> None:
    """Three digits that count, and a unit."""
    assert formats.short_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, formats.NOTHING),
        (512, "512 B"),
        (1_023, "1,023 B"),
        (1_024, "1 KiB"),
        (1_047_552, "1,023 KiB"),
        (3_565_158, "3.4 MiB"),
    ],
)
def test_sizes_are_never_written_with_an_exponent(value, text) -> None:
    """The last KiB before a MiB is no `1.02e+03`."""
    assert formats.bytes_size(value) == text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (None, formats.NOTHING),
        ("no time", formats.NOTHING),
        ("2026-11-28T11:59:48+00:00", "12 s ago"),
        ("2026-11-28T09:00:00", "3 h ago"),
        ("2026-11-28T13:00:00+02:00", "1 h ago"),
        ("2026-09-01T00:00:00+00:00", "2026-09-01"),
        ("2026-11-28T12:00:01+00:00", "in the future"),
    ],
)
def test_times_are_relative_to_now(instant, text) -> None:
    """A time without a zone is UTC; another zone is taken into account."""
    assert formats.relative_time(instant, NOW) == text


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//host/x", "ftp://host/x", "https:", "", None,
     "https://[", "vbscript:x", "/relative"],
)  # fmt: skip
def test_only_web_addresses_become_links(address) -> None:
    """A run may hold any text where an address is meant."""
    assert formats.web_link(address) is None
    assert formats.web_link("https://example.org/a?b=c") == "https://example.org/a?b=c"
