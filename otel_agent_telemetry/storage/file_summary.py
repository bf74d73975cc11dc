"""What a SQLite file of ours holds, after every page of it has been checked. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.database_file import reading_file
from otel_agent_telemetry.storage.schema import VERSION_TABLE, database_state

_DAMAGED_HINT: Final = "Keep it, and take another backup, or rebuild the runs with `agent-telemetry replay`."


class DamagedError(SchemaError):
    """A database of ours whose pages are not sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseContents:
    """A sound database of ours. `tables` are rows by table, times those of `created_at`."""

    path: Path
    bytes: int
    revision: str
    tables: dict[str, int]
    runs: int
    oldest: str | None
    newest: str | None
    newest_run_id: str | None
    counts_agree: bool
    """Whether the counts kept beside the runs are those of the runs."""


def read_contents(config: TelemetryConfig, path: Path) -> DatabaseContents:
    """The contents of a file, read from its first page to its last.

    Raises SchemaError when it is damaged, empty, another application's, or newer than this
    code, and StoreUnavailableError when it cannot be read now.
    """
    with reading_file(config, path, "checking") as connection:
        refuse_damaged(connection, path)
        state = database_state(connection)
        if state == "empty":
            raise SchemaError(f"checking {path}: it holds no tables", hint="It is no backup of ours.")
        revision = "7" if state == "version_7" else _text(connection, f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
        tables = row_counts(connection)
        ends = connection.exec_driver_sql("SELECT min(created_at), max(created_at) FROM agent_runs").one()
        newest = connection.exec_driver_sql("SELECT * FROM agent_runs ORDER BY created_at DESC LIMIT 1").mappings()
        return DatabaseContents(
            path=path,
            bytes=path.stat().st_size,
            revision=revision,
            tables=tables,
            runs=tables["agent_runs"],
            oldest=ends[0],
            newest=ends[1],
            newest_run_id=next((str(row["run_id"]) for row in newest), None),
            counts_agree="run_counts" not in tables or not check_counts(connection),
        )


def refuse_damaged(connection: Connection, path: Path) -> None:
    """Raise DamagedError when a page, an index or a value is not as it should be. Reads all of the file."""
    (said,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").one()
    if said != "ok":
        raise DamagedError(f"checking {path}: it is damaged: {str(said).splitlines()[0][:200]}", hint=_DAMAGED_HINT)


def row_counts(connection: Connection) -> dict[str, int]:
    """Table → rows, of every table."""
    quote = connection.dialect.identifier_preparer.quote
    return {
        name: int(_text(connection, f"SELECT count(*) FROM {quote(name)}"))  # noqa: S608 - quoted
        for name in sorted(inspect(connection).get_table_names())
    }


def _text(connection: Connection, query: str) -> str:
    return str(connection.exec_driver_sql(query).scalar_one())
