"""What belongs to the application is as it was: hooks, handlers, filters, logs, children, threads, modules."""

import pytest
from on_disk import rows_of
from programs import run_host

STATE = """
import logging
lines = []
class Kept(logging.Handler):
    def emit(self, record):
        lines.append((record.name, record.levelname, record.getMessage()))
logging.basicConfig(level=logging.INFO, handlers=[Kept()])
before = host_state()
import otel_agent_telemetry
from otel_agent_telemetry import TelemetryCapture, TelemetryClient, TelemetryContext
assert not changes(before), changes(before)
client = TelemetryClient()
with client.track_run("agent", "job", run_id="run") as run:
    run.log_event("event", {"a": 1})
    run.set_metrics(items_succeeded=1)
    with TelemetryContext("skill", capture=TelemetryCapture(client=client)):
        pass
    assert not changes(before), changes(before)
assert client.flush(30)
assert not changes(before), changes(before)
import gc
gc.freeze()
frozen = gc.get_freeze_count()
with client.track_run("agent", "job", run_id="frozen"):
    pass
assert client.flush(30)
assert gc.get_freeze_count() <= frozen
gc.unfreeze()
before["gc"] = host_state()["gc"]  # what Python itself froze at its start is thawed as well
client.close()
assert not changes(before), changes(before)
foreign = [line for line in lines if not line[0].startswith("otel_agent_telemetry")]
assert not foreign, foreign
assert not [line for line in lines if line[1] == "INFO"], lines
"""


def test_nothing_of_the_process_changes_over_sqlite(config):
    """From the import to close(), also with gc.freeze and a root logger at INFO."""
    run_host(config, STATE)

    assert {"run", "frozen"} <= rows_of(config).keys()


def test_nothing_of_the_process_changes_over_a_service(config, service):
    """The same with a service as target."""
    service.takes_lines = True
    run_host(config, STATE, env={"TELEMETRY_API_URL": service.url})

    assert {"run", "frozen"} <= service.runs.keys()


MODULES = """
import builtins, threading
from tests.host.host_state import FOREIGN
found = []
own_import = builtins.__import__
def watched(name, globals=None, locals=None, fromlist=(), level=0):
    is_known = level > 0 or name.partition(".")[0] in sys.stdlib_module_names  # relative: its package was judged
    if threading.current_thread() is not threading.main_thread() and not is_known:
        if not name.startswith("otel_agent_telemetry") and name not in sys.modules:
            found.append((threading.current_thread().name, name))
    return own_import(name, globals, locals, fromlist, level)
builtins.__import__ = watched
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
at_start = set(sys.modules)
with client.track_run("agent", "job") as run:
    run.log_event("event")
assert client.flush(30)
client.close()
new = {name.partition(".")[0] for name in set(sys.modules) - at_start} - {"otel_agent_telemetry"} - sys.stdlib_module_names
assert not found, found
assert not new, new
assert not [name for name in FOREIGN if name in sys.modules], [name for name in FOREIGN if name in sys.modules]
"""


@pytest.mark.parametrize("target", ["sqlite", "service", "webhook"])
def test_no_third_party_module_is_imported_behind_the_application(config, service, target):
    """For each target: nothing third-party on a thread of ours, and none of the libraries that delivery could want."""
    service.takes_lines = True
    env = {"service": {"TELEMETRY_API_URL": service.url}, "webhook": {
        "GOOGLE_SHEETS_API_ENABLED": "true", "GOOGLE_SHEETS_API_URL": f"{service.url}/hook"}}.get(target, {})  # fmt: skip
    run_host(config, MODULES, env=env, quiet=target != "webhook")  # which the fake service answers with 404


SEEDED = """
import random
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
drawn = []
ids = set()
for number in range(30):
    random.seed(42)
    drawn.append(random.getstate())
    with client.track_run("agent", "job") as run:
        ids.add(run.run_id)
    assert random.getstate() == drawn[0], "a number was drawn from the application's generator"
assert len(ids) == 30, ids
assert client.flush(30)
"""


def test_a_seeded_random_is_not_drawn_from(config):
    """Thirty runs, each after the same seed: thirty rows, and the application's generator is where it was."""
    run_host(config, SEEDED)

    assert len(rows_of(config)) == 30


PATCHED = """
import time
real = {name: getattr(time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter")}
if sys.argv[1] == "before":
    time.time, time.time_ns = lambda: 0.0, lambda: 0
    time.monotonic, time.monotonic_ns = lambda: 0.0, lambda: 0
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
time.time, time.time_ns = lambda: 0.0, lambda: 0
time.monotonic, time.monotonic_ns = lambda: 0.0, lambda: 0
ids = set()
for number in range(5):
    with client.track_run("agent", "job") as run:
        run.log_event("event")
        ids.add(run.run_id)
assert len(ids) == 5
for name, function in real.items():
    setattr(time, name, function)
with client.track_run("agent", "job"):
    pass
assert client.flush(30)
client.close()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_clock_that_the_application_replaced(config, when):
    """The functions of `time` stand still from before or after our import: all runs are kept and delivered."""
    run_host(config, PATCHED, when)

    assert len(rows_of(config)) == 6


NO_REDUCE = """
import itertools
class Count:
    def __init__(self, start=0, step=1):
        self._at, self._step = start - step, step
    def __iter__(self):
        return self
    def __next__(self):
        self._at += self._step
        return self._at
    def __reduce__(self):
        raise TypeError("cannot pickle 'itertools.count' object")
    __copy__ = __deepcopy__ = __reduce_ex__ = lambda self, *_: self.__reduce__()
itertools.count = Count
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
for number in range(3):
    with client.track_run("agent", "job") as run:
        run.log_event("event")
        with client._tracer.start_as_current_span("step"):
            pass
assert client.flush(30)
assert not client._recorder.counters.internal_errors, client._recorder.counters
"""


def test_counters_that_cannot_be_copied(config):
    """Python 3.14 takes copying and pickling away from itertools.count."""
    run_host(config, NO_REDUCE)

    assert len(rows_of(config)) == 3
