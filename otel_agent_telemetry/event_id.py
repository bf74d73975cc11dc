"""The id of a run: the same wherever its span is read."""

from __future__ import annotations

import uuid

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
