"""Run ids: how one is made, which custom ones are taken, and the counters of both.

Rules of seed 001 ("Custom Run ID Validation Rules", "Duplicate Run ID Detection") and the
contract's section on run ids. An id is untrusted text: it ends up in file listings, URLs
and tables, which is why separators and NUL are refused.

The id of a run: the same wherever its span is read.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from typing import Any, Final, Literal

from otel_agent_telemetry.clock import iso_utc

MAX_RUN_ID_LENGTH: Final = 255
_FORBIDDEN: Final = ("/", "\\", "\x00")
_STAMP_LENGTH: Final = len("20251210T120530Z-") + len("-a1b2c3d4")
_DUPLICATE_LENGTH: Final = len("-duplicate-a1b2c3d4")

Rejection = Literal["empty", "too_long", "invalid_chars"]

_log = logging.getLogger(__name__)


def check_custom_run_id(run_id: object) -> Rejection | None:
    """None when the id may be used as it is, else why not."""
    if not isinstance(run_id, str):
        return "invalid_chars"
    if not run_id or run_id.isspace():
        return "empty"
    if len(run_id) > MAX_RUN_ID_LENGTH:
        return "too_long"
    if any(bad in run_id for bad in _FORBIDDEN) or not _is_text(run_id):
        return "invalid_chars"
    return None


def generate_run_id(agent_name: str, *, at_ns: int | None = None, token: str | None = None) -> str:
    """`{YYYYMMDD}T{HHMMSS}Z-{agent_name}-{8 hex}`, at most 255 characters.

    `at_ns` (default: now) gives the stamp, `token` (default: random) the eight hex digits:
    a span's own instant and id make the same run id wherever the span is read.
    """
    stamp = iso_utc(time.time_ns() if at_ns is None else at_ns)
    stamp = f"{stamp[0:4]}{stamp[5:7]}{stamp[8:10]}T{stamp[11:13]}{stamp[14:16]}{stamp[17:19]}Z"
    return f"{stamp}-{_id_safe(agent_name)}-{token or _hex8()}"


def duplicate_run_id(run_id: str) -> str:
    """`{id}-duplicate-{8 hex}` for a custom id that is active already, at most 255 characters."""
    return f"{run_id[: MAX_RUN_ID_LENGTH - _DUPLICATE_LENGTH]}-duplicate-{_hex8()}"


def _id_safe(agent_name: str) -> str:
    name = agent_name[: MAX_RUN_ID_LENGTH - _STAMP_LENGTH]
    for bad in _FORBIDDEN:
        if bad in name:
            name = name.replace(bad, "-")
    return name if _is_text(name) else name.encode("utf-8", "replace").decode()


def _is_text(value: str) -> bool:
    """False for lone surrogates, which no UTF-8 file or database can hold."""
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def _hex8() -> str:
    """From the system: an application that seeds `random` neither repeats ids nor has its draws moved."""
    return os.urandom(4).hex()


class RunIDMetrics:
    """Counters of where run ids came from, kept in memory, safe under threads (seed 001).

    Every method is a few dictionary operations under a lock that is never held across
    anything else.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Forget everything; also what a forked child does, whose lock may be in any state."""
        self._lock = threading.Lock()
        self.custom_accepted = 0
        self.generated = 0
        self.rejected_empty = 0
        self.rejected_too_long = 0
        self.rejected_invalid_chars = 0
        self.duplicates_detected = 0

    def count_custom(self) -> None:
        """One custom id was accepted."""
        with self._lock:
            self.custom_accepted += 1

    def count_generated(self) -> None:
        """One id was generated, asked for or as a replacement."""
        with self._lock:
            self.generated += 1

    def count_rejected(self, reason: Rejection) -> None:
        """One custom id was refused."""
        with self._lock:
            name = f"rejected_{reason}"
            setattr(self, name, getattr(self, name) + 1)

    def count_duplicate(self) -> None:
        """One id was active already."""
        with self._lock:
            self.duplicates_detected += 1

    def get_snapshot(self) -> dict[str, Any]:
        """The counters with totals: `{"run_id_metrics": {...}, "timestamp": ISO 8601}`."""
        with self._lock:
            rejected = {
                "empty": self.rejected_empty,
                "too_long": self.rejected_too_long,
                "invalid_chars": self.rejected_invalid_chars,
            }
            custom, generated, duplicates = self.custom_accepted, self.generated, self.duplicates_detected
        total = custom + generated
        return {
            "run_id_metrics": {
                "custom_accepted": custom,
                "generated": generated,
                "rejected": {**rejected, "total": sum(rejected.values())},
                "duplicates_detected": duplicates,
                "total_runs": total,
                "custom_percentage": 100.0 * custom / total if total else 0.0,
            },
            "timestamp": iso_utc(time.time_ns()),
        }

    def to_json(self) -> str:
        """The snapshot as indented JSON text."""
        return json.dumps(self.get_snapshot(), indent=2)

    def log_metrics(self) -> None:
        """Log the snapshot at INFO."""
        _log.info("Run ID Metrics:\n%s", self.to_json())


try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL first: 2 ms of everybody's start
except ImportError:
    from hashlib import sha1


def span_event_id(trace_id: str, span_id: str) -> str:
    """The UUID (version 8) of the run that a span is, the same wherever the span is read.

    Source: design, invariant 2. SHA-1 over `trace_id:span_id` in hex, as RFC 9562 lays out.
    """
    digest = sha1(f"{trace_id}:{span_id}".encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def new_event_id() -> str:
    """A fresh UUID for a run that no span stands for."""
    return str(uuid.uuid4())
