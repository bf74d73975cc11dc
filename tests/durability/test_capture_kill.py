"""SIGKILL at random points while entries are captured: what was acknowledged is in the files, once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from on_disk import Fork

from otel_agent_telemetry.capture.array_file import ArrayFile

pytestmark = pytest.mark.durability

KILLS = int(os.environ.get("DURABILITY_KILLS", "200")) // 5
SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


def write_until_killed(folder: Path, name: str) -> None:
    """Append entries of all sizes, and note each in `told-NAME` when it was acknowledged."""
    array, chance = ArrayFile(folder / "telemetry.json", max_bytes=4096, lock_timeout_s=1.0), random.Random(name)
    told = os.open(folder / f"told-{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in count(1):
        entry = f"{name}:{number}"
        filler = "x" * chance.choice((10, 300, 3000, 9000))
        array.append(f'{{"run_id":"{entry}","filler":"{filler}"}}'.encode(), wait=number % 5 > 0)
        os.write(told, f"{entry}\n".encode())
        if number % 7 == 0:
            array.add_set_aside()


def test_entries_survive_kills_while_files_rotate_and_entries_are_set_aside(tmp_path: Path) -> None:
    """Six processes on one file of 4 KiB, so that it rotates, is found locked and gets set-aside entries all the time."""
    print(f"seed {SEED}")
    chance, running, born = random.Random(SEED), [], 0
    try:
        for _ in range(KILLS):
            while len(running) < 6:
                born += 1
                running.append(Fork(write_until_killed, tmp_path, f"{SEED}.{born}"))
            time.sleep(chance.uniform(0.02, 0.1))  # the random moment at which one dies, not a synchronisation
            process = running.pop(chance.randrange(len(running)))
            assert process.kill() == -signal.SIGKILL  # it had not failed before
    finally:
        for process in running:
            process.kill()

    array = ArrayFile(tmp_path / "telemetry.json", max_bytes=4096)
    assert array.add_set_aside()
    array.append(b'{"run_id":"last"}')  # repairs what the last kill cut short: a write, or a file that it had just made
    found = Counter(entry["run_id"] for entry in array.entries())
    told = {name for path in tmp_path.glob("told-*") for name in path.read_text().split("\n")[:-1]}
    assert told <= found.keys()
    assert set(found.values()) == {1}
    in_files = [json.loads(path.read_text()) for path in tmp_path.glob("telemetry*.json")]
    assert sum(map(len, in_files)) == len(found)
    assert list(tmp_path.glob("*.set-aside")) == list(tmp_path.glob("*.damaged")) == []
    print(f"{KILLS} kills, {len(told)} acknowledged, {len(found)} kept in {len(in_files)} files")
