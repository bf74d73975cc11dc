"""The attributes of the spans that the client starts, and how they reach the span.

OpenTelemetry cleans attributes one by one, which is the largest part of what a span with a dozen of
them costs. Those of the client are clean: texts, numbers and booleans under names of ours. So where
nobody looks at them before our processor does, the span starts without, and the processor puts
them in place before anything else happens to the span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.live_span import SDK_SPAN
from otel_agent_telemetry.otel.plan_code import PLAIN_TYPES
from otel_agent_telemetry.otel.spans import StartParameters
from otel_agent_telemetry.recording.recorder import Recorder

_MAX_PICKERS: Final = 256
_Picker = tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]
"""Names of attributes behind the first two, and what picks their values out of the settings."""


def run_attributes(agent: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a run's span: what it is, and the settings that are plain values.

    `settings` have `agent_name`, `job_type` and `trigger_type`, which are texts.
    """
    keys, pick = _pickers[tuple(settings), tuple(map(type, settings.values()))]
    return dict(zip(keys, (names.INVOKE_AGENT, agent, *pick(settings)), strict=True))


class _Pickers(dict[tuple[tuple[str, ...], tuple[type, ...]], _Picker]):
    """Names of settings and types of their values → their picker, made when it is asked for."""

    def __missing__(self, key: tuple[tuple[str, ...], tuple[type, ...]]) -> _Picker:
        kept = [name for name, kind in zip(*key, strict=True) if kind in PLAIN_TYPES]
        keys = (names.GEN_AI_OPERATION, names.GEN_AI_AGENT_NAME, *(names.PREFIX + name for name in kept))
        picker = keys, itemgetter(*kept)
        if _KEPT_TYPES.issuperset(key[1]):  # other classes are the application's, of any number and size
            if len(self) >= _MAX_PICKERS:
                self.clear()
            self[key] = picker
        return picker


_KEPT_TYPES: Final = PLAIN_TYPES | {dict, list, tuple, type(None)}
_pickers: Final = _Pickers()


def is_first_to_look(recorder: Recorder, tracer: Any) -> bool:
    """Return whether a recorder's processor sees the spans of a tracer before anyone who looks at their attributes.

    That is no other processor, and no sampler but those that take every span.
    """
    around = getattr(tracer, "span_processor", None)
    return (
        SDK_SPAN is not None
        and type(around) is SynchronousMultiSpanProcessor
        and getattr(next(iter(around._span_processors), None), "recorder", None) is recorder
        and getattr(tracer, "sampler", None) in (ALWAYS_ON, DEFAULT_ON)
    )


def put_in_place(parameters: StartParameters, span: Any) -> None:
    """Set the attributes of the client on a span that has just started, as if it had started with them."""
    attributes, parameters.attributes = parameters.attributes or {}, None
    bounded = span._attributes
    if bounded.max_value_len is None and (bounded.maxlen is None or len(attributes) <= bounded.maxlen):
        bounded._dict.update(attributes)
    else:
        span.set_attributes(attributes)
