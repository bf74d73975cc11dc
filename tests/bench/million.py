"""`python tests/bench/million.py [LINES]`: what the reading commands cost on a large journal and a large database.

Writes a journal of LINES lines (default 1,000,000) by eight writers, five lines a run, rebuilds
a database from it, and runs each command in a process of its own. Shown is CPU time of the
process, user and system: all of it, that of the same command on an empty base directory
(its start), and the difference. The goals of `show` to `replay` are for all of it, those of the
two listings for the difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.journal import journal_path
from tests.bench.pairs import SQLITE, Row, goal_text, verdict_of
from tests.bench.records import process_environment

LINES: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
LINES_A_RUN: Final = 5
WRITERS: Final = 8
FIRST_NS: Final = 1_795_737_600_000_000_000
DAY: Final = "20261127"
STEP_NS: Final = 400_000
GOALS_S: Final = {"show": 0.5, "tail": 0.2, "verify": 4, "replay": 10, "failed": 0.02, "since": 0.02}
"""Command → CPU seconds that it may cost (Core, part 3)."""


def write_journal(folder: Path, lines: int) -> None:
    """Write a day file in which each writer has one open run at a time, lines of all in turn."""
    folder.mkdir(parents=True)
    writers = [_lines_of_writer(number, lines // WRITERS) for number in range(WRITERS)]
    with journal_path(folder, DAY).open("wb", buffering=1 << 20) as file:
        for row in zip(*writers, strict=True):
            file.writelines(row)


def _lines_of_writer(number: int, lines: int) -> Iterator[bytes]:
    writer = f"{DAY}T000000-{1000 + number}-{number:08x}"
    for line in range(lines):
        run, part = divmod(line, LINES_A_RUN)
        number_of_run = run * WRITERS + number
        head = f'"writer":"{writer}","seq":{line + 1},{_ids(number_of_run)}'
        at = iso_utc(FIRST_NS + (line * WRITERS + number) * STEP_NS)
        yield (
            _state(number_of_run, head, at, part) if part in (0, LINES_A_RUN - 1) else _event(part, head, at)
        ).encode()


def run_id_of(run: int) -> str:
    """Return the run id of a run of the journal."""
    return f"{DAY}T000000Z-agent-{run % 7}-{run:08x}"


def _ids(run: int) -> str:
    return f'"event_id":"801f3727-1184-8cf7-a20f-{run:012x}","run_id":"{run_id_of(run)}"'


def _event(part: int, head: str, at: str) -> str:
    payload = f'{{"page":{part},"url":"https://site.example/catalogue/{part}","ok":true}}'
    return f'{{"record_type":"event",{head},"event_type":"page","timestamp":"{at}","payload":{payload}}}\n'


def _state(run: int, head: str, at: str, part: int) -> str:
    began = iso_utc(FIRST_NS + run // WRITERS * LINES_A_RUN * WRITERS * STEP_NS + run % WRITERS * STEP_NS)
    status = '"status":"running"'
    if part:
        word = "failed" if run % 10_000 == 0 else "success"
        ended = f'"end_time":"{at}","duration_ms":17,"items_discovered":3,"items_succeeded":3'
        status = f'"status":"{word}",{ended},"metrics_json":"{{\\"pages\\":3}}"'
    columns = (
        f'"agent_name":"agent-{run % 7}","job_type":"bench","trigger_type":"cli","product":"catalogue",'
        f'"platform":"web","website":"site.example","item_name":"item {run}","host":"host-1","environment":"test",'
        f'"context_json":"{{\\"attempt\\":1,\\"shard\\":\\"a\\",\\"ratio\\":0.5,\\"dry_run\\":false}}"'
    )
    times = f'"created_at":"{began}","updated_at":"{at}","start_time":"{began}"'
    return f'{{"record_type":"run",{head},"schema_version":9,{times},{columns},{status}}}\n'


def cpu_s_of(base: Path, *arguments: str, may_fail: bool = False) -> float:
    """Return the CPU seconds of one command; unless it `may_fail`, ends the measurement when it does."""
    command = [sys.executable, "-m", "otel_agent_telemetry.cli", *arguments]
    environment = process_environment({"TELEMETRY_BASE_DIR": str(base), "TELEMETRY_DISCOVER_SERVICE": "false"})
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not may_fail:
        raise SystemExit(f"agent-telemetry {' '.join(arguments)}: exit status {process.returncode}")
    return used.ru_utime + used.ru_stime


def report(base: Path, empty: Path, name: str, arguments: Sequence[str]) -> None:
    """Print what a command costs: the median of three rounds and the most; `replay` has one.

    The goals of `runs` are for what it costs beyond its start, the others for the whole command.
    """
    rounds = 1 if name == "replay" else 3
    start = median(cpu_s_of(empty, *arguments, may_fail=True) for _ in range(3))
    apart = start if arguments[0] == "runs" else 0
    costs = [cpu_s_of(base, *arguments) - apart for _ in range(rounds)]
    goal = GOALS_S[name]
    print(
        Row(
            f"agent-telemetry {_shown(arguments)}, {LINES:,} journal lines, CPU",
            SQLITE,
            f"{median(costs):.3f} s",
            f"{max(costs):.3f} s",
            goal_text(goal, unit=" s"),
            verdict_of(median(costs), goal),
            f"{'beyond' if apart else 'with'} its start of {start:.2f} s",
        ).line(),
        flush=True,
    )


def _shown(arguments: Sequence[str]) -> str:
    return " ".join("RUN" if part.startswith(DAY) else part for part in arguments if part != "--no-sync")


def main() -> None:
    """Measure in a temporary folder, or in `MILLION_DIR`, which is kept."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(os.environ.get("MILLION_DIR", temporary)) / "base"
        empty = Path(temporary) / "empty"
        if not base.exists():
            write_journal(base / "raw", LINES)
        cpu_s_of(empty, "init-db")
        (base / "db").mkdir(exist_ok=True)
        middle = run_id_of(LINES // LINES_A_RUN // 2)
        for name, arguments in {
            "replay": ("replay",),
            "verify": ("verify",),
            "show": ("show", middle, "--no-sync"),
            "tail": ("tail",),
            "failed": ("runs", "--status", "timeout", "--no-sync"),
            "since": ("runs", "--since", "2027-01-01", "--no-sync"),
        }.items():
            report(base, empty, name, arguments)


if __name__ == "__main__":
    main()
