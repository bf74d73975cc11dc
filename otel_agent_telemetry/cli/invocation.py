"""One call of the command: its configuration, the options that commands share, and the delivery before a read.

Times, days and durations are read here as people type them.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.output import print_stderr
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.duration_words import begins_with_duration, duration_s

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.run_reader import RunReader
    from otel_agent_telemetry.storage.run_filters import RunQuery

_log = logging.getLogger(__name__)
_SYNC_S = 2.0
# A service that accepts connections and answers nothing takes a quarter of the two seconds, not all.
_REQUEST_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Invocation:
    """The values of the global options; every command gets them from its context."""

    config: TelemetryConfig

    def open_reader(self) -> "RunReader":
        """Return the reader of the place that has the runs: a service, else the local database."""
        from otel_agent_telemetry.operations.run_reader import open_reader

        return open_reader(self.config)


def invocation_of(context: typer.Context) -> Invocation:
    """Return the invocation that the global options made."""
    invocation = context.find_object(Invocation)
    # The callback of the global options runs before every command.
    assert invocation is not None
    return invocation


def sync_before_read(invocation: Invocation) -> None:
    """Deliver what waits in the buffer, unless another process is delivering. Blocks for 2 s at most; never fails.

    So a run whose process was killed a moment ago is shown as failed.
    """
    from otel_agent_telemetry.operations.deliver import deliver_now, with_short_timeouts

    config = with_short_timeouts(invocation.config, timeout_s=_REQUEST_TIMEOUT_S)
    try:
        with warnings_left_out():
            report = deliver_now(config, timeout_s=_SYNC_S, wait_for_others=False)
        _log.debug("delivery before the read: %s", report)
    except Exception as problem:  # the read does not depend on it
        _log.info("delivery before the read failed: %s", problem)


@contextmanager
def warnings_left_out() -> Iterator[None]:
    """Leave warnings of the delivery out, unless more is asked for: where they would stand between other output."""
    package = logging.getLogger("otel_agent_telemetry")
    level = package.level
    if level == logging.WARNING:
        package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(level)


def note_other_service(invocation: Invocation) -> None:
    """Print a note when a service has the runs, for commands that work on the local database alone."""
    config, service = invocation.config, invocation.open_reader().service
    if service:
        print_stderr(f"Runs of {config.base_dir} go to {service}; this command works on the local database.")


def note_missing_database(invocation: Invocation) -> None:
    """Print a note that there is no database yet, and where it would be."""
    where = "the configured database" if invocation.config.database_url else invocation.config.db_path
    print_stderr(f"No runs yet: {where} does not exist or is empty; the first run creates it.")


def now_ns() -> int:
    """Return the current time in nanoseconds since the epoch."""
    return time.time_ns()


Utc = Annotated[bool, typer.Option("--utc", help="Read and print times in UTC instead of this machine's zone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NoSync = Annotated[bool, typer.Option("--no-sync", help="Do not deliver buffered records first.")]

Agent = Annotated[str | None, typer.Option(help="Only runs of this agent.")]
Status = Annotated[str | None, typer.Option(help="Only runs with this status; every accepted spelling works.")]
JobType = Annotated[str | None, typer.Option(help="Only runs of this job type.")]
RunId = Annotated[str | None, typer.Option(help="Only runs with exactly this run id.")]
Parent = Annotated[str | None, typer.Option(help="Only child runs of the run with this run id.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only runs started at or after: an ISO 8601 time, a day, yesterday, an age (2h)."),
]
Until = Annotated[str | None, typer.Option(help="Only runs started at or before; of a day, until its end.")]

Host = Annotated[str | None, typer.Option(help="Only runs of this host.")]
Environment = Annotated[str | None, typer.Option(help="Only runs of this environment.")]
Session = Annotated[str | None, typer.Option(help="Only runs of this session.")]
User = Annotated[str | None, typer.Option(help="Only runs of this user, as the column holds it.")]
Change = Annotated[str | None, typer.Option(help="Only runs that work on this change.")]
Commits = Annotated[
    str | None,
    typer.Option(
        "--commit", help="Only runs that made this commit, or one of a range (main..topic), by any name of git."
    ),
]
Model = Annotated[str | None, typer.Option(help="Only runs whose most called model this is.")]
Label = Annotated[str | None, typer.Option(help="Only runs with this label: NAME=VALUE.")]

_DAYS_BACK = {"today": 0, "yesterday": 1}
_DAY_NS = 86_400 * 1_000_000_000
_ZONE = re.compile(r"(?:[zZ]|[+-]\d{2}:?\d{2})$", re.ASCII)
_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})", re.ASCII)


def run_query(
    *,
    agent: str | None,
    status: str | None,
    job_type: str | None,
    run_id: str | None,
    parent: str | None,
    since: str | None,
    until: str | None,
    host: str | None = None,
    environment: str | None = None,
    session: str | None = None,
    user: str | None = None,
    change: str | None = None,
    model: str | None = None,
    label: str | None = None,
    utc: bool = False,
) -> "RunQuery":
    """Return the query of these options. Raises typer.BadParameter."""
    from otel_agent_telemetry.storage.run_filters import RunQuery

    first, last = time_bounds(since, until, utc=utc)
    return RunQuery(
        agent_name=agent,
        status=_canonical(status),
        job_type=job_type,
        run_id=run_id,
        parent_run_id=parent,
        start_time_from=first,
        start_time_to=last,
        host=host,
        environment=environment,
        session_id=session,
        user_id=user,
        change_id=change,
        model=model,
        label=None if label is None else _parse_label(label),
    )


def _parse_label(text: str) -> tuple[str, str]:
    """Return name and value of `NAME=VALUE`. Raises typer.BadParameter."""
    name, separator, value = text.partition("=")
    if not name or not separator or '"' in name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--label")
    return name, value


def _canonical(word: str | None) -> str | None:
    """Return the stored word of a status. Raises typer.BadParameter."""
    from otel_agent_telemetry.status import STATUSES, canonical_status

    status = None if word is None else canonical_status(word)
    if word is not None and status is None:
        raise typer.BadParameter(f"{word!r} is not a status: {', '.join(STATUSES)}", param_hint="--status")
    return status


def time_bounds(since: str | None, until: str | None, *, utc: bool) -> tuple[str | None, str | None]:
    """Return the instants of `--since` and `--until`, each None where it is not given. Raises typer.BadParameter."""
    now = now_ns()
    first = parse_time(since, now, utc=utc) if since else None
    return first, parse_time(until, now, is_end=True, utc=utc) if until else None


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds of a duration such as `90s`, `2h` or `1d12h`. Raises typer.BadParameter."""
    try:
        return int(duration_s(text) * 1e9)
    except ValueError as problem:
        raise typer.BadParameter(f"{text!r} {problem}") from None


