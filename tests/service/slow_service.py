"""A service that takes long for each part of a request over OTLP, by a clock that stands still otherwise."""

from __future__ import annotations

from otel_agent_telemetry.service.otlp_intake import make_intakes


class SlowBackend:
    """The service's backend, on which each commit takes seconds of a clock that stands still otherwise."""

    def __init__(self, backend, seconds):
        self._backend = backend
        self._seconds = seconds
        self.now = 0.0
        self.written = []
        """The number of spans of each commit."""

    def __getattr__(self, name):
        return getattr(self._backend, name)

    async def write_each(self, items, batch_of, *, timeout_s=None):
        found = await self._backend.write_each(items, batch_of, timeout_s=timeout_s)
        self.now += self._seconds
        self.written.append(len(items))
        return found


def slow_down(service, seconds, *, items_a_part):
    """Let a service take so long for each part of a request over OTLP; return its backend."""
    backend = SlowBackend(service.app.state.backend, seconds)
    counters = service.app.state.metrics.received
    service.app.state.otlp = make_intakes(backend, counters, now=lambda: backend.now, items_a_part=items_a_part)
    return backend
