"""Upgrade the runs of a schema version 7 database, as such databases exist in the field.

Their `agent_runs` has the columns of version 8 without the newest three, but may lack others,
have more, have any primary key, and hold whatever an unchecked writer stored. No value is
lost: one that has no column, or does not fit it, goes under `version_7` in the run's
`context_json`. Of rows with the same `event_id` the greatest state is kept. A UUID among them is
written in lower case, as later states name it; any other text stays as it is, and `id` too.

The columns, their kinds and the order of states are written out here as they are in version 8.
They must not be imported from `columns` or `storage.tables`: those change with later versions,
and this upgrade always writes the table that migration 0008 creates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from otel_agent_telemetry.clock import iso_utc, normal_iso
from otel_agent_telemetry.run_id import generate_run_id, new_event_id
from otel_agent_telemetry.status import FAILED, canonical_status
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.wire import dumps_text

COLUMNS_8: Final = (
    *("event_id", "run_id", "schema_version", "created_at", "updated_at", "start_time", "end_time"),
    *("agent_name", "agent_owner", "job_type", "status", "trigger_type", "product", "product_family"),
    *("platform", "subdomain", "website", "website_section", "item_name", "items_discovered", "items_succeeded"),
    *("items_failed", "items_skipped", "duration_ms", "input_summary", "output_summary", "source_ref"),
    *("target_ref", "error_summary", "error_details", "git_repo", "git_branch", "git_commit_hash"),
    *("git_run_tag", "git_commit_source", "git_commit_author", "git_commit_timestamp", "host", "environment"),
    *("metrics_json", "context_json", "api_posted", "api_posted_at", "api_retry_count", "insight_id"),
    *("parent_run_id", "trace_id", "span_id", "service_name"),
)
"""Every column of `agent_runs` in version 8, but for `id`."""
_COUNTS: Final = frozenset(
    {"items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms", "api_retry_count"}
)
_NUMBERS: Final = _COUNTS | {"schema_version", "api_posted"}
_TIMES: Final = frozenset(
    {"created_at", "updated_at", "start_time", "end_time", "git_commit_timestamp", "api_posted_at"}
)
_JSON: Final = frozenset({"metrics_json", "context_json"})
_NOT_NULL_TEXTS: Final = frozenset(
    {"event_id", "run_id", "created_at", "updated_at", "start_time", "agent_name", "job_type", "status"}
)
_COMMIT: Final = ("git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp")
_POSTING: Final = ("api_posted", "api_posted_at", "api_retry_count")
_COMPARED_LAST: Final = frozenset({"event_id", "status", "updated_at", *_COMMIT, *_POSTING})
_ORDER: Final = (
    *("updated_at", "status"),
    *(name for name in COLUMNS_8 if name not in _COMPARED_LAST),
    *_COMMIT,
)
"""The columns by which two states of one run are compared, after whether they have ended."""
_VERSION: Final = 8
# The greatest integer of SQLite; PostgreSQL's BIGINT has the same.
_MAX_COUNT: Final = 2**63 - 1
_ROWS_AT_A_TIME: Final = 500
# A number below it is in seconds (until the year 5138), one above in milliseconds (since 1973).
_LAST_PLAUSIBLE_SECOND: Final = 10**11
_FIRST_TIMES: Final = ("created_at", "start_time", "updated_at", "end_time")
_LAST_TIMES: Final = ("updated_at", "end_time", "created_at", "start_time")
_START_TIMES: Final = ("start_time", "created_at", "updated_at", "end_time")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EPOCH: Final = iso_utc(0)

Values = dict[str, Any]
Row = tuple[Any, ...]
"""One value for each of `COLUMNS_8`."""


def copy_runs(connection: Connection, table: str) -> list[str]:
    """Copy every run of `agent_runs` into `table`, in order of insertion, 500 rows in memory at a time.

    Returns notes about what is not as it was.
    """
    keeps_ids = _has_usable_ids(connection)
    rows = 0
    found = connection.execution_options(stream_results=True).execute(text("SELECT * FROM agent_runs"))
    for part in found.mappings().partitions(_ROWS_AT_A_TIME):
        rows += len(part)
        ids = [row["id"] if keeps_ids else None for row in part]
        write_rows(connection, table, [row_of_version_7(dict(row)) for row in part], ids)
    stored: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 - a constant
    notes = [] if keeps_ids or not rows else ["the runs have new ids: the old ones were missing, or no unique numbers"]
    if stored < rows:
        notes.append(f"{rows - stored} rows were further states of a run that has a row: its latest state was kept")
    return notes


def _has_usable_ids(connection: Connection) -> bool:
    """Return whether each run has an `id` that the new table can keep: a whole number of its own."""
    if "id" not in {column["name"] for column in inspect(connection).get_columns("agent_runs")}:
        return False
    odd = text("SELECT count(*) - count(DISTINCT CASE WHEN typeof(id) = 'integer' THEN id END) FROM agent_runs")
    return bool(connection.execute(odd).scalar_one() == 0)


def write_rows(connection: Connection, table: str, rows: list[Row], ids: list[int | None]) -> None:
    """Insert rows; of rows with the same `event_id` keep the greatest state and the greatest posting values."""
    upsert, raise_posting = _statements(table)
    connection.exec_driver_sql(upsert, [(number, *row) for number, row in zip(ids, rows, strict=True)])
    places = [COLUMNS_8.index(name) for name in (*_POSTING, "event_id")]
    posted = [tuple(row[place] for place in places) for row in rows if any(row[place] for place in places[:-1])]
    if posted:
        connection.exec_driver_sql(raise_posting, posted)


@lru_cache(maxsize=1)
def _statements(table: str) -> tuple[str, str]:
    """Return the SQLite statements that write a row, and that raise the posting columns of one."""
    changes = [f"{name} = excluded.{name}" for name in COLUMNS_8 if name not in ("event_id", *_POSTING)]
    changes += [f"{name} = {_greatest(f'{table}.{name}', f'excluded.{name}', name)}" for name in _POSTING]
    upsert = (
        f"INSERT INTO {table} (id, {', '.join(COLUMNS_8)}) VALUES (?{', ?' * len(COLUMNS_8)})"  # noqa: S608 - constants
        f" ON CONFLICT (event_id) DO UPDATE SET {', '.join(changes)}"
        f" WHERE {_order_of('excluded')} > {_order_of(table)}"
    )
    raised = ", ".join(f"{name} = {_greatest(name, '?', name)}" for name in _POSTING)
    return upsert, f"UPDATE {table} SET {raised} WHERE event_id = ?"  # noqa: S608 - likewise


def _order_of(side: str) -> str:
    """Return the row value by which states are compared; an empty text and NULL are equal in it."""
    values = (f"{side}.{name}" if name in _NUMBERS else f"coalesce({side}.{name}, '')" for name in _ORDER)
    return f"({side}.status <> 'running', {', '.join(values)})"


def _greatest(old: str, new: str, name: str) -> str:
    """Return the SQL expression for the greater of two values; NULL counts as the smallest."""
    if name in _NUMBERS:
        return f"max({old}, {new})"
    return f"nullif(max(coalesce({old}, ''), coalesce({new}, '')), '')"


def drop_indexes(connection: Connection, table: str) -> None:
    """Remove the indexes that were created on a table, so that their names are free."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for index in inspect(connection).get_indexes(table):
        connection.execute(text(f"DROP INDEX {quote(str(index['name']))}"))


