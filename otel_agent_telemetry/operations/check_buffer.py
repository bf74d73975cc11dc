"""The checks of `doctor` on the buffer and the journal: writers, waiting records, and failures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.buffer.health import Health, live_counters, read_health
from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers, unconfirmed_bytes, undelivered
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.drain_lock import DrainHolder, read_holder
from otel_agent_telemetry.delivery.rejected import count_rejected, last_rejected
from otel_agent_telemetry.journal import is_compressed, journal_files
from otel_agent_telemetry.locks import is_locked
from otel_agent_telemetry.operations.check_environment import Finding, error, ok, warn
from otel_agent_telemetry.trusted_files import open_to_read
from otel_agent_telemetry.wire import BYTE_ORDER_MARK, LINE_HEAD

# A living process delivers within seconds, so records that wait for a minute are worth a warning.
_OLD_S: Final = 60.0
_REASONS: Final = 3
_LOOK_EVERY_S: Final = 0.1
# `doctor` answers in seconds: only the end of the newest day file is read, where a torn line would stand.
_CHECKED_BYTES: Final = 64 << 20
_FAILURES: Final = ("journal_failed", "buffer_failed")
_STANDS_STILL_S: Final = 3.0
"""A deliverer notes its progress every second, also while it waits for its target."""


def check_buffer(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield findings on writers, waiting records, the last delivery, refused records and failures. Raises OSError.

    Blocks for a few seconds at most, where a deliverer has to be watched for progress.
    """
    folder = config.buffer_dir
    if not folder.is_dir():
        yield ok("buffer", f"{folder} does not exist yet; the first run creates it")
        return
    health = read_health(folder)
    yield from _writers(folder)
    yield from _stopped_holder(folder)
    yield from _waiting(folder, health)
    yield from _rejected(folder)
    yield from _failures(folder, health)


def _writers(folder: Path) -> Iterator[Finding]:
    """Yield how many writers are alive, and whether somebody will recover the dead ones."""
    writers = list_writers(folder)
    alive = sum(is_locked(writer.lock) for writer in writers)
    text = f"{alive} live writers, {len(writers) - alive} dead writers waiting for recovery"
    # Dead writers are normal while somebody delivers: the next pass recovers them.
    if len(writers) > alive and not is_locked(drain_lock_path(folder)):
        yield warn(
            "buffer",
            text,
            "No process is delivering. `agent-telemetry sync` delivers their records and closes their runs.",
        )
    else:
        yield ok("buffer", text)


def _stopped_holder(folder: Path) -> Iterator[Finding]:
    """Yield an error when the process that delivers does not run: Ctrl-Z, a debugger, a paused container."""
    holder = read_holder(folder) if is_locked(drain_lock_path(folder)) else None
    if holder is not None and holder.stopped:
        yield error(
            "delivery",
            f"process {holder.pid} holds {drain_lock_path(folder).name} and is stopped; others deliver beside it",
            f"Continue it (`kill -CONT {holder.pid}`) or end it.",
        )
    elif holder is not None and undelivered(folder) and _stands_still(folder, holder):
        yield error(
            "delivery",
            f"process {holder.pid} on {holder.host} delivers, but made no progress for {_STANDS_STILL_S:g} s",
            "End it: another process of this host takes over, and nothing is lost.",
        )


def _stands_still(folder: Path, holder: DrainHolder) -> bool:
    """Return whether the process that delivers notes no progress for some seconds. Blocks as long."""
    deadline = time.monotonic() + _STANDS_STILL_S
    while time.monotonic() < deadline:
        # A holder that has nothing left to deliver has not come to a standstill.
        if read_holder(folder) != holder or not undelivered(folder):
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _waiting(folder: Path, health: Health) -> Iterator[Finding]:
    """Yield how much waits and for how long; an error when the last delivery failed.

    The age is that of the segment, in seconds since its last line.
    """
    waiting = undelivered(folder)
    size = unconfirmed_bytes(waiting)
    age_s = max((time.time() - _mtime(path) for path in waiting), default=0.0)
    delivered = f"; last delivery {health.last_delivery or 'never'} to {health.target or 'nowhere'}"
    text = f"{size} bytes are waiting in {len(waiting)} segments, the oldest for {age_s:.0f} s{delivered}"
    # Both are ISO 8601 in UTC, so text order is time order; "" is before any time.
    if health.last_problem_at > health.last_delivery:
        problem = f"{text}; delivery has failed since: {health.last_problem}"
        yield error(
            "delivery", problem, "Fix that problem, then run `agent-telemetry sync`; nothing is lost meanwhile."
        )
    elif age_s > _OLD_S:
        yield warn("delivery", text, "`agent-telemetry sync` delivers it, or reports why it cannot.")
    else:
        yield ok("delivery", text)


