"""Doctor's look at the buffer and the journal: who writes, what waits, what failed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.buffer.acknowledgements import read_acknowledged, undelivered
from otel_agent_telemetry.buffer.health import Health, live_counters, read_health
from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.rejected import count_rejected, last_rejected
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.operations.check_environment import Finding, error, ok, warn
from otel_agent_telemetry.operations.open_runs import is_alive
from otel_agent_telemetry.wire import LINE_HEAD

_OLD_S: Final = 60.0
_REASONS: Final = 3
_JOURNAL_BYTES: Final = 64 << 20
_FAILURES: Final = ("journal_failed", "buffer_failed", "internal_errors")


def check_buffer(config: TelemetryConfig) -> Iterator[Finding]:
    """Writers, what waits and for how long, the last delivery, refused records. Raises OSError."""
    folder = config.buffer_dir
    if not folder.is_dir():
        yield ok("buffer", f"{folder} does not exist yet; the first run makes it")
        return
    health = read_health(folder)
    yield from _writers(folder)
    yield from _waiting(folder, health)
    yield from _rejected(folder)
    yield from _failures(folder, health)


def _writers(folder: Path) -> Iterator[Finding]:
    writers = list_writers(folder)
    alive = sum(map(is_alive, writers))
    text = f"{alive} live writers, {len(writers) - alive} gone ones not taken up yet"
    if len(writers) > alive and not _somebody_delivers(folder):
        yield warn(
            "buffer",
            text,
            "No process delivers now: `agent-telemetry sync` does, and closes what they left open.",
        )
    else:
        yield ok("buffer", text)


def _somebody_delivers(folder: Path) -> bool:
    path = drain_lock_path(folder)
    probe = FileLock(path)
    try:
        return path.exists() and not probe.try_acquire()
    finally:
        probe.release()


def _waiting(folder: Path, health: Health) -> Iterator[Finding]:
    waiting = undelivered(folder)
    size = sum(max(end - read_acknowledged(path), 0) for path, end in waiting.items())
    age_s = max((time.time() - _mtime(path) for path in waiting), default=0.0)
    delivered = f"; last delivery {health.last_delivery or 'never'} to {health.target or 'nowhere'}"
    text = f"{size} bytes wait in {len(waiting)} segments, the oldest for {age_s:.0f} s{delivered}"
    if health.last_problem_at > health.last_delivery:
        problem = f"{text}; delivery fails since then: {health.last_problem}"
        yield error("delivery", problem, "Mend what it names; nothing is lost meanwhile. Then `agent-telemetry sync`.")
    elif age_s > _OLD_S:
        yield warn("delivery", text, "`agent-telemetry sync` delivers it, or says why it cannot.")
    else:
        yield ok("delivery", text)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _rejected(folder: Path) -> Iterator[Finding]:
    number = count_rejected(folder)
    if not number:
        yield ok("rejected", "no record was refused")
        return
    reasons = [str(record.get("rejected_because")) for record in last_rejected(folder, limit=_REASONS)]
    yield warn(
        "rejected",
        f"{number} records were refused, at last because: {' | '.join(reasons)}",
        f"They lie in {folder / 'rejected'}; `agent-telemetry replay` offers them again from the journal.",
    )


def _failures(folder: Path, health: Health) -> Iterator[Finding]:
    """Counters of live writers, then those that gone ones left behind."""
    found = False
    sources: list[tuple[str, Mapping[str, Any]]] = [
        (f"writer {writer}", counters)
        for writer, note in live_counters(folder).items()
        if isinstance(counters := note.get("counters"), dict)
    ]
    for who, counters in [*sources, ("processes that are gone", health.counters)]:
        said = f"{who}: " + ", ".join(f"{name} {counters[name]}" for name in ("lost", *_FAILURES) if counters.get(name))
        said += f" (last: {counters['last_error']})" if counters.get("last_error") else ""
        if counters.get("lost"):
            found = True
            yield error("counters", said, "Lines were lost: look for a full disk or taken-away folders.")
        elif any(counters.get(name) for name in _FAILURES):
            found = True
            yield warn("counters", said, "Look for a full disk or taken-away folders; nothing was lost.")
    if not found:
        yield ok("counters", "no write failed")
    if health.torn_lines:
        yield warn(
            "buffer",
            f"{health.torn_lines} torn lines were met",
            "Processes died, or a disk was full, mid-write.",
        )


def check_journal(config: TelemetryConfig) -> Iterator[Finding]:
    """Torn lines at the end of the newest day file. Raises OSError."""
    files = journal_files(config.ndjson_dir)
    if not files:
        yield ok("journal", f"there is none in {config.ndjson_dir} yet")
        return
    lines = torn = 0
    with files[-1].open("rb") as stream:
        size = files[-1].stat().st_size
        if size > _JOURNAL_BYTES:
            stream.seek(size - _JOURNAL_BYTES)
            stream.readline()
        for raw in stream:
            lines += 1
            torn += bool(raw.strip()) and not _looks_whole(raw)
    text = f"{len(files)} day files, the last {lines} lines of {files[-1].name} looked at"
    if torn:
        yield warn(
            "journal",
            f"{text}: {torn} are torn",
            "`agent-telemetry verify` says whether anything is missing.",
        )
    else:
        yield ok("journal", text)


def _looks_whole(raw: bytes) -> bool:
    """Whether a line begins and ends as ours do, and no other one begins inside it (`wire`)."""
    return raw.startswith(LINE_HEAD) and raw.endswith(b"}\n") and raw.rfind(LINE_HEAD) == 0
