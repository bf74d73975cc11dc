"""`runs` on a terminal: one line a run at every width, and what a line says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from stored import aged

from otel_agent_telemetry.cli.output import cells_of
from otel_agent_telemetry.cli.run_table import print_runs, short_id

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVENT_ID = "517a28ca-7700-88e5-a8bf-0c3406f25c72"
RUN = replace(
    aged(1, 1),
    event_id=EVENT_ID,
    run_id="20261128T115016Z-repository_guide-517a28ca",
    start_time="2026-11-28T11:50:16.390379+00:00",
    agent_name="repository_guide_of_a_team_with_a_very_long_name",
    job_type="invoke_agent repository_guide",
    status="failed",
    duration_ms=307,
    error_summary="RuntimeError: the model answered 529: overloaded, try again later, or ask another one",
    model="gpt-4.1-mini",
    input_tokens=152_000,
    output_tokens=123,
    cost_usd=0.0612,
)
QUIET = replace(
    RUN,
    run_id="mine",
    start_time="2026-11-03T11:50:16+00:00",
    status="success",
    error_summary=None,
    item_name="orders.csv",
    input_tokens=0,
    output_tokens=0,
    cost_usd=None,
)


def printed(capsys, *runs, width):
    print_runs(runs, width=width, utc=True, now=NOW)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [72, 80, 110, 140, 300])
def test_a_run_is_one_line_that_fits(capsys, width):
    """Whatever its names and errors are; cost, tokens and id are never cut."""
    heading, failed, quiet = printed(capsys, RUN, QUIET, width=width)
    assert max(map(len, (heading, failed, quiet))) <= width
    assert failed.split()[-3:] == ["152.1k", "$0.061", "517a28ca"]
    assert quiet.split()[-3:] == ["-", "-", "mine"]
    assert "RuntimeErr" in failed
    assert "orders.csv" in quiet


def test_eighty_columns_have_the_time_of_today_and_the_day_of_an_earlier_one(capsys):
    """Wide terminals have both, and the model."""
    _, today, earlier = printed(capsys, RUN, QUIET, width=80)
    assert (today.split()[0], earlier.split()[:2]) == ("11:50", ["03", "Nov"])
    heading, wide, _ = printed(capsys, RUN, QUIET, width=140)
    assert wide.startswith("2026-11-28 11:50:16 ")
    assert "MODEL" in heading
    assert "gpt-4.1-mini" in wide


@pytest.mark.parametrize(
    ("run_id", "expected"),
    [("20261128T115016Z-a-517a28ca", "517a28ca"), ("nightly-42", "nightly-42"), ("x" * 40, "x" * 15 + "…")],
)
def test_the_short_id_is_one_that_show_finds(run_id, expected):
    """An id that the application gave is what its users know."""
    assert short_id(run_id, EVENT_ID) == expected


def test_control_characters_of_names_are_printed_as_escapes(capsys):
    """Names come from anyone."""
    (_, line) = printed(capsys, replace(QUIET, agent_name="a\x1b[2J", item_name="b\nc"), width=140)
    assert "a\\x1b[2J" in line
    assert "b\\nc" in line


@pytest.mark.parametrize("name", ["写代码的智能体写代码的智能体", "🔥🚀" * 20, "e\u0301" * 60])
def test_wide_characters_do_not_break_a_line(capsys, name):
    """Terminals give Chinese and emoji two cells, and accents none of their own."""
    lines = printed(capsys, replace(RUN, agent_name=name, model=name), replace(QUIET, item_name=name), width=80)
    assert max(map(cells_of, lines)) <= 80
    assert {lines[1].rindex("517a28ca") + cells_of(lines[1]) - len(lines[1])} == {lines[0].rindex("ID")}
