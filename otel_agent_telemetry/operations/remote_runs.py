"""Reading runs through a service's API: what the commands show when runs go to a service.

Answers are untrusted: what is not a run by the rules of the model is an error, not a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, Final, TypeVar

import httpx
import orjson

from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_calls import FAILURES, service_client, told
from otel_agent_telemetry.errors import ConfigurationError, RecordError, StoreUnavailableError
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.queries import RunQuery
from otel_agent_telemetry.urls import without_credentials
from otel_agent_telemetry.wire import dumps_text

_PAGE: Final = 1000
_OK: Final = 200
_NOT_FOUND: Final = 404
_REFUSED: Final = frozenset({401, 403})
_FILTERS: Final = ("agent_name", "status", "job_type", "run_id", "trace_id", "parent_run_id")
_TIMES: Final = ("created_before", "created_after", "start_time_from", "start_time_to")
_MEMBERS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "str": str,
    "str | None": (str, type(None)),
    "int": int,
    "Mapping[str, Any]": dict,
    "Any": object,
}
"""Annotation of a field → what JSON may hold there."""

T = TypeVar("T", RunEvent, RunSpan)


class RemoteRuns:
    """One service's runs. Every method blocks for up to the configured timeout a request.

    Raises StoreUnavailableError when the service cannot be read now or answers what is not
    ours, ConfigurationError when it wants another token. The token goes to that URL only.
    """

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.name = without_credentials(url)
        self._client = service_client(url, config, {b"Accept": b"application/json"})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def runs(self, query: RunQuery) -> Iterator[RunRecord]:
        """The runs that a query asks for, newest first, page by page."""
        asked = {name: value for name in (*_FILTERS, *_TIMES) if (value := getattr(query, name)) is not None}
        items = self._items("/api/v1/runs", {**asked, "limit": str(min(query.limit, _PAGE))})
        for item in islice(items, query.limit):
            yield self._record(item)

    def _items(self, path: str | None, parameters: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """What a listing holds, page by page; a page is asked for when the one before is used up."""
        while path is not None:
            answer = self._get(path, parameters)
            page = self._list(answer)
            yield from page
            path, parameters = self._next_page(answer) if page else None, None

    def named(self, name: str, *, limit: int) -> list[RunRecord]:
        """The runs whose event id or run id is exactly this, newest first."""
        answer = self._get(f"/api/v1/runs/{name}", None) if _is_path_segment(name) else None
        if answer is not None and answer.status_code == _OK:
            return [self._record(self._value(answer))]
        return list(self.runs(RunQuery(run_id=name, limit=limit)))

    def children(self, run_id: str, *, limit: int) -> list[RunRecord]:
        """The runs inside a run, oldest first."""
        return list(self.runs(RunQuery(parent_run_id=run_id, limit=limit)))[::-1]

    def events(self, event_id: str) -> list[RunEvent]:
        """A run's events that the service knows."""
        return [self._made(RunEvent, item) for item in self._items(f"/api/v1/runs/{event_id}/events")]

    def spans(self, event_id: str) -> list[RunSpan]:
        """A run's steps that the service knows."""
        return [self._made(RunSpan, item) for item in self._items(f"/api/v1/runs/{event_id}/spans")]

    def stats(self) -> dict[str, Any]:
        """`GET /metrics`: `{"total_runs", "agents", "recent_24h", …}`, and "statuses" unless the service is older."""
        value = self._value(self._get("/metrics", None))
        if not isinstance(value, dict) or not _has_figures(value):
            raise self._rubbish()
        return value

    def _get(self, path: str, parameters: Mapping[str, str] | None) -> httpx.Response:
        try:
            answer = self._client.get(path, params=parameters)
        except FAILURES as problem:
            raise StoreUnavailableError(
                f"reading {self.name}: {told(problem)}",
                hint="Check TELEMETRY_API_URL and that the service runs; runs recorded meanwhile wait in the buffer.",
            ) from None
        if answer.status_code in _REFUSED:
            raise ConfigurationError(
                f"reading {self.name}: it answered {answer.status_code}",
                hint="Set TELEMETRY_API_AUTH_TOKEN to the service's token.",
            )
        if answer.status_code not in (_OK, _NOT_FOUND):
            raise StoreUnavailableError(f"reading {self.name}: it answered {answer.status_code} {_detail(answer)}")
        return answer

    def _next_page(self, answer: httpx.Response) -> str | None:
        """The path that the `Link` header names; an address elsewhere would be given our token."""
        link = answer.links.get("next", {}).get("url")
        if link is not None and (not link.startswith("/") or link.startswith("//")):
            raise self._rubbish()
        return link

    def _value(self, answer: httpx.Response) -> Any:
        try:
            return orjson.loads(answer.content)
        except ValueError:
            raise self._rubbish() from None

    def _list(self, answer: httpx.Response) -> list[dict[str, Any]]:
        value = self._value(answer)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._rubbish()
        return value

    def _record(self, item: Any) -> RunRecord:
        try:
            values = {name: item[name] for name in COLUMNS if item.get(name) is not None}
            return RunRecord.from_fields(
                {name: dumps_text(value) if name in JSON_COLUMNS else value for name, value in values.items()}
            )
        except (RecordError, AttributeError, TypeError):
            raise self._rubbish() from None

    def _made(self, kind: type[T], item: Mapping[str, Any]) -> T:
        known = [(field.name, _MEMBERS[str(field.type)]) for field in fields(kind) if field.name in item]
        if not all(isinstance(item[name], allowed) for name, allowed in known):
            raise self._rubbish()
        try:
            return kind(**{name: item[name] for name, _ in known})
        except TypeError:  # a member is missing
            raise self._rubbish() from None

    def _rubbish(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"reading {self.name}: its answer is not one of this service", hint="Check TELEMETRY_API_URL."
        )


def _is_path_segment(name: str) -> bool:
    return bool(name) and all(character.isalnum() or character == "-" for character in name) and name.isascii()


def _has_figures(metrics: Mapping[str, Any]) -> bool:
    totals = all(isinstance(metrics.get(name), int) for name in ("total_runs", "recent_24h"))
    return totals and _are_counts(metrics.get("agents")) and _are_counts(metrics.get("statuses", {}))


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(count, int) for count in value.values())


def _detail(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content).get("detail", ""))[:200]
    except (ValueError, AttributeError):
        return ""