def set_aside(connection: Connection, table: str) -> None:
    """Keep a table of version 7 whose name is needed as `{table}_version_7`; views and triggers of others follow it."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    drop_indexes(connection, table)
    rename = text(f"ALTER TABLE {quote(table)} RENAME TO {quote(table + '_version_7')}")
    try:
        connection.execute(rename)
    except OperationalError:
        # SQLite renames nothing while any view or trigger names a table that is gone, unless it looks at none of them.
        connection.execute(text("PRAGMA legacy_alter_table=ON"))
        connection.execute(rename)
        connection.execute(text("PRAGMA legacy_alter_table=OFF"))


def row_of_version_7(found: Mapping[str, Any]) -> Row:
    """Return the row of version 8 that keeps all of a row of version 7. Raises for no value."""
    leftovers = {name: value for name, value in found.items() if name not in COLUMNS_8 and name != "id"}
    values = {name: _fitted(name, found.get(name), leftovers) for name in COLUMNS_8}
    values["schema_version"] = _VERSION
    _complete(values)
    values["context_json"] = _with_leftovers(values["context_json"], leftovers)
    return tuple(_storable(name, values[name]) for name in COLUMNS_8)


def _storable(name: str, value: Any) -> Any:
    """Return a value as the new schema stores it: an empty text is NULL where NULL is allowed."""
    return None if value == "" and name not in _NOT_NULL_TEXTS else clean_text(value)


def _fitted(name: str, value: Any, leftovers: Values) -> Any:
    """Return the value as its column holds it; add what does not fit to `leftovers`."""
    if name in _COUNTS or name == "schema_version":
        return _count(name, value, leftovers)
    if name == "api_posted":
        return int(value not in (None, 0, "", "0", "false", "False"))
    if value is None:
        return None
    if name in _TIMES:
        return time_of_version_7(value)
    if name == "status":
        return _status(value, leftovers)
    plain = event_id_of_version_7(value) if name == "event_id" else text_of(value)
    return json_of_version_7(plain) if name in _JSON else plain


def event_id_of_version_7(value: Any) -> str:
    """Return an `event_id` as later states name it: a UUID in lower case, any other text unchanged."""
    plain = text_of(value)
    return plain.lower() if _UUID.fullmatch(plain) else plain


def text_of(value: Any) -> str:
    """Return a value of any SQLite type as text."""
    # A column of SQLite holds values of any type, whatever its declaration says.
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _count(name: str, value: Any, leftovers: Values) -> int:
    """Return a count; a value that is none becomes 0 and is kept among the leftovers."""
    try:
        number = 0 if value is None else int(float(value)) if isinstance(value, (str, float)) else int(value)
    except (ValueError, TypeError, OverflowError):
        number = -1
    if 0 <= number <= _MAX_COUNT:
        return number
    leftovers[name] = value
    return 0


def time_of_version_7(value: Any) -> str:
    """Return ISO 8601 in UTC; numbers are seconds or milliseconds since 1970, unreadable text stays as it is."""
    if isinstance(value, (int, float)):
        scale = 1e9 if abs(value) < _LAST_PLAUSIBLE_SECOND else 1e6
        return iso_utc(int(value * scale))
    plain = text_of(value)
    try:
        return normal_iso(plain)
    except (ValueError, OverflowError):
        return plain


def _status(value: Any, leftovers: Values) -> str:
    """Return the status; an unknown word becomes `failed` and is kept among the leftovers."""
    # Not refused: one row with an odd word must not keep the whole database from being upgraded.
    word = canonical_status(value)
    if word is None:
        leftovers["status"] = value
    return word or FAILED


def json_of_version_7(plain: str) -> str | None:
    """Return JSON text unchanged, and any other text as a JSON string."""
    try:
        json.loads(plain)
    except (ValueError, RecursionError):
        return dumps_text(plain) if plain else None
    return plain


def _complete(values: Values) -> None:
    """Fill the columns that version 8 requires."""
    first = _first_of(values, _FIRST_TIMES)
    last = _first_of(values, _LAST_TIMES)
    start = _first_of(values, _START_TIMES)
    values["created_at"], values["updated_at"], values["start_time"] = first, last, start
    values["agent_name"] = values["agent_name"] or "unknown"
    values["job_type"] = values["job_type"] or "unknown"
    values["status"] = values["status"] or FAILED
    values["event_id"] = values["event_id"] or new_event_id()
    values["run_id"] = values["run_id"] or generate_run_id(values["agent_name"])


def _first_of(values: Values, names: tuple[str, ...]) -> str:
    """Return the first of these values that is set; the epoch when none is."""
    return next((values[name] for name in names if values[name]), _EPOCH)


def _with_leftovers(context: str | None, leftovers: Values) -> str | None:
    """Return the context with the values for which the new schema has no column, under `version_7`."""
    kept = {name: value for name, value in leftovers.items() if value is not None}
    if not kept:
        return context
    known = json.loads(context) if context else {}
    if not isinstance(known, dict):
        known = {"context": known}
    return dumps_text({**known, "version_7": {**known.get("version_7", {}), **kept}})