def parse_time(text: str, now_ns: int, *, is_end: bool = False, utc: bool = False) -> str:
    """Return an ISO 8601 time in UTC, of such a time, a day, `today`, `yesterday` or an age before now (`2h`).

    Without a zone it is a time of this machine's zone, with `utc` of UTC. `is_end`: whether a day means its end.
    Raises typer.BadParameter.
    """
    if begins_with_duration(text):
        return iso_utc(now_ns - parse_duration_ns(text))
    zone = UTC if utc else None
    try:
        if (back := _DAYS_BACK.get(text.strip().lower())) is not None:
            day = datetime.fromtimestamp(now_ns / 1e9, zone).date() - timedelta(days=back)
            return iso_utc(_instant_of(day.isoformat(), is_end=is_end, utc=utc))
        return iso_utc(_instant_of(text.strip(), is_end=is_end, utc=utc))
    except (ValueError, OverflowError, OSError):
        expected = "neither an ISO 8601 time, today, yesterday, nor an age such as 2h or 3d"
        raise typer.BadParameter(f"{text!r} is {expected}") from None


def _instant_of(text: str, *, is_end: bool, utc: bool) -> int:
    """Return the nanoseconds of an ISO 8601 text; of a day its last microsecond where `is_end`. Raises ValueError."""
    instant = parse_iso(text)
    is_day = _DAY.fullmatch(text) is not None
    if not utc and (is_day or not _ZONE.search(text)):
        # Read as UTC so far: the same day and hour of this machine's zone is meant, with its summer time.
        here = datetime.fromtimestamp(instant / 1e9, UTC).replace(tzinfo=None) + timedelta(days=is_day and is_end)
        instant = round(here.astimezone().timestamp() * 1e6) * 1000
    elif is_day and is_end:
        instant += _DAY_NS
    return instant - 1000 if is_day and is_end else instant


def parse_day(text: str) -> str:
    """Return `YYYYMMDD` of a day in that form or as `YYYY-MM-DD`. Raises typer.BadParameter."""
    found = _DAY.fullmatch(text.strip())
    try:
        parse_iso("-".join(found.groups()) if found else "")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day: write YYYYMMDD or YYYY-MM-DD") from None
    assert found is not None
    return "".join(found.groups())
