"""Write the lists of columns that cannot be computed: run it with `make columns`.

Type checkers need the fields of `RunRecord` and of `RunSettings` in the source, and readers a
page. Each list stands between two markers in its file and is written from `columns.TABLE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_agent_telemetry.columns import FALLBACKS, INTEGER_COLUMNS, TABLE, Column, Kind

ROOT: Final = Path(__file__).parents[1]
_MARKED: Final = re.compile(r"(--- columns, written by [^\n]*\n).*?([^\n]*--- end of columns)", re.DOTALL)
_POSITIONAL: Final = ("agent_name", "job_type", "trigger_type")
_ARGUMENT: Final[dict[Kind, str]] = {
    "count": "int | None",
    "amount": "float | None",
    "json": "Mapping[str, Any] | str | None",
    "commit_source": "CommitSource | None",
}
_SHOWN: Final[dict[Kind, str]] = {
    "text": "text",
    "time": "time, ISO 8601 in UTC",
    "count": "integer ≥ 0",
    "number": "integer ≥ 0",
    "amount": "number ≥ 0",
    "flag": "boolean",
    "json": "JSON",
    "uuid": "UUID",
    "hex": "hex digits",
    "run_id": "run id",
    "status": "status",
    "commit_source": "text",
}


def record_field(column: Column) -> str:
    """Return the line of a column in `RunRecord`."""
    kinds: dict[Kind, str] = {"status": "RunStatus", "amount": "float"}
    kind = "int" if column.name in INTEGER_COLUMNS else kinds.get(column.kind, "str")
    if not column.nullable:
        default = "" if column.default is None else f" = {_literal(column.default)}"
        return f"    {column.name}: {kind}{default}\n"
    return f"    {column.name}: {kind} | None = None\n"


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def setting(column: Column) -> str:
    """Return the line of a column in `RunSettings`."""
    return f"    {column.name}: {_ARGUMENT.get(column.kind, 'str | None')}\n"


def page_row(column: Column) -> str:
    """Return the row of a column in docs/reference/columns.md."""
    cells = (
        f"`{column.name}`",
        _SHOWN[column.kind] + (f", {column.max_length}" if column.max_length else ""),
        _value_without_one(column),
        *("yes" if flag else "" for flag in (column.settable, column.patchable, column.filterable, column.listed)),
        column.description,
    )
    return f"| {' | '.join(cells)} |\n"


def _value_without_one(column: Column) -> str:
    if column.name in FALLBACKS:
        return " or ".join(f"`{name}`" for name in FALLBACKS[column.name])
    if column.required:
        return "required"
    return "null" if column.default is None else f"`{column.default}`"


def rewritten() -> Iterator[tuple[Path, str]]:
    """Yield each file that holds a list of columns, and its text as it should be."""
    settings = [column for column in TABLE if column.settable and column.name not in _POSITIONAL]
    lists = {
        "otel_agent_telemetry/model.py": "".join(map(record_field, TABLE)),
        "otel_agent_telemetry/argument_types.py": "".join(map(setting, settings)),
        "docs/reference/columns.md": (
            "| column | type | default | set by name | `PATCH` | filter | values listed | what it is |\n"
            "|---|---|---|---|---|---|---|---|\n" + "".join(map(page_row, TABLE))
        ),
    }
    for name, lines in lists.items():
        path = ROOT / name
        yield path, _MARKED.sub(lambda found, lines=lines: found[1] + lines + found[2], path.read_text("utf-8"))


def main() -> None:
    """Rewrite the lists in place."""
    for path, text in rewritten():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
