"""Ways in without code, or with one line: `instrument()`, and OpenTelemetry's entry points.

    opentelemetry_instrumentor      agent_runs   opentelemetry-instrument: adds us to the provider that is there
    opentelemetry_traces_exporter   agent_runs   OTEL_TRACES_EXPORTER=agent_runs,otlp
    opentelemetry_tracer_provider   agent_runs   OTEL_PYTHON_TRACER_PROVIDER=agent_runs: plain `python app.py`

Whichever of them are used, and however often, a provider carries one processor of ours. None
of them raises: another instrumentation, or the program, must not fail for us.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from opentelemetry import _logs as logs

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel import provider as providers
from otel_agent_telemetry.otel.exporter import AgentRunSpanExporter
from otel_agent_telemetry.otel.global_provider import current_provider, is_unset, stand_in

_log = logging.getLogger(__name__)


def instrument(config: TelemetryConfig | None = None, *, tracer_provider: Any = None, **settings: Any) -> bool:
    """Record the runs of this process from now on; True when they will be.

    `config`: default the environment's; `settings` are fields of `TelemetryConfig` that
    differ (`runs="agents"`, `api_url=…`). `tracer_provider`: default the global one; when
    none is set, ours stands in until the application sets its own, which is then added to.
    Idempotent. Never raises; returns at once.

    Takes effect for spans that start from now on, also with tracers that the application has got before.

        from otel_agent_telemetry import instrument

        instrument(runs="agents")
    """
    try:
        chosen = (config or TelemetryConfig.from_env()).with_(**settings)
        return not chosen.sdk_disabled and _instrument(chosen, tracer_provider)
    except Exception as problem:  # the outer edge: the program goes on without us
        _log.warning("agent runs are not recorded: %s: %s", type(problem).__name__, problem)
        return False


def _instrument(config: TelemetryConfig, given: Any) -> bool:
    """Attach to the provider; where there is none, stand in for it until the application sets one."""
    if given is None and is_unset():
        provider, processor = providers.private(config)
        providers.remember(stand_in(provider, functools.partial(_add_to, config=config)), processor)
        _propagate(config)
        return True
    return _add_to(given if given is not None else current_provider(), config)


def _add_to(provider: Any, config: TelemetryConfig) -> bool:
    """Attach to a provider and to log records; return whether runs are recorded."""
    processor = providers.attach(provider, config)
    if processor is None:
        _log.warning("agent runs are not recorded: %s takes no span processors of ours", type(provider).__qualname__)
        return False
    try:
        providers.attach_to_logs(logs.get_logger_provider(), processor)
    except Exception as problem:  # OTEL_PYTHON_LOGGER_PROVIDER names one that does not exist
        _log.warning("events of log records are not recorded: %s", type(problem).__name__)
    _propagate(config)
    return True


def _propagate(config: TelemetryConfig) -> None:
    """Have run ids sent along with trace context, where the setting asks for it."""
    if not config.propagate_runs:
        return
    try:
        from otel_agent_telemetry.otel.propagation import propagate_runs

        propagate_runs()
    except Exception as problem:  # OTEL_PROPAGATORS names one that does not exist
        _log.warning("runs are not propagated to other processes: %s", problem)


class AgentRunsInstrumentor:
    """`opentelemetry_instrumentor`: what `opentelemetry-instrument` calls. Constructible without arguments."""

    def instrument(self, **_options: Any) -> None:
        """Record runs as `instrument()` does. Called by OpenTelemetry's loader of instrumentations."""
        instrument()

    def uninstrument(self, **_options: Any) -> None:
        """Do nothing: a provider does not give a processor back; runs are recorded to the end."""


class AgentRunsExporter(AgentRunSpanExporter):
    """`opentelemetry_traces_exporter`: made after the provider is set, so it adds the live processor to it.

    What that one records, this exporter leaves alone; where it could not be added, this one
    records the ended spans.
    """

    def __init__(self) -> None:
        super().__init__()
        if not is_unset():
            instrument(self.recorder.config)


def tracer_provider() -> Any:
    """Return a provider of the SDK that records runs, for a process that has none."""
    return providers.private(TelemetryConfig.from_env())[0]
