"""Fakes and fixtures for tests of agents that use this package, and of this package itself.

    from otel_agent_telemetry.testing import capture_runs

    with capture_runs() as captured:
        my_agent(captured.client)
    assert captured.runs[0].status == "success"

With `pytest_plugins = ["otel_agent_telemetry.testing"]` in the top `conftest.py` a test can
use the fixture `agent_telemetry_base`: a base folder of its own, set in the environment, so
that the code under test calls `TelemetryClient()` as usual.

Everything here behaves as its real counterpart does, in memory. pytest is imported only when
pytest itself loads this module as a plugin. (PYTEST_DONT_REWRITE: there are no assertions
here to rewrite, and a `conftest.py` may import this module before it names it as a plugin.)
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, Rejected, RetryLater
from otel_agent_telemetry.memory_recorder import CapturedRuns, MemoryRecorder
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.otel.provider import adopt, close_providers, own_provider
from otel_agent_telemetry.settings import SETTINGS
from otel_agent_telemetry.wire import RUN

_NS: Final = 1_000_000_000
_EXIT_TIMEOUT_S: Final = "20"
"""Seconds that a test waits for the last delivery: a busy machine may need more than a program's default of 2."""
_NOWHERE: Final = Path(os.devnull, "otel-agent-telemetry-in-memory")
"""A folder that nobody can make, not even root: what is recorded after a block, past its recorder, leaves nothing."""


class ManualClock:
    """A clock that stands still until `advance` or `jump` moves it. Safe under threads.

    `now_ns`: nanoseconds since 1970 UTC to begin at; default an instant in October 2025.
    """

    def __init__(self, now_ns: int = 1_760_000_000 * _NS) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the clock's time, nanoseconds since 1970 UTC."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Move the clock forward. Raises ValueError for negative seconds; use `jump` for a step back."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): time does not pass backwards; use jump")
        self._now_ns += round(seconds * _NS)

    def jump(self, to_ns: int) -> None:
        """Set the clock to any instant, backwards too, as an administrator or NTP does."""
        self._now_ns = to_ns


class InMemoryTarget:
    """A delivery target that keeps the greatest state of each run, as every store does.

    Outcomes can be scripted: `be_away` makes batches be retried later, `refuse` makes records
    be rejected for good. Safe under threads.

        target = InMemoryTarget()
        target.be_away(2, after_s=5.0)
        assert isinstance(target.deliver(batch), RetryLater)
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.batches: list[Batch] = []
        """Every batch that was delivered, refused and postponed ones included."""
        self.links: list[CommitLink] = []
        self.closed = 0
        self._states: dict[str, RunRecord] = {}
        self._away: deque[RetryLater] = deque()
        self._refusals: list[tuple[Callable[[RunRecord], bool], str]] = []
        self._guard = threading.Lock()

    def be_away(self, times: int = 1, *, reason: str = "away", after_s: float | None = None) -> None:
        """Answer the next so many batches with `RetryLater`."""
        self._away.extend([RetryLater(reason, after_s)] * times)

    def refuse(self, which: Callable[[RunRecord], bool], *, reason: str = "refused") -> None:
        """Reject, from now on, each record for which `which` is true."""
        self._refusals.append((which, reason))

    def deliver(self, batch: Batch) -> Outcome:
        """Keep the batch, or do what was scripted."""
        with self._guard:
            # Kept before the script is asked: a test counts the attempts, those that failed included.
            self.batches.append(batch)
            if self._away:
                return self._away.popleft()
            rejected = []
            for position, line in enumerate(batch.lines):
                if line["record_type"] != RUN:
                    continue
                record = RunRecord.from_fields(line)
                reason = next((why for which, why in self._refusals if which(record)), None)
                if reason is None:
                    self._keep(record)
                else:
                    rejected.append(Rejected(position, reason))
            self.links.extend(batch.links)
            return Delivered(tuple(rejected))

    def _keep(self, record: RunRecord) -> None:
        """Keep the state if it is later than the one that is known."""
        known = self._states.get(record.event_id)
        self._states[record.event_id] = record if known is None else later_state(known, record)

    @property
    def runs(self) -> dict[str, RunRecord]:
        """Return event_id → the current state."""
        with self._guard:
            return dict(self._states)

    def close(self) -> None:
        """Count a closing; the target can be used again."""
        self.closed += 1


def isolated_config(base_dir: Path | str, **settings: Any) -> TelemetryConfig:
    """Return a configuration that uses `base_dir` only: no environment, no service on this machine."""
    return TelemetryConfig(**{"base_dir": Path(base_dir), "discover_service": False, **settings})


@contextmanager
def capture_runs(*, clock: Clock | None = None, **settings: Any) -> Iterator[CapturedRuns]:
    """Capture runs in memory, isolated from the global provider, the environment and the disk.

    `settings` are fields of `TelemetryConfig` (`runs="agents"`, `capture_content=True` …).
    Runs still open when the block ends stay `running`, so that a test can see them. What
    decorators and contexts of `capture` write within the block is captured here, too.

        with capture_runs(runs="agents") as captured:
            agent(captured.client)
        assert captured.runs[0].items_succeeded == 3

    `clock`: default the system's; a `ManualClock` makes times exact. Nothing is delivered, and nothing needs a flush.
    """
    config = isolated_config(_NOWHERE, **{"skip_validation": True, **settings})
    recorder = MemoryRecorder(config, clock=clock)
    provider = own_provider(Resource.get_empty())
    adopt(provider, AgentRunSpanProcessor(recorder=recorder))
    client = TelemetryClient(config, tracer_provider=provider)
    before = TelemetryCapture.replace_shared(TelemetryCapture(client=client))
    try:
        yield CapturedRuns(recorder, client, provider)
    finally:
        # Back before the provider ends: what decorators capture from here on is not of this block.
        TelemetryCapture.replace_shared(before)
        provider.shutdown()


def pytest_configure(config: Any) -> None:
    """Register the fixtures; pytest calls this when the module is one of its plugins."""
    if not config.pluginmanager.has_plugin("agent-telemetry-fixtures"):
        config.pluginmanager.register(_fixtures(), "agent-telemetry-fixtures")


def _fixtures() -> object:
    """Return a pytest plugin; pytest is imported by whoever uses it."""
    import pytest

    class Fixtures:
        @pytest.fixture
        def agent_telemetry_base(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
            """Set a base folder for this test alone in the environment; what used it is closed afterwards."""
            base = tmp_path / "agent-telemetry"
            for variable in (name for setting in SETTINGS for name in setting.variables):
                monkeypatch.delenv(variable, raising=False)
            monkeypatch.setenv("TELEMETRY_BASE_DIR", str(base))
            monkeypatch.setenv("TELEMETRY_DISCOVER_SERVICE", "false")
            monkeypatch.setenv("TELEMETRY_EXIT_TIMEOUT_S", _EXIT_TIMEOUT_S)
            TelemetryCapture.replace_shared(None)
            yield base
            TelemetryCapture.replace_shared(None)
            close_providers(lambda used: used.base_dir == base)

    return Fixtures()


__all__ = [
    "CapturedRuns",
    "InMemoryTarget",
    "ManualClock",
    "MemoryRecorder",
    "capture_runs",
    "isolated_config",
]
