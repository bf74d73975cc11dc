"""A long export lets writers go on, and is of one instant all the same."""

from __future__ import annotations

import shutil

import pytest
from on_disk import record

from otel_agent_telemetry.errors import AgentTelemetryError, StoreUnavailableError
from otel_agent_telemetry.operations.export import export_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config


class WritingSink:
    """A sink that writes a run to the same database with each page that it gets."""

    def __init__(self, config, *, fails_at=None):
        self._store = Store(config.with_(db_busy_timeout_ms=0, db_max_retries=0))
        self._fails_at = fails_at
        self.runs = []
        self.committed = []
        self.end = ""

    def write(self, runs, trees):
        assert not trees
        self.runs += runs
        if self._fails_at is not None and len(self.runs) >= self._fails_at:
            raise OSError(28, "No space left on device")
        try:
            self._store.write([record(1_000_000 + len(self.runs))])
        except StoreUnavailableError:
            self.committed.append(False)
        else:
            self.committed.append(True)

    def finish(self):
        self.end += "finished"
        self._store.close()

    def abandon(self):
        self.end += "abandoned"
        self._store.close()


@pytest.fixture(scope="module")
def many_runs(tmp_path_factory):
    """A database of 6,500 runs that is copied."""
    config = isolated_config(tmp_path_factory.mktemp("stored"), db_synchronous="OFF")
    opened = Store(config)
    opened.open()
    for start in range(0, 6500, 500):
        opened.write([record(number) for number in range(start, start + 500)])
    opened.close()
    return config.db_path


@pytest.fixture
def stored(config, many_runs):
    """6,500 runs."""
    config.db_path.parent.mkdir(parents=True)
    shutil.copy(many_runs, config.db_path)
    return config


def test_a_long_export_lets_writers_go_on(stored):
    """They wait for the first few pages and a copy; what they commit meanwhile is not in it."""
    sink = WritingSink(stored)
    assert export_runs(stored, RunQuery(), sink) == 6500
    assert sink.committed == [False] * 10 + [True] * 3
    numbers = [int(run.run_id.removeprefix("run-")) for run in sink.runs]
    assert numbers == list(reversed(range(6500)))
    assert sink.end == "finished"


def test_in_wal_mode_writers_go_on_from_the_beginning(stored):
    """There is nothing to be copied for."""
    config = stored.with_(db_journal_mode="WAL")
    opened = Store(config)
    opened.write([])
    sink = WritingSink(config)
    assert export_runs(config, RunQuery(), sink) == 6500
    opened.close()
    assert sink.committed == [True] * 13
    assert len({run.event_id for run in sink.runs}) == 6500


@pytest.mark.parametrize("fails_at", [500, 6000])
def test_a_sink_that_fails_gives_up_and_holds_nothing(stored, fails_at):
    """Before and after the copy: the error is the export's, and the database is free at once."""
    sink = WritingSink(stored, fails_at=fails_at)
    with pytest.raises(AgentTelemetryError, match="writing the export: No space left"):
        export_runs(stored, RunQuery(), sink)
    assert sink.end == "abandoned"
    free = Store(stored.with_(db_busy_timeout_ms=0, db_max_retries=0))
    free.write([record(2_000_000)])
    free.close()


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, 1), (500, 500), (501, 501), (5000, 5000), (5250, 5250), (9000, 6500)]
)
def test_a_limit_is_kept_across_pages_and_the_copy(stored, limit, expected):
    """Whatever the pages are."""
    sink = WritingSink(stored)
    assert export_runs(stored, RunQuery(), sink, limit=limit) == len(sink.runs) == expected
