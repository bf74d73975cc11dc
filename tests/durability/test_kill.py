"""SIGKILL at random points: acknowledged ⊆ stored ⊆ issued (design, invariants 1, 2, 6)."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.delivery import sqlite_target
from otel_agent_telemetry.storage import plain_sql
from tests.durability.agent import config_for, work
from tests.durability.ledger import (
    Ledger,
    assert_buffer_empty,
    assert_interrupted_runs_closed,
    assert_kept,
    pipe_to_end,
    settle,
)

pytestmark = pytest.mark.durability
IMPORTED = (sqlite_target, plain_sql)
"""What agents import when they deliver: once here instead of in each fork."""

KILLS = int(os.environ.get("DURABILITY_KILLS", "200"))
SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
AGENT = [sys.executable, "-m", "tests.durability.agent"]
ROOT = Path(__file__).parents[2]


def fork_agent(base: Path, *, name: str, seed: int, **settings: object) -> tuple[int, int]:
    """Fork a process that works until it is killed: its pid and the reading end of its pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    try:
        work(TelemetryClient(config_for(base, **settings)), writing, name=name, seed=seed)
    finally:
        os._exit(1)


class Reader:
    """Empties a pipe while its writer lives, so that a full pipe never holds the writer up."""

    def __init__(self, fd: int) -> None:
        self.said = b""
        self.first = threading.Event()
        self.acknowledged = threading.Event()
        self._fd = fd
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._fd, 65536):
            self.said += chunk
            self.first.set()
            if b"\na " in self.said:
                self.acknowledged.set()
        os.close(self._fd)

    def end(self) -> bytes:
        self._thread.join(60)
        return self.said


def kill_after(pid: int, reader: Reader, delay_s: float) -> bytes:
    assert reader.first.wait(60), "the process did nothing"
    time.sleep(delay_s)  # the random point at which it dies, not a synchronisation
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return reader.end()


def test_nothing_acknowledged_is_lost_by_a_kill_at_any_point(tmp_path: Path) -> None:
    """Killed KILLS times while it starts, writes, rotates, delivers: all that returned is there."""
    print(f"\nDURABILITY_SEED={SEED} KILLS={KILLS}")
    dice, ledger = random.Random(SEED), Ledger()
    for number in range(KILLS):
        fsync = dice.choice(("interval", "interval", "always", "off"))
        pid, fd = fork_agent(tmp_path, name=f"k{number}", seed=dice.randrange(1 << 30), fsync=fsync)
        reader = Reader(fd)
        if dice.random() < 0.5:  # otherwise a slow machine would kill all of them while they start
            assert reader.acknowledged.wait(60)
        delay = dice.choice((0.0, dice.random() * 0.01, dice.random() * 0.05))
        ledger.read(kill_after(pid, reader, delay))
    config = config_for(tmp_path)
    settle(config)
    rows = assert_kept(ledger, config)
    closed = assert_interrupted_runs_closed(rows)
    assert_buffer_empty(config)
    print(f"{len(ledger.of('start', ledger.acknowledged))} runs acknowledged, {closed} closed")
    assert closed >= KILLS / 10


