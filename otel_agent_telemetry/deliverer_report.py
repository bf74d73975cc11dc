"""What a deliverer says of itself with each request to `POST /api/v1/records`, as headers.

Deliverer-Host, Deliverer-Base-Dir, Deliverer-Version      texts, percent-encoded UTF-8
Deliverer-Oldest-Unsent                                    a time, left out when nothing waits
Deliverer-Backlog-Records, -Backlog-Bytes, -Open-Runs, -Rejected, -Lost    integers from 0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.columns import MAX_COUNT
from otel_agent_telemetry.errors import RecordError

_MAX_TEXT: Final = 1024
_TEXTS: Final = ("host", "base_dir", "version")
_COUNTS: Final = ("backlog_records", "backlog_bytes", "open_runs", "rejected", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class DelivererReport:
    """Who delivers, and what waits on its host.

    `backlog_records` is an estimate from the bytes, but 0 only for none.
    `oldest_unsent` is when the oldest record that waits was written; None when none waits.
    `rejected` and `lost` count the records that were refused for good, and that no file took.
    """

    host: str
    base_dir: str
    version: str = ""
    oldest_unsent: str | None = None
    backlog_records: int = 0
    backlog_bytes: int = 0
    open_runs: int = 0
    rejected: int = 0
    lost: int = 0

    def to_headers(self) -> dict[str, str]:
        """Return the headers of a request."""
        headers = {_header(name): quote(str(getattr(self, name))[:_MAX_TEXT], safe="") for name in _TEXTS}
        headers |= {_header(name): str(getattr(self, name)) for name in _COUNTS}
        return headers if self.oldest_unsent is None else {**headers, _header("oldest_unsent"): self.oldest_unsent}

    @classmethod
    def from_headers(cls, value_of: Callable[[str, str], str]) -> DelivererReport | None:
        """Return what the headers of a request say; None when they name no host.

        `value_of` returns the value of a header, or a default. Raises RecordError for a value
        that breaks a rule.
        """
        host, base_dir, version = (unquote(value_of(_header(name), ""))[:_MAX_TEXT] for name in _TEXTS)
        if not host:
            return None
        counts = {name: _count(_header(name), value_of(_header(name), "0")) for name in _COUNTS}
        oldest = value_of(_header("oldest_unsent"), "")
        return cls(
            host=host,
            base_dir=base_dir,
            version=version,
            oldest_unsent=check_time(_header("oldest_unsent"), oldest) if oldest else None,
            backlog_records=counts["backlog_records"],
            backlog_bytes=counts["backlog_bytes"],
            open_runs=counts["open_runs"],
            rejected=counts["rejected"],
            lost=counts["lost"],
        )


def _header(name: str) -> str:
    """Return the header of a member: `Deliverer-Backlog-Bytes` of `backlog_bytes`."""
    return "Deliverer-" + name.replace("_", "-").title()


def _count(name: str, text: str) -> int:
    """Return a count of a report, at most what a column can hold. Raises RecordError."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_COUNT)):
        raise RecordError(name, "must be an integer from 0")
    return min(int(text), MAX_COUNT)
