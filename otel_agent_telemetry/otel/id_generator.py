"""Trace ids and span ids from the operating system.

OpenTelemetry's generator draws from the global `random`. An application that seeds it, as
evaluations and training scripts do, gets the same ids in every process, and other numbers of
its own with tracing than without.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator


class SystemIdGenerator(IdGenerator):
    """Draws ids from `os.urandom`. Has no state, so it is safe under threads and after a fork."""

    def generate_span_id(self) -> int:
        """Return 64 random bits that are not all zero."""
        while not (span_id := int.from_bytes(os.urandom(8), "big")):
            pass
        return span_id

    def generate_trace_id(self) -> int:
        """Return 128 random bits that are not all zero."""
        while not (trace_id := int.from_bytes(os.urandom(16), "big")):
            pass
        return trace_id

    def is_trace_id_random(self) -> bool:
        """Return True: all bits are random (read by newer versions of the SDK)."""
        return True


def use_system_ids(tracer: Any) -> None:
    """Let one tracer of the SDK draw its ids from the system, unless its provider has a generator of its own.

    For a tracer that nobody else uses: a provider gives the same one to all that ask for its name.
    """
    if type(getattr(tracer, "id_generator", None)) is RandomIdGenerator:
        tracer.id_generator = SystemIdGenerator()