def test_eight_processes_killed_at_random_on_one_base_directory(tmp_path: Path) -> None:
    """Eight writers at once, killed and replaced in random order, share journal, buffer and deliverer."""
    print(f"\nDURABILITY_SEED={SEED}")
    dice, ledger = random.Random(SEED + 1), Ledger()
    alive: dict[int, Reader] = {}
    for number in range(8 + max(KILLS // 8, 8)):
        if len(alive) == 8:
            victim = dice.choice(sorted(alive))
            ledger.read(kill_after(victim, alive.pop(victim), dice.random() * 0.05))
        pid, fd = fork_agent(tmp_path, name=f"e{number}", seed=dice.randrange(1 << 30))
        alive[pid] = Reader(fd)
    for pid, reader in alive.items():
        ledger.read(kill_after(pid, reader, 0.0))
    config = config_for(tmp_path)
    settle(config)
    assert_interrupted_runs_closed(assert_kept(ledger, config))
    assert_buffer_empty(config)


def test_a_fresh_interpreter_killed_while_it_begins(tmp_path: Path) -> None:
    """Interpreters of their own, killed from their first step on: migrations, first files, first delivery."""
    dice, ledger = random.Random(SEED + 2), Ledger()
    for number in range(max(KILLS // 20, 5)):
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*AGENT, str(tmp_path), f"f{number}", str(number), "1000000"], stdout=writing, cwd=ROOT
        )
        os.close(writing)
        reader = Reader(reading)
        assert reader.first.wait(60)
        time.sleep(dice.random() * 0.6)  # the random point at which it dies
        process.kill()
        process.wait()
        ledger.read(reader.end())
    config = config_for(tmp_path)
    settle(config)
    assert_interrupted_runs_closed(assert_kept(ledger, config))
    assert_buffer_empty(config)


def test_the_deliverer_is_killed_while_others_write(tmp_path: Path) -> None:
    """Whoever holds the drain lock is killed again and again; the others take over and lose nothing."""
    ledger = Ledger()
    alive: dict[int, Reader] = {}
    for number in range(4):
        pid, fd = fork_agent(tmp_path, name=f"d{number}", seed=number)
        alive[pid] = Reader(fd)
    for reader in alive.values():
        assert reader.first.wait(60)
    config = config_for(tmp_path)
    while len(alive) > 1:
        holder = _await_holder(config.buffer_dir / "drain.lock", alive)
        ledger.read(kill_after(holder, alive.pop(holder), 0.05))
    for pid, reader in alive.items():
        ledger.read(kill_after(pid, reader, 0.0))
    settle(config)
    assert_interrupted_runs_closed(assert_kept(ledger, config))
    assert_buffer_empty(config)


def _await_holder(lock: Path, among: dict[int, Reader]) -> int:
    """The pid that holds a lock, as the kernel lists it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if lock.exists():
            inode = str(lock.stat().st_ino)
            for line in Path("/proc/locks").read_text().splitlines():
                words = line.split()
                if words[5].rpartition(":")[2] == inode and int(words[4]) in among:
                    return int(words[4])
    raise AssertionError("nobody took the drain lock over")


def _pool_task(task: tuple[str, str, int]) -> str:
    base, name, number = task
    client = TelemetryClient(config_for(Path(base)))
    run_id = client.start_run("pool", "task", run_id=f"{name}-{number}")
    client.log_event(run_id, "step", {"n": 0, "filler": "", "crc": 0})
    if number % 7 == 3:
        return run_id  # left open: the worker is recycled with it
    client.end_run(run_id)
    return run_id


def test_fork_pools_with_recycled_workers_lose_nothing(tmp_path: Path) -> None:
    """A fork pool whose workers live for three tasks and leave by `os._exit`."""
    context = multiprocessing.get_context("fork")
    parent = TelemetryClient(config_for(tmp_path))
    outer = parent.start_run("pool", "parent", run_id="parent")
    with context.Pool(4, maxtasksperchild=3) as pool:
        done = pool.map(_pool_task, [(str(tmp_path), "p", n) for n in range(40)], chunksize=1)
        pool.close()
        pool.join()
    parent.end_run(outer)
    parent.close()
    config = config_for(tmp_path)
    settle(config)
    ledger = Ledger()
    for run_id in [*done, "parent"]:
        for kind in ("i", "a"):
            ledger.read(f"{kind} start {run_id}\n".encode())
            if run_id == "parent" or int(run_id.partition("-")[2]) % 7 != 3:
                ledger.read(f"{kind} end {run_id}\n".encode())
            if run_id != "parent":
                ledger.read(f"{kind} event {run_id} 0\n".encode())
    rows = assert_kept(ledger, config)
    assert assert_interrupted_runs_closed(rows) == len([n for n in range(40) if n % 7 == 3])
    assert_buffer_empty(config)


@pytest.mark.parametrize("ending", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGTERM)", "os.abort()"])
def test_a_process_that_leaves_without_goodbye(tmp_path: Path, ending: str) -> None:
    """`os._exit`, SIGTERM without a handler and abort: ended runs stay ended, the open one is closed."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from otel_agent_telemetry import TelemetryClient\n"
        "from tests.durability.agent import config_for\n"
        f"client = TelemetryClient(config_for(Path({str(tmp_path)!r})))\n"
        "client.end_run(client.start_run('a', 'j', run_id='ended'))\n"
        "client.start_run('a', 'j', run_id='open')\n"
        f"{ending}\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode
    config = config_for(tmp_path)
    settle(config)
    ledger = Ledger()
    ledger.read(b"i start ended\na start ended\ni end ended\na end ended\ni start open\na start open\n")
    rows = assert_kept(ledger, config)
    assert assert_interrupted_runs_closed(rows) == 1
    assert_buffer_empty(config)


def test_a_pipe_is_read_to_its_end() -> None:
    """The ledger believes whole lines only."""
    reading, writing = os.pipe()
    os.write(writing, b"i start x\na sta")
    os.close(writing)
    ledger = Ledger()
    ledger.read(pipe_to_end(reading))
    assert (ledger.issued, ledger.acknowledged) == ({"start x"}, set())
