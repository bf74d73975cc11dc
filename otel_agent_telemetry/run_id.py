"""The two ids of a run: `run_id` for people, `event_id` for stores.

A `run_id` is generated, or given by the application and validated; rules of seed 001
("Custom Run ID Validation Rules", "Duplicate Run ID Detection") and the contract's section
on run ids. It is untrusted text that ends up in file listings, URLs and tables, which is why
separators and NUL are refused. `RunIDMetrics` counts where run ids came from.

An `event_id` is a UUID, the idempotency key of every store. It is derived from the run's
span, so that all readers of one span compute the same id.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from functools import lru_cache
from typing import Any, Final, Literal

from otel_agent_telemetry.clock import iso_utc

try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib would load OpenSSL: 2 ms of every start
except ImportError:
    from hashlib import sha1

MAX_RUN_ID_LENGTH: Final = 255
_FORBIDDEN: Final = ("/", "\\", "\x00")
_STAMP_LENGTH: Final = len("20251210T120530Z-") + len("-a1b2c3d4")
_UUID_LENGTH: Final = 36
_DUPLICATE_LENGTH: Final = len("-duplicate-a1b2c3d4")

Rejection = Literal["empty", "too_long", "invalid_chars"]

_log = logging.getLogger(__name__)


def check_custom_run_id(run_id: object) -> Rejection | None:
    """Return None when the id may be used as it is, else why not."""
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
    """Return `{YYYYMMDD}T{HHMMSS}Z-{agent_name}-{8 hex}`, at most 255 characters.

    `at_ns`: nanoseconds since 1970 for the time stamp, default now. `token`: the eight hex
    digits, default random. With a span's start and id every reader of the span generates the
    same run id.
    """
    second = (time.time_ns() if at_ns is None else at_ns) // 1_000_000_000
    return f"{stamp_in_id(second)}-{name_in_id(agent_name)}-{token or _hex8()}"


def name_in_id(agent_name: str) -> str:
    """Return an agent's name as generated ids have it."""
    return _id_safe(agent_name[: MAX_RUN_ID_LENGTH - _STAMP_LENGTH])


def duplicate_run_id(run_id: str) -> str:
    """Return `{id}-duplicate-{8 hex}` for a custom id that is already active, at most 255 characters."""
    return f"{run_id[: MAX_RUN_ID_LENGTH - _DUPLICATE_LENGTH]}-duplicate-{_hex8()}"


@lru_cache(maxsize=4)
def stamp_in_id(second: int) -> str:
    """Return a second since 1970 as generated ids have it, `YYYYMMDDTHHMMSSZ`."""
    text = iso_utc(second * 1_000_000_000)
    return f"{text[0:4]}{text[5:7]}{text[8:10]}T{text[11:13]}{text[14:16]}{text[17:19]}Z"


@lru_cache(maxsize=256)
def _id_safe(name: str) -> str:
    """Return an agent's name as it may stand in an id."""
    for bad in _FORBIDDEN:
        if bad in name:
            name = name.replace(bad, "-")
    return name if _is_text(name) else name.encode("utf-8", "replace").decode()


def _is_text(value: str) -> bool:
    """Return False for text with lone surrogates, which no UTF-8 file or database can hold."""
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def _hex8() -> str:
    """Return random hex digits from the system: `random` belongs to the application, which may have seeded it."""
    return os.urandom(4).hex()


class RunIDMetrics:
    """Counters of where run ids came from, kept in memory, safe under threads (seed 001).

    Every method is a few dictionary operations under a lock that is never held across
    anything else.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Set every counter to 0; a forked child needs a new lock as well, because the old one may be held."""
        self._lock = threading.Lock()
        self.custom_accepted = 0
        self.generated = 0
        self.rejected_empty = 0
        self.rejected_too_long = 0
        self.rejected_invalid_chars = 0
        self.duplicates_detected = 0

    def count_custom(self) -> None:
        """Count an accepted custom id."""
        with self._lock:
            self.custom_accepted += 1

    def count_generated(self) -> None:
        """Count a generated id, also one that replaces a rejected custom id."""
        with self._lock:
            self.generated += 1

    def count_rejected(self, reason: Rejection) -> None:
        """Count a rejected custom id."""
        with self._lock:
            name = f"rejected_{reason}"
            setattr(self, name, getattr(self, name) + 1)

    def count_duplicate(self) -> None:
        """Count an id that was already active."""
        with self._lock:
            self.duplicates_detected += 1

    def get_snapshot(self) -> dict[str, Any]:
        """Return the counters with totals: `{"run_id_metrics": {...}, "timestamp": ISO 8601}`."""
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
        """Return the snapshot as indented JSON text."""
        return json.dumps(self.get_snapshot(), indent=2)

    def log_metrics(self) -> None:
        """Log the snapshot at INFO."""
        _log.info("Run ID Metrics:\n%s", self.to_json())


def span_event_id(trace_id: str, span_id: str, start_ns: int) -> str:
    """Return the UUID (version 8) of the run that a span is, the same wherever the span is read.

    `start_ns`: the span's start, nanoseconds since 1970. Ids alone repeat where an application
    seeds `random`, which OpenTelemetry draws them from. Source: design, invariant 2. SHA-1 over
    `trace_id:span_id:start_ns`, ids in hex, as RFC 9562 lays out.
    """
    digest = sha1(f"{trace_id}:{span_id}:{start_ns}".encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"  # as in `_version_8`


def span_event_id_without_start(trace_id: str, span_id: str) -> str:
    """Return the id that earlier versions derived, from trace id and span id alone; their rows keep it."""
    return _version_8(f"{trace_id}:{span_id}")


def is_derived(event_id: str) -> bool:
    """Return whether an id has the form of those derived from a span (UUID version 8)."""
    return len(event_id) == _UUID_LENGTH and event_id[14] == "8" and event_id[19] == "a"


def _version_8(text: str) -> str:
    """Return a UUID of version 8 made of the SHA-1 of a text."""
    # Version 8 is RFC 9562's for ids of one's own making. Digits 12 and 16 hold version and variant; rows
    # stored by any version of this package depend on this layout.
    digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def new_event_id() -> str:
    """Return a random UUID, for a run without a span."""
    return str(uuid.uuid4())


def turn_event_id(stretch: str, prompt: str) -> str:
    """Return the UUID (version 8) of the run that a prompt of a coding agent's session is (`turns`).

    `prompt`: what distinguishes it from the others of its stretch. In the form of a span's run, because it may turn
    out to be one.
    """
    return _version_8(f"turn:{stretch}:{prompt}")
