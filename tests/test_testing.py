from __future__ import annotations

import pytest
from on_disk import ROOT, record, run_python

from otel_agent_telemetry import TelemetryCapture, TelemetryClient, TelemetryContext, capture_telemetry, testing
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, RetryLater
from otel_agent_telemetry.otel.provider import close_providers
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import InMemoryTarget, ManualClock, capture_runs, isolated_config

pytest_plugins = ["pytester"]


def test_manual_clock_moves_only_when_told():
    """It stands still, advances by seconds and jumps anywhere, but does not advance backwards."""
    clock = ManualClock(5)

    assert (clock.now_ns(), clock.now_ns()) == (5, 5)
    clock.advance(1.5)
    assert clock.now_ns() == 1_500_000_005
    clock.jump(3)
    assert clock.now_ns() == 3
    with pytest.raises(ValueError, match="use jump"):
        clock.advance(-1)


def test_in_memory_target_keeps_the_greatest_state():
    """An end is not undone by a running state that comes later."""
    target = InMemoryTarget()

    target.deliver(Batch.of((record(status="success", updated=2),)))
    target.deliver(Batch.of((record(updated=9),)))

    (kept,) = target.runs.values()
    assert kept.status == "success"


def test_in_memory_target_remembers_that_a_run_was_posted():
    """Posting outcomes stand outside the order of states and only grow."""
    target = InMemoryTarget()
    ended = record(status="success", updated=2)
    posted = record(status="success", updated=2, api_posted=1, api_posted_at=ended.updated_at, api_retry_count=2)

    for states in ((ended,), (posted,), (ended,)):
        target.deliver(Batch.of(states))

    (kept,) = target.runs.values()
    assert (kept.api_posted, kept.api_retry_count) == (1, 2)


def test_in_memory_target_follows_its_script():
    """Away for so many batches, then refusing what it is told to refuse and taking the rest."""
    target = InMemoryTarget()
    target.be_away(2, after_s=7.0)
    target.refuse(lambda run: run.run_id == "run-2", reason="never")
    batch = Batch.of((record(1), record(2), record(3)))

    assert [target.deliver(batch) for _ in range(2)] == [RetryLater("away", 7.0)] * 2
    outcome = target.deliver(batch)

    assert isinstance(outcome, Delivered)
    assert [(item.position, item.reason) for item in outcome.rejected] == [(1, "never")]
    assert [run.run_id for run in target.runs.values()] == ["run-1", "run-3"]


def test_captured_runs_show_run_events_and_steps():
    """What an agent did through the client and through its tracer can be asserted on."""
    with capture_runs() as captured:
        with captured.client.track_run("agent", "job", items_discovered=2) as run:
            run.log_event("checkpoint", {"step": 1, "when": {1, 2} & {2}})
            with captured.provider.get_tracer("app").start_as_current_span("fetch"):
                pass
        captured.client.associate_commit(run.run_id, "abcdef1", "ci")

    (ended,) = captured.runs
    assert (ended.run_id, ended.status, ended.items_discovered) == (run.run_id, "success", 2)
    assert captured.run(run.run_id) == ended
    assert [state.status for state in captured.states] == ["running", "success"]
    assert [(event.event_type, event.payload) for event in captured.events] == [
        ("checkpoint", {"step": 1, "when": [2]})
    ]
    assert [(span.name, span.status) for span in captured.spans] == [("fetch", "unset")]
    assert [link.commit_hash for link in captured.commits] == ["abcdef1"]


def test_a_run_left_open_is_seen_as_running():
    """The capture ends nothing by itself: a forgotten `end_run` shows."""
    with capture_runs() as captured:
        run_id = captured.client.start_run("agent", "job")

    assert captured.run(run_id).status == "running"
    with pytest.raises(LookupError, match=run_id):
        captured.run("other")


def test_a_capture_touches_no_disk_and_no_thread(tmp_path, monkeypatch):
    """No folder is made, no thread started, and other captures are not seen."""
    import threading

    monkeypatch.chdir(tmp_path)
    before = threading.active_count()

    with capture_runs() as one, capture_runs() as other:
        with one.client.track_run("agent", "job"):
            pass
        assert one.client.flush()
        assert one.client.get_stats()["error"] == "Statistics unavailable"
        assert other.runs == []

    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())


def test_captured_times_follow_the_clock_given():
    """A manual clock makes times in records exact."""
    clock = ManualClock(1_700_000_000_000_000_000)

    with capture_runs(clock=clock) as captured:
        run_id = captured.client.start_run("agent", "job")
        clock.advance(60)
        captured.client.log_event(run_id, "minute")

    assert captured.run(run_id).created_at == "2023-11-14T22:13:20.000000+00:00"
    assert captured.events[0].timestamp == "2023-11-14T22:14:20.000000+00:00"