def _mtime(path: Path) -> float:
    """Return when a file changed; now when it was delivered and removed meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _rejected(folder: Path) -> Iterator[Finding]:
    """Yield the number of refused records and the reasons of the last three."""
    number = count_rejected(folder)
    if not number:
        yield ok("rejected", "no record was refused")
        return
    reasons = [str(record.get("rejected_because")) for record in last_rejected(folder, limit=_REASONS)]
    yield warn(
        "rejected",
        f"{number} records were refused, the last ones because: {' | '.join(reasons)}",
        f"They are in {folder / 'rejected'}; `agent-telemetry replay` writes them again from the journal.",
    )


def _failures(folder: Path, health: Health) -> Iterator[Finding]:
    """Yield failures that live writers counted, then those of ended processes.

    Counters of a writer are in its lock file, those of ended processes in `health.json`.
    """
    found = False
    writers: list[tuple[str, Mapping[str, Any]]] = [
        (f"writer {writer}", counters)
        for writer, note in live_counters(folder).items()
        if isinstance(counters := note.get("counters"), dict)
    ]
    for who, counters in [*writers, ("ended processes", health.counters)]:
        text = f"{who}: " + ", ".join(f"{name} {counters[name]}" for name in ("lost", *_FAILURES) if counters.get(name))
        text += f" (last: {counters['last_error']})" if counters.get("last_error") else ""
        if counters.get("lost"):
            found = True
            yield error("counters", text, "Lines were lost: look for a full disk or a removed folder.")
        elif any(counters.get(name) for name in _FAILURES):
            found = True
            yield warn("counters", text, "Look for a full disk or a removed folder; nothing was lost.")
        if counters.get("internal_errors"):
            found = True
            yield _internal_errors(who, counters, last=counters.get("last_error") or health.last_problem)
    if not found:
        yield ok("counters", "no write failed")
    if health.torn_lines:
        yield warn(
            "buffer",
            f"{health.torn_lines} torn lines were found",
            "A process was killed, or the disk was full, during a write.",
        )


def _internal_errors(who: str, counters: Mapping[str, Any], *, last: str) -> Finding:
    """Return the finding on errors of our own: that nothing is recorded at all, or that something may be missing."""
    cause = f"(last: {last or 'not known'})"
    starts = counters.get("failed_span_starts")
    if starts and not any(counters.get(name) for name in ("run_states", "spans", "events")):
        return error(
            "counters",
            f"{who}: every span start failed, {starts} so far {cause}",
            "No run is recorded. Install the versions that pip resolves together (`pip install --upgrade"
            " otel-agent-telemetry opentelemetry-sdk`); TELEMETRY_LOG_LEVEL=DEBUG logs where it fails.",
        )
    return error(
        "counters",
        f"{who}: {counters['internal_errors']} starts or ends of spans, events or deliveries failed {cause}",
        "Runs may be missing. The log of the process has the cause; TELEMETRY_LOG_LEVEL=DEBUG adds the stack.",
    )


def check_journal(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield whether the last 64 MiB of the newest day file hold torn lines. Raises OSError.

    Days that are compressed are not looked into: nothing is appended to them any more.
    """
    days = journal_files(config.ndjson_dir)
    files = [path for path in days if not is_compressed(path)]
    if not files:
        yield ok("journal", f"there are no files in {config.ndjson_dir} yet")
        return
    lines = torn = 0
    with open_to_read(files[-1]) as stream:
        size = files[-1].stat().st_size
        if size > _CHECKED_BYTES:
            stream.seek(size - _CHECKED_BYTES)
            # The seek probably landed inside a line.
            stream.readline()
        for raw in stream:
            # Counted by form alone: parsing 64 MiB of JSON would take longer than anybody waits.
            lines += 1
            torn += bool(raw.strip()) and not _looks_whole(raw)
    text = f"{len(days)} day files, checked the last {lines} lines of {files[-1].name}"
    if torn:
        yield warn(
            "journal",
            f"{text}: {torn} are torn",
            "`agent-telemetry verify` reports whether anything is missing.",
        )
    else:
        yield ok("journal", text)


def _looks_whole(raw: bytes) -> bool:
    """Return whether a line begins and ends as `wire` writes it, and no second line begins inside it."""
    raw = raw.removeprefix(BYTE_ORDER_MARK)
    return raw.startswith(LINE_HEAD) and raw.endswith(b"}\n") and raw.rfind(LINE_HEAD) == 0
