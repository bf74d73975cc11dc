"""Write the tables of docs/reference/attributes.md that follow from the table of conventions: `make attributes`.

Each stands between two markers: `<!-- NAME, written by make attributes -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.convention import Kind

PAGE: Final = Path(__file__).parents[1] / "docs/reference/attributes.md"
_MARKED: Final = re.compile(r"(<!-- (\w+), written by [^\n]*-->\n\n).*?(\n<!-- end of \w+ -->)", re.DOTALL)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def emitters() -> Iterator[str]:
    """Yield the rows of the table of conventions, with their sources."""
    return _table(
        ("convention, framework or program", "read from"), ((row.name, row.source) for row in names.CONVENTIONS)
    )


def kinds() -> Iterator[str]:
    """Yield which values of an attribute make a span what; `*` is any value."""
    return _table(
        ("attribute", "value, in any case"), ((f"`{name}`", _by_kind(values)) for name, values in names.KINDS.items())
    )


_KIND_WORDS: Final[Mapping[Kind, str]] = {
    names.AGENT: "a run",
    names.CHAIN: "part of an agent's work",
    names.MODEL: "a model call",
    names.TOOL: "a tool call",
}


def _by_kind(values: Mapping[str, Kind]) -> str:
    found = ((_code(word for word, kind in values.items() if kind == one), words) for one, words in _KIND_WORDS.items())
    return "; ".join(f"{code}: {words}" for code, words in found if code)


def words() -> Iterator[str]:
    """Yield the attributes that give names, models, providers and costs, the first that is there."""
    return _table(
        ("read for", "attributes, the first that is there"),
        (
            ("`agent_name`", _code(names.AGENT_NAMES)),
            (
                "`agent_name`, a member of an object",
                _code(f"{name}: {part}" for name, part in names.AGENT_OBJECTS.items()),
            ),
            ("`agent_name`, in the span's name", _code(_names_in_spans())),
            ("`job_type`", _code((names.JOB_TYPE, *names.JOB_TYPES))),
            ("the model", _code(names.MODELS)),
            ("the provider whose price list gives the cost", _code(names.PROVIDERS)),
            ("the cost in US dollars, before any price list", _code(names.COSTS)),
            ("its parts, which are added", _code(names.COST_PARTS)),
            ("the same, a member of an object", _code(f"{name}: {part}" for name, part in names.COST_OBJECTS.items())),
        ),
    )


def _names_in_spans() -> Iterator[str]:
    yield from (f"{word} NAME" for word in names.AGENT_PREFIXES)
    verbs = dict.fromkeys(verb for verbs in names.AGENT_VERBS.values() for verb in verbs)
    yield from (f"NAME.{verb}" for verb in verbs)


def columns() -> Iterator[str]:
    """Yield the attributes of a span or its resource that give columns."""
    return _table(
        ("attribute of span or resource", "column"),
        ((f"`{name}`", f"`{column}`") for name, column in names.CONVENTIONAL_COLUMNS.items()),
    )


def tokens() -> Iterator[str]:
    """Yield the attributes that give figures."""
    objects = {
        figure: [
            f"{name}: {member}"
            for name, members in names.TOKEN_OBJECTS.items()
            for member in members
            if members[member] == figure
        ]
        for figure in names.TOKEN_SPELLINGS
    }
    return _table(
        ("in `metrics_json.gen_ai`", "attributes, the first that is there", "members of objects"),
        ((f"`{name}`", _code(spellings), _code(objects[name])) for name, spellings in names.TOKEN_SPELLINGS.items()),
    )


def content() -> Iterator[str]:
    """Yield the names that hold what was said, and those that do not, by convention."""
    rows = (
        (
            row.name,
            _code((*row.content, *(f"{namespace}.*" for namespace in row.content_namespaces))),
            _code((*row.known, *(f"{namespace}.*" for namespace in (*row.known_namespaces, *row.figures)), *row.urls)),
        )
        for row in names.CONVENTIONS
    )
    return _table(("convention", "content", "no content"), (row for row in rows if any(row[1:])))


def errors() -> Iterator[str]:
    """Yield how exceptions, error codes and messages end that mean a timeout or a cancellation."""
    rows = [row for row in names.CONVENTIONS if row.timeouts or row.cancellations]
    types = {"timeout": [row.timeouts for row in rows], "cancelled": [row.cancellations for row in rows]}
    messages = {
        "timeout": [row.timeout_messages for row in rows],
        "cancelled": [row.cancellation_messages for row in rows],
    }
    return _table(
        ("status", "the type ends with, in any case", "or the message ends with"),
        (
            (
                f"`{status}`",
                _code(word for some in types[status] for word in some),
                _code(word for some in messages[status] for word in some),
            )
            for status in types
        ),
    )


_PARTS: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    part.__name__: part for part in (emitters, errors, kinds, words, columns, tokens, content)
}


def rewritten() -> str:
    """Return the page as it should be."""
    return _MARKED.sub(
        lambda found: found[1] + "\n".join(_PARTS[found[2]]()) + "\n" + found[3], PAGE.read_text("utf-8")
    )


def main() -> None:
    """Rewrite the tables in place."""
    PAGE.write_text(rewritten(), "utf-8")


if __name__ == "__main__":
    main()
