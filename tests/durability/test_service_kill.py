"""The service under SIGKILL: whatever it answered with 2xx is in the database, once, and the counts are right."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_agent_telemetry.testing import isolated_config
from tests.durability.service_ledger import assert_all_kept
from tests.durability.service_writers import Crowd
from tests.service.running import ServiceProcess, serve_process

pytestmark = pytest.mark.durability

KILLS = int(os.environ.get("DURABILITY_SERVICE_KILLS", "8"))
SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
WRITERS = 32


def run_until_killed(crowd: Crowd, service: ServiceProcess, delay_s: float) -> None:
    """Let it serve the crowd until a random moment after its first 2xx."""
    crowd.go_to(service.url)
    assert crowd.answered.wait(60), service.log
    time.sleep(delay_s)  # the random moment at which it dies, not a synchronisation
    assert service.popen.poll() is None, service.log
    service.kill()
    assert "Traceback" not in service.log, service.log


def test_nothing_answered_is_lost_by_a_kill_at_any_moment(tmp_path: Path) -> None:
    """Killed KILLS times under 32 writers of four kinds: what was answered 2xx is stored, counts are exact."""
    print(f"\nDURABILITY_SEED={SEED} DURABILITY_SERVICE_KILLS={KILLS}")
    dice, crowd = random.Random(SEED), Crowd(WRITERS, seed=SEED)
    for number in range(KILLS):
        with serve_process(tmp_path / "base") as service:
            if number == 0:
                crowd.url = service.url
                crowd.start()
            run_until_killed(crowd, service, dice.choice((0.0, dice.random() * 0.05, dice.random() * 0.6)))
    book = crowd.stop()
    runs = assert_all_kept(book, isolated_config(tmp_path / "base"))
    print(f"{runs} runs stored, {len(book.kept)} answered, {len(book.spans_kept)} spans answered")
    assert len(book.kept) > KILLS / 2  # how many are answered between two kills is the machine's speed


def test_two_services_on_one_postgresql_database_are_killed_in_turn(tmp_path: Path, postgres_url: str) -> None:
    """Two processes write one database; one or the other dies at a random moment and is started again."""
    print(f"\nDURABILITY_SEED={SEED}")
    dice, crowds = random.Random(SEED + 1), [Crowd(WRITERS // 2, seed=SEED + side) for side in (2, 3)]
    env = {"TELEMETRY_DATABASE_URL": postgres_url}
    with ExitStack() as stack:
        services = [stack.enter_context(serve_process(tmp_path / f"base-{side}", env)) for side in (0, 1)]
        for crowd, service in zip(crowds, services, strict=True):
            crowd.go_to(service.url)
            crowd.start()
        for _ in range(max(KILLS // 5, 2)):
            side = dice.randrange(2)
            run_until_killed(crowds[side], services[side], dice.random() * 0.4)
            services[side] = stack.enter_context(serve_process(tmp_path / f"base-{side}", env))
            crowds[side].go_to(services[side].url)
        book = crowds[0].stop()
        book.take(crowds[1].stop())
    runs = assert_all_kept(book, isolated_config(tmp_path / "base-0", database_url=postgres_url))
    print(f"{runs} runs stored, {len(book.kept)} answered")
    assert book.kept
