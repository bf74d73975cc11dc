"""The table of columns, and what follows from it."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
from on_disk import ROOT

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
from otel_agent_telemetry.storage.queries import RunQuery
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
