"""Copies of what a program holds of ours: a copy is the object itself, a pickled one records nothing."""

from on_disk import journal_lines
from programs import run_host, run_noisy_host

HOLD = """
import copy, dataclasses, logging, pickle
from typing import Any
from opentelemetry import trace
from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryCapture, TelemetryClient, TelemetryContext

client = TelemetryClient()
tracked = client.track_run("agent", "job", run_id="tracked")
run = tracked.__enter__()
capture = TelemetryCapture(client=client)
context = TelemetryContext("skill", capture=capture)
context.__enter__()
processor, recorder = client._processor, client._recorder
held = {"client": client, "run": run, "tracked": tracked, "capture": capture, "context": context}
ours = {**held, "processor": processor, "recorder": recorder}
"""

AFTERWARDS = """
import gc
gc.collect()
with open("theirs.txt", "w") as theirs:  # takes the lowest free descriptor
    run.log_event("after")
    later_than_a_comparison()
    run.log_event("later")
    theirs.write("only this")
assert Path("theirs.txt").read_text() == "only this"
context.__exit__(None, None, None)
tracked.__exit__(None, None, None)
assert client.flush(30)
"""


def events(config):
    return [line["event_type"] for line in journal_lines(config, "event")]


def run_in(tmp_path, config, code):
    return run_host(config, f"import os; os.chdir({str(tmp_path)!r})\n" + HOLD + code + AFTERWARDS)


def test_copies_are_the_object_itself(config, tmp_path):
    """Copying and deep copying each object, alone and inside an application's own, gives the same object."""
    run_in(
        tmp_path,
        config,
        """
for name, thing in ours.items():
    assert copy.copy(thing) is thing, name
    assert copy.deepcopy(thing) is thing, name
    assert copy.deepcopy([thing])[0] is thing, name
""",
    )

    assert events(config) == ["after", "later"]


def test_a_dataclass_of_the_application_may_hold_them(config, tmp_path):
    """dataclasses.asdict copies deeply: what it gives holds the same client and run, and recording goes on."""
    run_in(
        tmp_path,
        config,
        """
@dataclasses.dataclass
class State:
    client: Any
    run: Any
    capture: Any
    span: Any

copied = dataclasses.asdict(State(client, run, capture, trace.INVALID_SPAN))
assert copied["client"] is client and copied["run"] is run and copied["capture"] is capture
""",
    )

    assert events(config) == ["after", "later"]


def test_a_half_made_copy_closes_and_writes_nothing(config, tmp_path):
    """Objects made without their constructor, as copying machinery makes them, go away without a trace."""
    run_in(
        tmp_path,
        config,
        """
before = descriptors()
buffer = recorder.buffer
for thing in (buffer, buffer._segment, buffer._lock, recorder.journal, recorder.journal.file, recorder.worker):
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        try:
            way(thing)
        except TypeError:
            pass
    half_made = type(thing).__new__(type(thing))
    del half_made
import gc
gc.collect()
ours = {number: path for number, path in before.items() if "/raw/" in path or "jsonl" in path}  # delivery opens others
assert ours and ours.items() <= descriptors().items(), (ours, descriptors())
""",
    )

    assert events(config) == ["after", "later"]


READ = """
import logging, pickle
records = []
class Kept(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("otel_agent_telemetry").addHandler(Kept())
held = pickle.loads(Path(sys.argv[1]).read_bytes())
assert not records, records  # unpickling is no use yet
with held["tracked"] as run:
    run.log_event("x")
    run.set_metrics(items_failed=1)
held["run"].log_event("x")
with held["context"] as block:
    block.set_inputs({"a": 1})
entry = held["capture"].capture("skill", "success", 1.0, "caller")
assert entry["skill"] == "skill", entry
client = held["client"]
run_id = client.start_run("agent", "job")
assert isinstance(run_id, str) and run_id.endswith(run_id[-8:]) and "agent" in run_id, run_id
client.end_run(run_id)
with client.track_run("agent", "job") as inner:
    inner.log_event("x")
client.associate_commit(run_id, "abcdef0", "manual")
assert client.flush() is True
client.get_stats(); client.get_run_id_metrics(); client.close()
assert pickle.loads(pickle.dumps(client)).start_run("agent", "job")
about = [line for line in records if "pickle" in line]
assert 1 <= len(about) <= 3, records  # the held client, and the pickled one's own pickle
assert descriptors().keys() <= {0, 1, 2, 3, 4}, descriptors()
import threading
assert threading.active_count() == 1
"""


def test_what_was_pickled_records_nothing_elsewhere_and_says_so_once(config, tmp_path):
    """A pickled client, run, capture and context work in a process without configuration: no file, no thread."""
    run_in(tmp_path, config, "Path('held').write_bytes(pickle.dumps(held))\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = sorted(str(path) for path in config.base_dir.rglob("*"))

    env = {"HOME": str(elsewhere), "TELEMETRY_BASE_DIR": str(elsewhere / "none")}
    run_noisy_host(config, READ, tmp_path / "held", env=env)

    assert sorted(str(path) for path in config.base_dir.rglob("*")) == before
    assert list(elsewhere.iterdir()) == []
    assert events(config) == ["after", "later"]


def test_a_pickled_processor_records_nothing(config, tmp_path):
    """A processor that came through pickle takes spans, records none and warns."""
    run_in(
        tmp_path,
        config,
        """
from opentelemetry.sdk.trace import TracerProvider
records = []
class Kept(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("otel_agent_telemetry").addHandler(Kept())
provider = TracerProvider()
provider.add_span_processor(pickle.loads(pickle.dumps(processor)))
for name in "ab":
    with provider.get_tracer("app").start_as_current_span(name) as span:
        span.add_event("unrecorded")
assert len(records) == 1 and "pickle" in records[0], records
""",
    )

    assert events(config) == ["after", "later"]


SPAN = """
import copy, pickle
from opentelemetry.sdk.trace import TracerProvider
ways = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "asdict-like": lambda span: copy.deepcopy({"span": span}),
}
def outcomes(span, ended):
    found = {}
    for name, way in ways.items():
        for which, thing in (("live", span), ("ended", ended)):
            try:
                copied = way(thing)
                found[name, which] = copied if isinstance(copied, bytes) else type(copied).__name__
            except Exception as problem:
                found[name, which] = type(problem).__name__, str(problem)
    return found

class Ends:
    def on_start(self, span, parent_context=None): ...
    def on_end(self, span): self.span = span
    def shutdown(self): ...
    def force_flush(self, timeout_millis=0): return True
    _on_ending = on_start

def of(provider):
    ends = Ends()
    provider.add_span_processor(ends)
    span = provider.get_tracer("app").start_span("work")
    span.add_event("one", {"a": 1})
    other = provider.get_tracer("app").start_span("ended")
    other.end()
    seen = {name: kind for name, kind in outcomes(span, ends.span).items() if not isinstance(kind, bytes)}
    copied = copy.copy(span)
    assert copied.name == "work" and type(copied).__name__ == type(span).__name__
    copied.add_event("on the copy")
    span.end()
    return seen

bare = of(TracerProvider())
import otel_agent_telemetry
recorded = TracerProvider()
otel_agent_telemetry.instrument(tracer_provider=recorded)
with_us = of(recorded)
assert with_us == bare, (with_us, bare)
"""


def test_copies_of_spans_come_out_as_without_us(config):
    """Copying and pickling a live and of an ended span succeeds or fails alike, with and without us."""
    run_host(config, SPAN)

    assert "one" in events(config)
