"""SIGKILL at random points while entries are captured: what was acknowledged is in the files, once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from otel_agent_telemetry.capture.array_file import ArrayFile

pytestmark = pytest.mark.durability

KILLS = int(os.environ.get("DURABILITY_KILLS", "200")) // 5
SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
ROOT = Path(__file__).parents[2]
WRITER = """
import os, random, sys
from pathlib import Path
from otel_agent_telemetry.capture.array_file import ArrayFile
array, chance = ArrayFile(Path(sys.argv[1]), max_bytes=4096, lock_timeout_s=1.0), random.Random(sys.argv[3])
told = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = 0
while True:
    number += 1
    name = f"{sys.argv[3]}:{number}"
    filler = "x" * chance.choice((10, 300, 3000, 9000))
    array.append(f'{{"run_id":"{name}","filler":"{filler}"}}'.encode(), wait=number % 5 > 0)
    os.write(told, f"{name}\\n".encode())
    if number % 7 == 0:
        array.add_set_aside()
"""


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    arguments = [str(folder / "telemetry.json"), str(folder / f"told-{name}"), name]
    return subprocess.Popen([sys.executable, "-c", WRITER, *arguments], cwd=ROOT, stderr=subprocess.PIPE)


def test_entries_survive_kills_while_files_rotate_and_entries_are_set_aside(tmp_path: Path) -> None:
    """Six processes on one file of 4 KiB, so that it rotates, is found locked and gets set-aside entries all the time."""
    print(f"seed {SEED}")
    chance, running, born = random.Random(SEED), [], 0
    for _ in range(KILLS):
        while len(running) < 6:
            born += 1
            running.append(start(tmp_path, f"{SEED}.{born}"))
        time.sleep(chance.uniform(0.02, 0.2))
        process = running.pop(chance.randrange(len(running)))
        assert process.poll() is None, process.communicate()[1]
        process.kill()
        process.communicate()
    for process in running:
        process.kill()
        process.communicate()

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
