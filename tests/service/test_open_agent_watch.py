"""The file by which a hook of git knows that a coding agent has a run open."""

from __future__ import annotations

from on_disk import eventually

from otel_agent_telemetry.service.open_agent_watch import FILE_NAME
from tests.service.running import running
from tests.service.service_cases import ended, post_states, state


def test_the_file_stands_while_a_coding_agent_has_a_run_open(sqlite_settings):
    """Other agents' runs are none of the hook's business; a service that stops takes the file along."""
    file = sqlite_settings.buffer_dir / FILE_NAME
    with running(sqlite_settings) as service:
        post_states(service, state(1, agent_name="nightly-report"), state(2, agent_name="claude-code"))
        assert eventually(file.exists)
        post_states(service, ended(2, agent_name="claude-code", updated=5))
        assert eventually(lambda: not file.exists())
        post_states(service, state(3, agent_name="codex"))
        assert eventually(file.exists)
    assert not file.exists()
