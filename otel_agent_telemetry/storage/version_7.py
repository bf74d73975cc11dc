"""Reading the runs of a schema version 7 database, as it was found in the world.

Its `agent_runs` has our columns without the newest three, but may lack others, have more,
have any primary key, and hold whatever an unchecked writer put there. Nothing is thrown
away: what has no column of ours, or does not fit it, goes under `version_7` in the run's
`context_json`. Of rows with one `event_id` the state that stands is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Table, inspect, text

from otel_agent_telemetry.clock import iso_utc, normal_iso
from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, JSON_COLUMNS, MAX_COUNT, TIME_COLUMNS
from otel_agent_telemetry.run_id import generate_run_id, new_event_id
from otel_agent_telemetry.status import FAILED, canonical_status
from otel_agent_telemetry.storage.rows import Row, storable
from otel_agent_telemetry.storage.run_statements import write_rows
from otel_agent_telemetry.wire import dumps_text

VERSION: Final = 8
_ROWS_AT_A_TIME: Final = 500
_LAST_PLAUSIBLE_SECOND: Final = 10**11
_FIRST_TIMES: Final = ("created_at", "start_time", "updated_at", "end_time")
_LAST_TIMES: Final = ("updated_at", "end_time", "created_at", "start_time")
_START_TIMES: Final = ("start_time", "created_at", "updated_at", "end_time")
_EPOCH: Final = iso_utc(0)

Values = dict[str, Any]


def copy_runs(connection: Connection, table: Table) -> None:
    """Copy every run of `agent_runs` into `table`, in order of insertion, in bounded memory."""
    found = connection.execution_options(stream_results=True).execute(text("SELECT * FROM agent_runs"))
    for part in found.mappings().partitions(_ROWS_AT_A_TIME):
        write_rows(connection, table, [row_of_version_7(dict(row)) for row in part])


def drop_indexes(connection: Connection, table: str) -> None:
    """Remove the indexes that were created on a table, so that their names are free."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for index in inspect(connection).get_indexes(table):
        connection.execute(text(f"DROP INDEX {quote(str(index['name']))}"))


def set_aside(connection: Connection, table: str) -> None:
    """Keep a table of version 7 whose name is needed as `{table}_version_7`."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    drop_indexes(connection, table)
    connection.execute(text(f"ALTER TABLE {quote(table)} RENAME TO {quote(table + '_version_7')}"))


def row_of_version_7(found: Mapping[str, Any]) -> Row:
    """The row of version 8 that keeps all of a row of version 7. Never raises for a value."""
    leftovers = {name: value for name, value in found.items() if name not in COLUMNS and name != "id"}
    values = {name: _fitted(name, found.get(name), leftovers) for name in COLUMNS}
    values["schema_version"] = VERSION
    _complete(values)
    values["context_json"] = _with_leftovers(values["context_json"], leftovers)
    return storable(tuple(values[name] for name in COLUMNS))


def _fitted(name: str, value: Any, leftovers: Values) -> Any:
    """The value as its column holds it; what does not fit is added to `leftovers`."""
    if name in COUNT_COLUMNS or name == "schema_version":
        return _count(name, value, leftovers)
    if name == "api_posted":
        return int(value not in (None, 0, "", "0", "false", "False"))
    if value is None:
        return None
    if name in TIME_COLUMNS:
        return _time(value)
    if name == "status":
        return _status(value, leftovers)
    plain = _text(value)
    return _json(plain) if name in JSON_COLUMNS else plain


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _count(name: str, value: Any, leftovers: Values) -> int:
    try:
        number = 0 if value is None else int(float(value)) if isinstance(value, (str, float)) else int(value)
    except (ValueError, TypeError, OverflowError):
        number = -1
    if 0 <= number <= MAX_COUNT:
        return number
    leftovers[name] = value
    return 0


def _time(value: Any) -> str:
    """Our form of a time; seconds or milliseconds since 1970 are understood, other text stays."""
    if isinstance(value, (int, float)):
        scale = 1e9 if abs(value) < _LAST_PLAUSIBLE_SECOND else 1e6
        return iso_utc(int(value * scale))
    plain = _text(value)
    try:
        return normal_iso(plain)
    except (ValueError, OverflowError):
        return plain


def _status(value: Any, leftovers: Values) -> str:
    word = canonical_status(value)
    if word is None:
        leftovers["status"] = value
    return word or FAILED


def _json(plain: str) -> str | None:
    """JSON text as it is; any other text as a JSON string."""
    try:
        json.loads(plain)
    except (ValueError, RecursionError):
        return dumps_text(plain) if plain else None
    return plain


def _complete(values: Values) -> None:
    """Fill in what every run has now."""
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
    return next((values[name] for name in names if values[name]), _EPOCH)


def _with_leftovers(context: str | None, leftovers: Values) -> str | None:
    kept = {name: value for name, value in leftovers.items() if value is not None}
    if not kept:
        return context
    known = json.loads(context) if context else {}
    if not isinstance(known, dict):
        known = {"context": known}
    return dumps_text({**known, "version_7": {**known.get("version_7", {}), **kept}})