def test_settings_of_a_capture_are_settings_of_the_configuration():
    """With `runs="marked"` a plain root span is no run."""
    with (
        capture_runs(runs="marked") as captured,
        captured.provider.get_tracer("app").start_as_current_span("root"),
    ):
        pass

    assert captured.runs == []


def test_isolated_config_ignores_environment_and_local_services(tmp_path, monkeypatch):
    """Only what is given by name counts."""
    monkeypatch.setenv("TELEMETRY_API_URL", "http://example.invalid")

    config = isolated_config(tmp_path, fsync="off")

    assert (config.api_url, config.discover_service, config.fsync) == (None, False, "off")
    assert config.buffer_dir == tmp_path / "buffer"


def test_fixture_gives_code_under_test_a_base_of_its_own(agent_telemetry_base):
    """`TelemetryClient()` without arguments writes below the fixture's folder only."""
    client = TelemetryClient()

    with client.track_run("agent", "job"):
        pass

    assert client.config.base_dir == agent_telemetry_base
    assert not client.config.discover_service
    assert len(list(agent_telemetry_base.glob("raw/*.ndjson"))) == 1


def test_plugin_fixture_isolates_and_closes(pytester, monkeypatch):
    """In a project that names the plugin, each test has its own base and no recorder outlives it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["otel_agent_telemetry.testing"]')
    pytester.makepyfile(
        """
        import os, sqlite3, threading
        from otel_agent_telemetry import TelemetryClient
        seen = []

        def use():
            client = TelemetryClient()
            client.end_run(client.start_run("agent", "job"))
            seen.append(client)
            return client

        def test_one(agent_telemetry_base, tmp_path):
            assert "OTEL_SDK_DISABLED" not in os.environ
            assert agent_telemetry_base.parent == tmp_path
            database = agent_telemetry_base / "db" / "telemetry.sqlite"
            database.parent.mkdir(parents=True)
            other = sqlite3.connect(database, check_same_thread=False)
            other.execute("begin exclusive")  # the background waits for longer than a program's exit would
            threading.Timer(3, other.close).start()
            assert use().config.base_dir == agent_telemetry_base
            assert any(t.name.startswith("agent-telemetry") for t in threading.enumerate())

        def test_two(agent_telemetry_base):
            assert not any(t.name.startswith("agent-telemetry") for t in threading.enumerate())
            assert seen[0].config.base_dir != agent_telemetry_base
            assert use().get_run_id_metrics()["run_id_metrics"]["total_runs"] == 1
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=2)


def test_captured_entries_stay_in_memory():
    """A decorated function, a block and `capture` write nothing to disk within the block, and are found."""

    @capture_telemetry(capture_inputs=True)
    def work(number):
        return number

    with capture_runs() as captured:
        work(5)
        with TelemetryContext("block", "test"):
            pass
        TelemetryCapture(client=captured.client).capture("skill", "failure", 1, "test", error_message="why")
    assert [(entry["skill"], entry["status"]) for entry in captured.entries] == [
        ("work", "success"),
        ("block", "success"),
        ("skill", "failure"),
    ]
    assert [run.agent_name for run in captured.runs] == ["work", "block", "skill"]
    assert TelemetryCapture(client=captured.client).query(skill="work")[0]["inputs"] == {"number": 5}
    assert not captured.recorder.config.capture_file.parent.exists()


def test_closing_forgets_only_the_chosen_recorders(tmp_path):
    """`close_shared` ends open runs of the chosen configurations and leaves the others alone."""
    one, other = (isolated_config(tmp_path / name) for name in ("one", "other"))
    recorders = [Recorder.shared(config) for config in (one, other)]
    ended = []
    recorders[0].before_exit.append(lambda: ended.append("one"))
    recorders[1].before_exit.append(lambda: ended.append("other"))

    Recorder.close_shared(lambda config: config == one)

    assert ended == ["one"]
    assert Recorder.shared(other) is recorders[1]
    assert Recorder.shared(one) is not recorders[0]


def test_module_imports_without_pytest():
    """Importing it for the clock or the target needs no test framework."""
    out = run_python(
        "import sys\n"
        "sys.modules['pytest'] = None\n"
        "import otel_agent_telemetry.testing as t\n"
        "with t.capture_runs() as c:\n"
        "    c.client.end_run(c.client.start_run('a', 'j'))\n"
        "print(c.runs[0].status)\n"
    )

    assert out.strip() == "success"


def test_public_names_are_sorted_and_there():
    """`__all__` is what it says."""
    assert testing.__all__ == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_what_is_recorded_by_another_recorder_of_the_block_leaves_nothing():
    """As by code that keeps the configuration: its folder can be made by nobody, not even by root."""
    with capture_runs() as captured:
        config = captured.client.config
    client = TelemetryClient(config.with_(exit_timeout_s=0.1))
    client.end_run(client.start_run("agent", "job"))
    close_providers(lambda used: used.base_dir == config.base_dir)
    assert not config.base_dir.exists()
