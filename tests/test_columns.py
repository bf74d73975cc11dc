"""The table of columns, and what follows from it."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import get_args, get_type_hints
from uuid import UUID

import pytest
from on_disk import ROOT

from otel_agent_telemetry.column_checks import clamp
from otel_agent_telemetry.columns import (
    COLUMNS,
    COMMIT_COLUMNS,
    FILTERABLE_COLUMNS,
    POSTING_COLUMNS,
    TABLE,
    Column,
    Kind,
)
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.service.routes_read import RunFilters
from otel_agent_telemetry.storage.run_filters import RunQuery
from scripts.write_columns import rewritten


def test_the_written_lists_follow_the_table() -> None:
    """`make columns` would change nothing: RunRecord, RunSettings and the page are up to date."""
    stale = [str(path.relative_to(ROOT)) for path, text in rewritten() if path.read_text("utf-8") != text]
    assert not stale, f"run `make columns`: {stale} differ from columns.TABLE"
    assert tuple(field.name for field in fields(RunRecord)) == COLUMNS


def test_the_groups_of_columns_are_in_the_table() -> None:
    """No group names a column that is not there, and no name stands twice."""
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert {*COMMIT_COLUMNS, *POSTING_COLUMNS} <= {*COLUMNS}
    assert {column.kind for column in TABLE} == {*get_args(Kind)}


@pytest.mark.parametrize("filters", [RunQuery, RunFilters])
def test_every_filterable_column_can_be_asked_for(filters: type) -> None:
    """By the query of the storage and by that of the service."""
    assert {*FILTERABLE_COLUMNS} <= {*get_type_hints(filters)}


def test_a_nullable_column_has_no_default() -> None:
    """None is what stands for "not known", zero for "none"."""
    assert Column("a", "text", "A.").nullable
    assert not Column("a", "count", "A.", default=0).nullable
    assert not Column("a", "text", "A.", required=True).nullable


class Colour(Enum):
    RED = "red"
    SEVEN = 7


class Word(str, Enum):  # noqa: UP042 - as applications have them
    RED = "red"


@pytest.mark.parametrize(
    ("column", "given", "meant"),
    [
        ("items_failed", Decimal("7.0"), 7),
        ("items_failed", Decimal("7E1"), 70),
        ("items_failed", Fraction(14, 2), 7),
        ("items_failed", "7", 7),
        ("items_failed", " 07 ", 7),
        ("items_failed", 7.0, 7),
        ("items_failed", Colour.SEVEN, 7),
        ("product", Colour.RED, "red"),
        ("product", Word.RED, "red"),
        ("product", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("parent_run_id", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_values_of_other_types_are_taken_for_what_they_are(column, given, meant):
    """Whole numbers of any type and digits are counts; members of an Enum and UUIDs are texts."""
    problems = []
    assert clamp({column: given}, problems) == {column: meant}
    assert not problems


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ("items_failed", Decimal("7.5")),
        ("items_failed", Decimal("NaN")),
        ("items_failed", Decimal("Infinity")),
        ("items_failed", Decimal(-1)),
        ("items_failed", Fraction(1, 2)),
        ("items_failed", "-7"),
        ("items_failed", "seven"),
        ("items_failed", "\u0667"),
        ("items_failed", "9" * 5000),
        ("items_failed", Colour.RED),
        ("product", Colour.SEVEN),
    ],
)
def test_values_that_mean_nothing_for_their_column_are_left_out(column, given):
    """Each with one sentence."""
    problems = []
    assert clamp({column: given}, problems) == {}
    assert len(problems) == 1
