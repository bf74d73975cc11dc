"""The checks of `doctor` on the environment: misspelt variables, and exporters that are not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Final

from opentelemetry import environment_variables as api_variables
from opentelemetry.sdk import environment_variables as sdk_variables

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.operations.check_environment import Finding, error, warn
from otel_agent_telemetry.settings import SETTINGS

_OURS: Final = frozenset(name for setting in SETTINGS for name in setting.variables)
_OF_OPENTELEMETRY: Final = frozenset(
    value
    for module in (api_variables, sdk_variables)
    for name, value in vars(module).items()
    if name.startswith("OTEL_") and isinstance(value, str)
)
_KNOWN: Final = _OURS | _OF_OPENTELEMETRY
_PREFIX: Final = "TELEMETRY_"
_CLOSE: Final = 0.8
_VERY_CLOSE: Final = 0.88
"""For names that do not begin as ours do, and may be of another program."""
_TRACES_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_OTLP_MODULES: Final = {"grpc": "opentelemetry.exporter.otlp.proto.grpc"}
_OTLP_OVER_HTTP: Final = "opentelemetry.exporter.otlp.proto.http"
_EXTRA: Final = "pip install 'otel-agent-telemetry[otlp]'"


def check_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the variables that are set and no setting, but look like one: with the nearest name."""
    for name in sorted(environ):
        nearest = nearest_name(name)
        if nearest is not None:
            yield warn("settings", f"{name} is set, but no setting has this name", f"Is {nearest} meant?")


def nearest_name(name: str) -> str | None:
    """Return the variable that is probably meant; None for a known name, and for one that is like none."""
    upper = name.upper()
    if name in _KNOWN or (upper in _KNOWN and "PROXY" in upper):
        return None
    if upper in _KNOWN:
        return upper
    close = _CLOSE if upper.startswith(_PREFIX) else _VERY_CLOSE
    return next(iter(get_close_matches(upper, sorted(_KNOWN), n=1, cutoff=close)), None)


def check_exporters(config: TelemetryConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the exporters of spans that are asked for and not installed: nothing goes to them."""
    if config.otlp_enabled or config.otlp_endpoint:
        module = _OTLP_MODULES.get(config.otlp_protocol, _OTLP_OVER_HTTP)
        if not _is_installed(module):
            yield error("exporter", f"export over OTLP is asked for, but {module} is not installed", _EXTRA)
    named = {word.strip() for word in environ.get(_TRACES_EXPORTER, "").split(",")} - {"", "none"}
    installed = {point.name for point in entry_points(group="opentelemetry_traces_exporter")}
    for word in sorted(named - installed):
        fix = _EXTRA if word.startswith("otlp") else "Install the package that has it, or correct the variable."
        yield error("exporter", f"{_TRACES_EXPORTER} names {word[:80]}, which no installed package has", fix)


def _is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a package above it is missing
        return False
