"""Which tracer provider carries our spans: the application's when it can, else our own.

A provider that is set is never replaced, and each carries one processor for each
configuration, however often it is asked for. Our own provider exports over OTLP with
OpenTelemetry's exporter, whose shutdown is given a limit in time.

Our provider draws trace and span ids from the operating system. OpenTelemetry's generator draws
from the global `random`: an application that seeds it, as evaluations and training scripts do,
gets the same ids in every process, and other numbers of its own with tracing than without.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_agent_telemetry import forks
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.global_provider import current_provider
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.otel.program_name import program_name
from otel_agent_telemetry.recording.recorder import Recorder


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


_log = logging.getLogger(__name__)
_DEFAULT_LIMIT: Final = 128


_guard = threading.Lock()
_attached: dict[int, tuple[Callable[[], Any], AgentRunSpanProcessor]] = {}
"""id of a provider → how to reach it, and our processor on it. By identity: some have no hash (Logfire's)."""
_private: dict[TelemetryConfig, tuple[TracerProvider, AgentRunSpanProcessor]] = {}


def _renew_guard() -> None:
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _guard  # noqa: PLW0603 - the one lock of this module
    _guard = threading.Lock()


forks.at_fork(in_child=_renew_guard)


def attach(provider: Any, config: TelemetryConfig) -> AgentRunSpanProcessor | None:
    """Return the processor of this configuration on a provider, added if it is not there yet.

    None when the provider takes no processors (OpenTelemetry's proxy, or a vendor's own), or
    carries one of another configuration: a run must not be recorded twice.
    """
    if not hasattr(provider, "add_span_processor"):
        return None
    with _guard:
        processor = _processor_of(provider)
        if processor is None:
            processor = AgentRunSpanProcessor(config)
            provider.add_span_processor(processor)
            _remember(provider, processor)
        return processor if processor.config == config else None


def _processor_of(provider: Any) -> AgentRunSpanProcessor | None:
    """Return the processor that was attached to a provider; None for none."""
    # The id alone would not do: it is used again once a provider has been collected.
    reach, processor = _attached.get(id(provider), (None, None))
    return processor if reach is not None and reach() is provider else None


def _remember(provider: Any, processor: AgentRunSpanProcessor) -> None:
    """Remember it until the provider is gone; one that takes no weak reference stays for as long as the process."""
    place = id(provider)
    try:
        reach: Callable[[], Any] = weakref.ref(provider, lambda _: _attached.pop(place, None))
    except TypeError:
        reach = functools.partial(_itself, provider)
    _attached[place] = (reach, processor)


def remember(provider: Any, processor: AgentRunSpanProcessor) -> None:
    """Take a provider for one that carries this processor: a front of one that does."""
    with _guard:
        _remember(provider, processor)


def _itself(provider: Any) -> Any:
    """Return the provider: what reaches one that takes no weak reference."""
    return provider


def attach_to_logs(provider: Any, processor: AgentRunSpanProcessor) -> None:
    """Let events that come as log records be events of the runs. Where a provider takes no processors, nothing."""
    if not hasattr(provider, "add_log_record_processor"):
        return
    from otel_agent_telemetry.otel.log_events import AgentRunLogProcessor

    with _guard:
        if _processor_of(provider) is None:
            provider.add_log_record_processor(AgentRunLogProcessor(processor))
            _remember(provider, processor)


def adopt(provider: Any, processor: AgentRunSpanProcessor) -> None:
    """Let a provider of the SDK carry this very processor: for one made with a recorder of its own.

    Raises ValueError when the provider carries one of ours already.
    """
    with _guard:
        if _processor_of(provider) is not None:
            raise ValueError("this provider records runs already")
        provider.add_span_processor(processor)
        _remember(provider, processor)


def private(config: TelemetryConfig) -> tuple[TracerProvider, AgentRunSpanProcessor]:
    """Return our own provider for a configuration: it samples everything, exports over OTLP where asked to.

    It is not the global one, and it ends before the recorder does, within the exit timeout.
    """
    with _guard:
        if config not in _private:
            provider = own_provider(_own_resource())
            processor = AgentRunSpanProcessor(config)
            provider.add_span_processor(processor)
            _remember(provider, processor)
            if config.otlp_enabled or config.otlp_endpoint:
                _export_over_otlp(provider, config)
            _private[config] = (provider, processor)
        return _private[config]


def _own_resource() -> Resource:
    """Return what the environment says of this process; without a service name, the program's name is the service's."""
    resource = Resource.create()
    program = program_name()
    if program is None or not str(resource.attributes.get(names.SERVICE_NAME)).startswith(names.DEFAULT_SERVICE):
        return resource
    # In the resource, so that what is exported over OTLP names the same service as the record.
    return resource.merge(Resource({names.SERVICE_NAME: program}))


def own_provider(resource: Resource) -> TracerProvider:
    """Return a new provider that samples everything and draws its ids from the operating system."""
    more: dict[str, Any] = {}
    if "meter_provider" in TracerProvider.__init__.__code__.co_varnames:  # newer SDKs; the global one may not load
        more["meter_provider"] = NoOpMeterProvider()
    return TracerProvider(
        sampler=ALWAYS_ON,
        resource=resource,
        # The recorder ends it, in time: the hook of the SDK would come before the last spans of other exit handlers.
        shutdown_on_exit=False,
        span_limits=_limits(),
        id_generator=SystemIdGenerator(),
        **more,
    )


def _limits() -> SpanLimits:
    """Return the limits that the environment sets; the SDK's defaults where it holds a value that is none."""
    try:
        return SpanLimits()
    except ValueError as problem:
        _log.warning("%s; using the defaults of all limits", problem)
        return SpanLimits(
            max_events=_DEFAULT_LIMIT,
            max_links=_DEFAULT_LIMIT,
            max_attributes=_DEFAULT_LIMIT,
            max_span_attributes=_DEFAULT_LIMIT,
            max_event_attributes=_DEFAULT_LIMIT,
            max_link_attributes=_DEFAULT_LIMIT,
            max_attribute_length=SpanLimits.UNSET,
            max_span_attribute_length=SpanLimits.UNSET,
        )


def close_providers(which: Callable[[TelemetryConfig], bool]) -> None:
    """End and forget our own providers and the recorders of some configurations.

    Their open runs are ended, as at the interpreter's exit. An application's provider keeps
    its processor, which records on. Blocks up to the exit timeout for each.
    """
    with _guard:
        for config in [config for config in _private if which(config)]:
            del _private[config]
    Recorder.close_shared(which)


def _export_over_otlp(provider: TracerProvider, config: TelemetryConfig) -> None:
    """Add the OTLP path to a provider of ours, where the settings ask for it."""
    with importing():
        from otel_agent_telemetry.otel.otlp_export import otlp_processor

    processor = otlp_processor(config)
    if processor is not None:
        provider.add_span_processor(processor)
        # Ended by the recorder, not by the SDK's exit hook, which waits 30 s for an unreachable collector.
        Recorder.shared(config).before_exit.append(processor.shutdown)


def choose(config: TelemetryConfig, given: Any = None) -> tuple[Any, AgentRunSpanProcessor]:
    """Return the provider that a client of this configuration uses: the given one, the global one, or our own."""
    provider = given if given is not None else current_provider()
    processor = attach(provider, config)
    return private(config) if processor is None else (provider, processor)
