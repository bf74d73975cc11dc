"""Runs that are recorded while the interpreter shuts down: kept, without a thread, an import or a hang."""

import pytest
from on_disk import journal_lines, rows_of
from programs import run_host, run_noisy_host

from otel_agent_telemetry import TelemetryClient

WATCH = """
import threading
from otel_agent_telemetry import TelemetryClient, TelemetryContext
import tests.host.shutdown_watch

def record(name, client):
    with client.track_run("late", "job", run_id=name) as run:
        run.log_event("event of " + name, {"a": 1})
        run.set_metrics(items_failed=1)
    again = client.start_run("late", "job", run_id=name + "-explicit")
    client.log_event(again, "event")
    client.end_run(again, "partial", items_failed=2)
"""

CASES = {
    "of a global": """
class Late:
    def __init__(self, client):
        self.client = client
    def __del__(self, record=record):
        record("late", self.client)
client = TelemetryClient()
FIRST
late = Late(client)
""",
    "in a cycle": """
class Late:
    def __init__(self, client):
        self.client, self.me = client, self
    def __del__(self, record=record):
        record("late", self.client)
client = TelemetryClient()
FIRST
Late(client)
""",
    "in an unclosed generator": """
def work(client, record=record):
    try:
        yield 1
    finally:
        record("late", client)
client = TelemetryClient()
FIRST
generator = work(client)
next(generator)
""",
    "with a run around the generator": """
def work(client):
    with client.track_run("late", "job", run_id="late") as run:
        again = client.start_run("late", "job", run_id="late-explicit")
        try:
            yield 1
        finally:
            run.log_event("event of late")
            client.end_run(again)
client = TelemetryClient()
FIRST
generator = work(client)
next(generator)
""",
    "of another module": """
import types
module = sys.modules["registry"] = types.ModuleType("registry")
class Late:
    def __init__(self, client):
        self.client = client
    def __del__(self, record=record):
        record("late", self.client)
client = TelemetryClient()
FIRST
module.held = {1: Late(client)}
""",
    "in an exit handler of before": """
import atexit
client = TelemetryClient()
atexit.register(record, "late", client)
FIRST
""",
    "in an exit handler of after": """
import atexit
client = TelemetryClient()
FIRST
atexit.register(record, "late", client)
""",
    "of a late thread": """
client = TelemetryClient()
FIRST
def work():
    threading.main_thread().join()
    record("late", client)
threading.Thread(target=work).start()
""",
    "of a late daemon thread": """
import atexit
client = TelemetryClient()
FIRST
ends, done = threading.Event(), threading.Event()
def work():
    ends.wait()
    record("late", client)
    done.set()
threading.Thread(target=work, daemon=True).start()
def wait():
    ends.set()
    assert done.wait(30)
atexit.register(wait)
""",
}


@pytest.mark.parametrize("first", [True, False], ids=["after other runs", "as the first run"])
@pytest.mark.parametrize("case", CASES)
def test_a_late_run_is_kept(config, case, first):
    """The lines of a run and of its events are in the journal; the next process delivers them."""
    before = 'client.end_run(client.start_run("early", "job", run_id="early"))' if first else ""
    run_host(config, WATCH + CASES[case].replace("FIRST", before))

    states = {line["run_id"]: line["status"] for line in journal_lines(config, "run")}
    assert states["late"] == ("cancelled" if "around" in case else "success")  # GeneratorExit ends the block
    assert states["late-explicit"] in {"partial", "success"}
    assert "event of late" in {line["event_type"] for line in journal_lines(config, "event")}

    client = TelemetryClient(config)  # the next process: this one, which has imported all of it already
    client.end_run(client.start_run("a", "b", run_id="next"))
    assert client.flush(30)
    client.close()
    assert {name: row["status"] for name, row in rows_of(config).items()}.items() >= states.items()


def test_a_thread_records_on_after_the_main_thread_has_ended(config):
    """A program whose threads outlive its main thread delivers as before: that is no shutdown yet."""
    code = """
import threading
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.end_run(client.start_run("agent", "job", run_id="first"))
def work():
    threading.main_thread().join()
    client.end_run(client.start_run("agent", "job", run_id="second"))
    assert client.flush(30)
threading.Thread(target=work).start()
"""
    run_host(config, code)

    assert rows_of(config).keys() == {"first", "second"}


def test_a_capture_in_a_finalizer_is_kept(config):
    """A block that ends while the interpreter finalises is in its file and in the journal."""
    code = (
        WATCH
        + """
class Late:
    def __del__(self, TelemetryContext=TelemetryContext):
        with TelemetryContext("skill") as block:
            block.set_status("failure")
with TelemetryContext("skill"):
    pass
late = Late()
"""
    )
    run_host(config, code)

    assert config.capture_file.read_text().count('"skill"') >= 2
    assert [line["status"] for line in journal_lines(config, "run")][-1] == "failed"


def test_a_finalizer_that_runs_last_of_all_does_no_harm(config):
    """When modules are cleared already, nothing can be recorded: no hang, no crash, no output."""
    code = (
        WATCH
        + """
class Late:
    def __init__(self, client):
        self.client = client
    def __del__(self, record=record):
        record("late", self.client)
client = TelemetryClient()
client.end_run(client.start_run("early", "job", run_id="early"))
sys.late = Late(client)
"""
    )
    run_host(config, code)

    assert "early" in rows_of(config)


CONCURRENT = """
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, TracerProvider
from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryConfig
provider = TracerProvider(active_span_processor=ConcurrentMultiSpanProcessor(2))
provider.add_span_processor(AgentRunSpanProcessor(TelemetryConfig.from_env()))
tracer = provider.get_tracer("agent")
with tracer.start_as_current_span("root", attributes={"agent.run.id": "run"}) as root:
    root.add_event("event")
    with tracer.start_as_current_span("step"):
        pass
"""


def test_a_provider_whose_shutdown_fails_at_exit_loses_no_run(config):
    """One with threads for its processors never shuts them down at the exit (opentelemetry-python, issue 5568)."""
    run_noisy_host(config, CONCURRENT, env={"TELEMETRY_EXIT_TIMEOUT_S": "60"})

    assert rows_of(config)["run"]["status"] == "success"
    assert [line["record_type"] for line in journal_lines(config)] == ["run", "event", "span", "span", "run"]
