"""Every command that reads the journal, over days that an operator has compressed."""

import gzip

import pytest
import zstandard
from command import agent_telemetry, record_runs
from on_disk import journal_lines

from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.journal import journal_files

COMPRESS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("ending", COMPRESS)
def test_commands_read_compressed_days_as_the_plain_ones(config, ending):
    """What `verify`, `show`, `tail`, `replay` and `doctor` find is the same before and after."""

    def found():
        commands = (("verify", "--json"), ("show", "mine", "--json"), ("tail", "--json"), ("replay", "--into", into))
        into.unlink(missing_ok=True)
        return [(result.code, result.out) for result in (agent_telemetry(config, *command) for command in commands)]

    into = config.base_dir / "again.sqlite"
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="mine")
    client.log_event(run_id, "step", {"n": 1})
    client.end_run(run_id)
    client.close()
    before, lines = found(), journal_lines(config)
    (path,) = journal_files(config.ndjson_dir)
    path.with_name(path.name + ending).write_bytes(COMPRESS[ending](path.read_bytes()))
    path.unlink()

    assert journal_lines(config) == lines
    assert found() == before
    assert agent_telemetry(config, "doctor").code == 0
    assert [code for code, _ in before] == [0, 0, 0, 0]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_purge_reaches_compressed_days_and_their_copies(config, ending):
    """The archive holds nothing of the run afterwards, and every other line as before; a damaged one is an error."""
    record_runs(config)
    (path,) = journal_files(config.ndjson_dir)
    archive = path.with_name(path.name + ending)
    archive.write_bytes(COMPRESS[ending](path.read_bytes()))

    assert agent_telemetry(config, "delete", "run-1", "--purge", "--yes", "--json").json["purged"]["files"] == 2
    path.unlink()
    lines = [line for line in journal_lines(config) if line.get("event_type") != "agent.run.deleted"]
    assert any(line.get("event_type") == "agent.line.purged" for line in lines)
    assert not any("run-1" in str(line) for line in lines)
    archive.write_bytes(archive.read_bytes()[:-4])
    assert agent_telemetry(config, "delete", "run-2", "--purge", "--yes").code != 0
