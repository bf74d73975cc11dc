"""A command as a run: `agent-telemetry run`.

The run begins before the command, with its arguments and its working directory, and ends with its exit status.
What the command starts, and records, belongs to the run: by the variables of `run_environment()`, and by
`agent_run.id` and the labels among the resource attributes, for programs that read only those.

Recording never changes what the command does: where it fails, the command runs all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.local_service import local_service_url
from otel_agent_telemetry.operations.child_process import Ended, NotStarted, hold_signals, occupy_closed_streams, start
from otel_agent_telemetry.operations.output_tail import OutputTail, is_worth_reading
from otel_agent_telemetry.otel.people_and_labels import LABEL
from otel_agent_telemetry.otel.propagation import run_environment
from otel_agent_telemetry.otel.spans import RUN_ID_KEY
from otel_agent_telemetry.outer_edge import print_line
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.run_context import RunContext
from otel_agent_telemetry.settings import BASE_DIR_VARIABLE, RUN_ID_VARIABLE

DEFAULT_JOB: Final = "command"
_RESOURCE: Final = "OTEL_RESOURCE_ATTRIBUTES"
_BAGGAGE: Final = "BAGGAGE"
_INTERRUPTED: Final = 128 + signal.SIGINT
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What `agent-telemetry run` was asked for; `agent` is by default the command's name."""

    command: list[str]
    agent: str = ""
    job_type: str = DEFAULT_JOB
    labels: Mapping[str, str] = field(default_factory=dict)
    with_otlp: bool = False
    """Whether the command's environment names the service as the place for OTLP."""

    @property
    def agent_name(self) -> str:
        """Return the name of the run's agent."""
        return self.agent or PurePath(self.command[0]).name or self.command[0]


def run_command(asked: Asked, config: TelemetryConfig, environ: Mapping[str, str]) -> int:
    """Run a command as a run and return the exit status that a shell would give it.

    Blocks until the command has ended, and then for the exit timeout of the delivery at most. For the main
    thread of a process that ends afterwards: signals stay held. POSIX only.
    """
    mask = hold_signals()
    reads_errors = is_worth_reading()
    occupy_closed_streams()
    with _recorded(asked, config) as run:
        environment = _environment(asked, config, environ)
        tail = OutputTail() if reads_errors else None
        child = start(asked.command, environment, mask=mask, outputs=tail.outputs if tail else {})
        if tail is not None:
            tail.begin()
        ended = child if isinstance(child, NotStarted) else child.wait()
        if tail is not None:
            tail.finish()
        if isinstance(ended, NotStarted):
            print_line(f"agent-telemetry: run: {clean(asked.command[0])}: {ended.reason}")
        if run is not None:
            run.set_metrics(**_outcome(ended, tail.lines() if tail is not None and ended.code else []))
    return ended.code


@contextlib.contextmanager
def _recorded(asked: Asked, config: TelemetryConfig) -> Iterator[RunContext | None]:
    """Record the block as a run; yields None where nothing can be recorded."""
    try:
        client = TelemetryClient(config)
        tracked = client.track_run(asked.agent_name, asked.job_type, "cli", **_facts(asked, config))
    except Exception as problem:  # the outer edge: the command runs without us
        _log.warning("the command is not recorded: %s", problem)
        yield None
        return
    try:
        with tracked as run:
            yield run
    finally:
        client.close()


def _facts(asked: Asked, config: TelemetryConfig) -> dict[str, Any]:
    """Return what is known of the run before the command starts."""
    arguments = _kept_arguments(asked.command, config)
    facts: dict[str, Any] = {"input_summary": " ".join(arguments), "process.command_args": arguments}
    with contextlib.suppress(OSError):  # it was removed
        facts["process.working_directory"] = os.getcwd()  # noqa: PTH109 - a text is recorded
    if asked.labels:
        facts["labels"] = dict(asked.labels)
    return facts


def _kept_arguments(command: Sequence[str], config: TelemetryConfig) -> list[str]:
    """Return the arguments without secrets, and without texts that may be a prompt.

    As for attributes of unknown names: a text with blanks that is longer than TELEMETRY_UNKNOWN_TEXT_MAX is left
    out unless content is kept.
    """
    masked: list[str] = clean([argument.encode("utf-8", "replace").decode() for argument in command])
    if config.capture_content:
        return masked
    most = config.unknown_text_max
    return [
        f"({len(argument)} characters left out)"
        if len(argument) > most and len(argument.split(None, 1)) > 1
        else argument
        for argument in masked
    ]


def _environment(asked: Asked, config: TelemetryConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the command, whose telemetry belongs to the current run."""
    ours = run_environment()
    changed = {**environ, **ours}
    if ours:
        # The folder that this process has settled on, wherever the command goes.
        changed[BASE_DIR_VARIABLE] = str(config.base_dir)
        others = [member for member in environ.get(_BAGGAGE, "").split(",") if member and not _names_run(member)]
        changed[_BAGGAGE] = ",".join([ours[_BAGGAGE], *others])
        attributes = {RUN_ID_KEY: ours[RUN_ID_VARIABLE], **{LABEL + name: text for name, text in asked.labels.items()}}
        pairs = [f"{name}={quote(text, safe='')}" for name, text in attributes.items()]
        theirs = [pair for pair in environ.get(_RESOURCE, "").split(",") if pair and not _names_run(pair)]
        changed[_RESOURCE] = ",".join([*theirs, *pairs])
    if asked.with_otlp:
        changed |= _otlp_variables(config)
    return changed


def _names_run(member: str) -> bool:
    """Return whether a member of a list `name=value,…` is the id of a run, such as that of an outer `run`."""
    return member.partition("=")[0].strip() == RUN_ID_KEY


def _otlp_variables(config: TelemetryConfig) -> dict[str, str]:
    """Return the variables that send OTLP to the service; none, with a note, where there is no service."""
    url = config.api_url or local_service_url(config)
    if url is None:
        print_line("agent-telemetry: run: --otlp: no service runs here, and TELEMETRY_API_URL is not set")
        return {}
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    if config.api_auth_token:
        variables["OTEL_EXPORTER_OTLP_HEADERS"] = f"Authorization=Bearer {quote(config.api_auth_token, safe='')}"
    return variables


def _outcome(ended: Ended | NotStarted, lines: Sequence[str]) -> dict[str, Any]:
    """Return the columns of the run that an ended command gives."""
    known: dict[str, Any] = {"process.exit.code": ended.code}
    if ended.code == 0:
        return known
    known["status"] = "cancelled" if ended.code == _INTERRUPTED else "failed"
    known["error_summary"] = _summary(ended)
    if lines:
        known["error_details"] = "\n".join(lines)
    return known


def _summary(ended: Ended | NotStarted) -> str:
    """Return one line on how a command failed."""
    if isinstance(ended, NotStarted):
        return ended.reason
    if not ended.signal:
        return f"exit status {ended.code}"
    try:
        return f"killed by {signal.Signals(ended.signal).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {ended.signal}"
