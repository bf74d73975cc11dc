"""Reading runs through a service's API: what the commands show when runs go to a service.

Answers are untrusted: whatever breaks a rule of the model is an error, not a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, Final, TypeVar

import httpx

from otel_agent_telemetry.columns import COLUMNS, FILTERABLE_COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import CutOff, Deletion, Marks
from otel_agent_telemetry.delivery.http_calls import delete, get, json_of, service_client, unexpected_answer
from otel_agent_telemetry.errors import ConfigurationError, RecordError, StoreUnavailableError
from otel_agent_telemetry.model import CommitLink, RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.audit_queries import AgentStats, OpenRun, RunFigures
from otel_agent_telemetry.storage.line_digests import LineDigest, LineRange
from otel_agent_telemetry.storage.queries import PLUMBING_HEADER
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.tree_totals import TreeTotals
from otel_agent_telemetry.urls import without_credentials
from otel_agent_telemetry.wire import dumps_text

# The greatest page that the API accepts, hence the fewest requests.
_PAGE: Final = 1000
_RECEIPT: Final = ("event_id", "run_id", "deleted_at", "deleted_by")
_LINK: Final = tuple(field.name for field in fields(CommitLink))
_HASHES: Final = 100
_MAX_LINKS: Final = 10_000
_OK: Final = 200
_FILTERS: Final = (
    *FILTERABLE_COLUMNS,
    "beginning",
    *("created_before", "created_after", "start_time_from", "start_time_to", "received_before", "received_after"),
)
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

    Methods raise StoreUnavailableError when the service cannot be read now or its answer is
    not one of this service, ConfigurationError when it does not accept the token. The token
    goes to that URL only.
    """

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.name = without_credentials(url)
        self._client = service_client(url, config, {b"Accept": b"application/json"})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def runs(self, query: RunQuery) -> Iterator[RunRecord]:
        """Yield the runs that a query asks for, newest first, page by page."""
        filters = self._filters(query)
        items = self._items("/api/v1/runs", {**filters, "limit": str(min(query.limit, _PAGE))})
        for item in islice(items, query.limit):
            yield self._record(item)

    def runs_of_commits(self, hashes: Sequence[str]) -> list[CommitLink]:
        """Return the associations of these commits with runs; a request for some at a time."""
        found: list[CommitLink] = []
        for start in range(0, len(hashes), _HASHES):
            asked = {"commit": ",".join(hashes[start : start + _HASHES]), "limit": str(_MAX_LINKS)}
            answer = self._get("/api/v1/commits", asked)
            if answer.status_code != _OK:
                raise ConfigurationError(
                    f"reading {self.name}: it is older than this version and does not name the runs of commits",
                    hint="Upgrade the service, or run the command on its host.",
                )
            try:
                found += [CommitLink(**{name: item[name] for name in _LINK}) for item in self._list(answer)]
            except (KeyError, TypeError, RecordError):
                raise self._unexpected() from None
        return found

    def hidden(self, query: RunQuery) -> int:
        """Return how many runs of plumbing meet a query's other conditions, as the service counts them."""
        filters = {**self._filters(query), "plumbing": "false", "limit": "1"}
        try:
            return int(self._get("/api/v1/runs", filters).headers.get(PLUMBING_HEADER, "0"))
        except ValueError:
            raise self._unexpected() from None

    def tree(self, event_id: str) -> TreeTotals:
        """Return what a run and the runs inside it used together."""
        item = json_of(self._get(f"/api/v1/runs/{event_id}", {"tree": "true"}), name=self.name)
        try:
            return TreeTotals(**{field.name: item["tree"][field.name] for field in fields(TreeTotals)})
        except (KeyError, TypeError):
            raise self._unexpected() from None

    def _filters(self, query: RunQuery) -> dict[str, str]:
        """Return the parameters of a query but for its number of runs."""
        filters = {name: value for name in _FILTERS if (value := getattr(query, name)) is not None}
        if query.plumbing is not None:
            filters["plumbing"] = "true" if query.plumbing else "false"
        if query.label is not None:
            filters["label"] = "=".join(query.label)
        if query.commits is not None:
            filters["commit"] = ",".join(query.commits)
        return filters

    def _items(self, path: str | None, parameters: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the items of a listing; a page is requested when the one before is used up."""
        while path is not None:
            answer = self._get(path, parameters)
            page = self._list(answer)
            yield from page
            # An empty page ends the listing, whatever its header says.
            path, parameters = self._next_page(answer) if page else None, None

    def named(self, name: str, *, limit: int) -> list[RunRecord]:
        """Return the runs whose event id or run id is exactly this, newest first."""
        # An event id addresses one run; 404 means that it may be a run id.
        answer = self._get(f"/api/v1/runs/{name}") if _is_path_segment(name) else None
        if answer is not None and answer.status_code == _OK:
            return [self._record(json_of(answer, name=self.name))]
        return list(self.runs(RunQuery(run_id=name, limit=limit)))

    def beginning(self, text: str, *, limit: int) -> list[RunRecord]:
        """Return the runs whose event id or run id begins so, newest first."""
        return list(self.runs(RunQuery(beginning=text, limit=limit)))

    def children(self, run_id: str, *, limit: int) -> list[RunRecord]:
        """Return the runs inside a run, oldest first."""
        return list(self.runs(RunQuery(parent_run_id=run_id, limit=limit)))[::-1]

    def delete(self, event_id: str) -> list[Deletion]:
        """Delete a run and the runs inside it; return the receipts, the run's own first, none for an unknown run."""
        answer = delete(self._client, f"/api/v1/runs/{event_id}", name=self.name)
        if answer.status_code != _OK:
            return []
        receipt = json_of(answer, name=self.name)
        try:
            # The service names who deleted once, for all of them.
            inside = [{**one, "deleted_by": receipt["deleted_by"]} for one in receipt["runs_inside"]]
            return [Deletion(**{name: str(one[name]) for name in _RECEIPT}) for one in (receipt, *inside)]
        except (KeyError, TypeError):
            raise self._unexpected() from None

    def figures(self, *, since: str | None, top: int, days: int) -> RunFigures:
        """Return the figures over all runs. Raises ConfigurationError for a service without this call."""
        asked = {"top": str(top), "days": str(days), **({} if since is None else {"since": since})}
        answer = self._get("/api/v1/audit", asked)
        if answer.status_code != _OK:
            raise ConfigurationError(
                f"reading {self.name}: it is older than this version and has no figures",
                hint="Upgrade the service, or run the command on its host.",
            )
        try:
            value = json_of(answer, name=self.name)
            agents = [AgentStats(**agent) for agent in value.pop("agents")]
            still_open = [OpenRun(**run) for run in value.pop("open")]
            return RunFigures(**value, agents=agents, open=still_open)
        except (KeyError, TypeError, AttributeError):
            raise self._unexpected() from None

    def day_digests(self, day: str) -> dict[str, tuple[int, str]] | None:
        """Return host → number and digest of its runs on a UTC day; None from a service without this call."""
        answer = self._get("/api/v1/digests", {"day": day})
        if answer.status_code != _OK:
            return None
        try:
            return {
                str(one["host"]): (int(one["runs"]), str(one["digest"]))
                for one in json_of(answer, name=self.name)["hosts"]
            }
        except (KeyError, TypeError, ValueError):
            raise self._unexpected() from None

    def run_digests(self, day: str, host: str) -> Iterator[tuple[str, str, str, int]]:
        """Yield `event_id`, `status`, `updated_at` and digest of each run of a host on a UTC day, page by page."""
        after: int | None = 0
        while after is not None:
            page = json_of(
                self._get("/api/v1/digests/runs", {"day": day, "host": host, "after": str(after)}), name=self.name
            )
            try:
                yield from ((str(one[0]), str(one[1]), str(one[2]), int(one[3])) for one in page["runs"])
                after = page["next"]
            except (KeyError, TypeError, ValueError, IndexError):
                raise self._unexpected() from None

    def line_digests(self, ranges: Sequence[LineRange], *, since: str) -> list[LineDigest] | None:
        """Return the digest of each range of a writer's lines, of a time from `since` on; None without this call."""
        words = " ".join(f"{one.writer} {one.first} {one.last}" for one in ranges)
        answer = self._get("/api/v1/digests/lines", {"ranges": words, "since": since})
        if answer.status_code != _OK:
            return None
        try:
            found = [
                LineDigest(int(events), int(steps), int(digest, 16))
                for events, steps, digest in json_of(answer, name=self.name)["ranges"]
            ]
        except (KeyError, TypeError, ValueError):
            raise self._unexpected() from None
        if len(found) != len(ranges):
            raise self._unexpected()
        return found

    def marks(self) -> Marks:
        """Return the receipts and the cut-offs of the service."""
        marks = Marks()
        after: str | None = ""
        while after is not None:
            page = json_of(self._get("/api/v1/deletions", {"after": after}), name=self.name)
            try:
                for one in page["deleted"]:
                    marks.add(Deletion(**{name: str(one[name]) for name in _RECEIPT}))
                if page["cutoff"] is not None:
                    marks.add(CutOff(cutoff=str(page["cutoff"]), applied_at=""))
                if page.get("parts_cutoff") is not None:  # a service of an earlier version has none
                    marks.parts_cutoff = str(page["parts_cutoff"])
                after = page["next"]
            except (KeyError, TypeError):
                raise self._unexpected() from None
        return marks

    def events(self, event_id: str) -> list[RunEvent]:
        """Return a run's events that the service has."""
        return [self._made(RunEvent, item) for item in self._items(f"/api/v1/runs/{event_id}/events")]

    def spans(self, event_id: str) -> list[RunSpan]:
        """Return a run's steps that the service has."""
        return [self._made(RunSpan, item) for item in self._items(f"/api/v1/runs/{event_id}/spans")]

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> httpx.Response:
        """Return the answer to one request, see `http_calls.get`."""
        return get(self._client, path, name=self.name, parameters=parameters)

    def _next_page(self, answer: httpx.Response) -> str | None:
        """Return the path that the `Link` header names, None on the last page."""
        link = answer.links.get("next", {}).get("url")
        # An absolute URL would send our token to another host.
        if link is not None and (not link.startswith("/") or link.startswith("//")):
            raise self._unexpected()
        return link

    def _list(self, answer: httpx.Response) -> list[dict[str, Any]]:
        """Return the objects of a page. Raises StoreUnavailableError for anything else."""
        value = json_of(answer, name=self.name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._unexpected()
        return value

    def _record(self, item: Any) -> RunRecord:
        """Return the run of an object. Raises StoreUnavailableError when it breaks a rule of the model."""
        try:
            values = {name: item[name] for name in COLUMNS if item.get(name) is not None}
            return RunRecord.from_fields(
                {name: dumps_text(value) if name in JSON_COLUMNS else value for name, value in values.items()}
            )
        except (RecordError, AttributeError, TypeError):
            raise self._unexpected() from None

    def _made(self, kind: type[T], item: Mapping[str, Any]) -> T:
        """Return an event or a step of an object; members that are not known here are ignored.

        Raises StoreUnavailableError when a member is missing or of another type.
        """
        known = [(field.name, _MEMBERS[str(field.type)]) for field in fields(kind) if field.name in item]
        if not all(isinstance(item[name], allowed) for name, allowed in known):
            raise self._unexpected()
        try:
            return kind(**{name: item[name] for name, _ in known})
        except TypeError:  # a member is missing
            raise self._unexpected() from None

    def _unexpected(self) -> StoreUnavailableError:
        """Return the error for an answer that this service would not give."""
        return unexpected_answer(self.name)


def _is_path_segment(name: str) -> bool:
    """Return whether an id can be put into a path as it is; other ids are searched as a filter."""
    return bool(name) and all(character.isalnum() or character == "-" for character in name) and name.isascii()
