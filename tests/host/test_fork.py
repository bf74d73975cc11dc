"""Applications that fork: each process writes its own runs, and only the one that began a run ends it."""

import pytest
from on_disk import journal_lines, rows_of
from programs import run_host

pytestmark = pytest.mark.requires("POSIX")

# Python 3.12 and later warn of a fork beside threads, as they do of any library with a thread.
FORKS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
WAYS = ["os.fork", "fork_in_c"]
"""Python's own, and one without its hooks, as servers that embed Python and extensions make it."""

LEAVES = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
how, fork = sys.argv[1], eval(sys.argv[2])

def main():
    with client.track_run("parent", "job", run_id="parent") as run:
        pid = fork()
        if pid == 0:
            run.log_event("in the child")
            run.set_metrics(items_failed=7)
            client.end_run("parent", "failed")
            with client.track_run("child", "job", run_id="child"):
                pass
            if how == "sys.exit":
                sys.exit(5)
            if how == "exception":
                raise ValueError("of the child")
            if how == "os._exit":
                os._exit(5)
            return 5
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) in (1, 5)
        run.set_metrics(items_succeeded=3)
    return 0

ended = main()
if ended:
    sys.exit(ended)
assert client.flush(30)
"""


@pytest.mark.parametrize("fork", WAYS)
@pytest.mark.parametrize("how", ["sys.exit", "exception", "return", "os._exit"])
def test_a_child_that_leaves_the_block_of_a_run_does_not_end_it(config, how, fork):
    """However the child leaves, the parent's run ends as the parent ends it, and the child's is below it."""
    run_host(config, LEAVES, how, fork, options=FORKS, quiet=False)

    rows = rows_of(config)
    assert rows["parent"]["status"] == "success"
    assert (rows["parent"]["items_succeeded"], rows["parent"]["items_failed"]) == (3, 0)
    assert rows["child"]["parent_run_id"] == "parent"
    states = [line for line in journal_lines(config, "run") if line["run_id"] == "parent"]
    child = {line["writer"] for line in journal_lines(config, "run") if line["run_id"] == "child"}
    assert len({line["writer"] for line in states}) == len(child) == 1
    assert child.isdisjoint(line["writer"] for line in states)
    assert [line["status"] for line in states if line["status"] != "running"] == ["success"]
    events = [line for line in journal_lines(config, "event") if line["event_type"] == "in the child"]
    assert [(line["run_id"], line["writer"] in child) for line in events] == [("parent", True)]


STEPS = """
from opentelemetry.sdk.trace import TracerProvider
from otel_agent_telemetry import AgentRunSpanProcessor
provider = TracerProvider()
provider.add_span_processor(AgentRunSpanProcessor())
tracer = provider.get_tracer("app")

def main():
    with tracer.start_as_current_span("run"):
        with tracer.start_as_current_span("of the parent"):
            pid = eval(sys.argv[1])()
            if pid == 0:
                with tracer.start_as_current_span("of the child"):
                    pass
                return
            assert os.waitpid(pid, 0)[1] == 0
main()
"""


@pytest.mark.parametrize("fork", WAYS)
def test_a_fork_inside_a_step_ends_it_once(config, fork):
    """A step that was open at the fork is ended by the parent only; the child's own step has its end."""
    run_host(config, STEPS, fork, options=FORKS)

    steps = journal_lines(config, "span")
    ends = [line["name"] for line in steps if line["status"] != "running"]
    assert sorted(ends) == ["of the child", "of the parent"]
    writers = {line["name"]: line["writer"] for line in steps}
    assert writers["of the child"] != writers["of the parent"]
    terminal = [line for line in journal_lines(config, "run") if line["status"] != "running"]
    assert [line["writer"] for line in terminal] == [writers["of the parent"]]


POOL = """
import multiprocessing
from otel_agent_telemetry import TelemetryClient

def work(number):
    client = TelemetryClient()
    with client.track_run("worker", "job", run_id=f"work-{number}") as run:
        run.log_event("in a worker")
    return number

if __name__ == "__main__":
    client = TelemetryClient()
    with client.track_run("parent", "job", run_id="parent"):
        with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
            assert pool.map(work, range(9)) == list(range(9))
            pool.close()
            pool.join()
    assert client.flush(30)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_workers_of_a_pool_record_their_own_runs(config, tmp_path, method):
    """Pools of each kind: a row for each run, each ended once, and the parent's ended by the parent."""
    from programs import PRELUDE

    script = tmp_path / "program.py"
    script.write_text(PRELUDE + POOL)
    code = f"import runpy; sys.argv[1:] = [{method!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    if method != "fork":  # children import the program: it must be a file
        code = f"import subprocess; sys.exit(subprocess.run([sys.executable, {str(script)!r}, {method!r}]).returncode)"
    run_host(config, code, options=FORKS)
    run_host(config, "from otel_agent_telemetry import TelemetryClient\nclient = TelemetryClient()\n"
             "client.end_run(client.start_run('a', 'b', run_id='last'))\nassert client.flush(30)")  # fmt: skip

    runs = journal_lines(config, "run")
    terminal = [(line["run_id"], line["status"]) for line in runs if line["status"] != "running"]
    expected = [("parent", "success"), ("last", "success"), *((f"work-{number}", "success") for number in range(9))]
    assert sorted(terminal) == sorted(expected)
    if method == "fork":
        assert {line.get("parent_run_id") for line in runs if line["run_id"].startswith("work")} == {"parent"}


SOON = """
import importlib.abc, threading
begins, entered, forked = threading.Event(), threading.Event(), threading.Event()
run = threading.Thread.run

def run_late(thread):
    if thread.name.startswith("agent-telemetry"):
        begins.wait(20)
    run(thread)

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "otel_agent_telemetry.delivery.deliverer" and not forked.is_set():
            entered.set()
            forked.wait(20)

def between():  # registered first, so called last before the fork
    begins.set()
    entered.wait(0.5)

threading.Thread.run = run_late
sys.meta_path.insert(0, Slow())
os.register_at_fork(before=between)
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("parent", "job", run_id="parent"):
    pid = os.fork()
    forked.set()
    if pid == 0:
        import signal
        signal.alarm(20)
        import otel_agent_telemetry.delivery.deliverer  # on this thread, whose number nobody had before
        with client.track_run("child", "job", run_id="child"):
            pass
        os._exit(0 if client.flush(15) else 1)
    assert os.waitpid(pid, 0)[1] == 0
assert client.flush(30)
"""


def test_a_fork_in_the_first_moment_gives_the_child_no_half_imported_module(config):
    """The background begins to import just when the process forks: the child can import, and deliver, all the same."""
    run_host(config, SOON, options=FORKS, quiet=False)

    assert {name: row["status"] for name, row in rows_of(config).items()} == {"parent": "success", "child": "success"}


BESIDE = """
import threading
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
stop = threading.Event()

def record():
    while not stop.is_set():
        with client.track_run("thread", "job") as run:
            run.log_event("event")

threads = [threading.Thread(target=record) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(20):
    pid = os.fork()
    if pid == 0:
        with client.track_run("child", "job", run_id=f"child-{number}"):
            pass
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""


def test_forks_beside_threads_that_record(config):
    """Twenty forks while three threads record: no child hangs, and each keeps its run."""
    run_host(config, BESIDE, options=FORKS)

    ended = {line["run_id"] for line in journal_lines(config, "run") if line["status"] == "success"}
    assert {f"child-{number}" for number in range(20)} <= ended


WITHOUT_HOOKS = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
if sys.argv[1] == "after":
    client.end_run(client.start_run("agent", "job", run_id="server"))
    assert client.flush(30)
children = []
for number in range(2):
    child = fork_in_c()
    if not child:
        with client.track_run("agent", "job", run_id=f"worker-{number}") as run:
            run.log_event("request")
        os._exit(0 if client.flush(30) else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


@pytest.mark.parametrize(
    ("recorded", "runs"), [("before", {"worker-0", "worker-1"}), ("after", {"worker-0", "worker-1", "server"})]
)
def test_workers_of_a_server_that_forks_in_c_record_their_own_runs(config, recorded, runs):
    """Servers such as uWSGI load the application and fork without Python's hooks (opentelemetry-python, issue 2266).

    Whether they fork before the application has recorded, or after: each has numbers of its own, and can flush.
    """
    run_host(config, WITHOUT_HOOKS, recorded)

    assert {name: row["status"] for name, row in rows_of(config).items()} == dict.fromkeys(runs, "success")
    lines = journal_lines(config)
    writers = {line["run_id"]: line["writer"] for line in lines}
    assert len(set(writers.values())) == len(runs)
    assert len({(line["writer"], line["seq"]) for line in lines}) == len(lines)


FIRST = """
def of_the_application():
    global run_id
    run_id = client.start_run("agent", "job", run_id="of a hook")

os.register_at_fork(after_in_child=of_the_application)  # before ours: called first
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.start_run("agent", "job", run_id="parent")
child = os.fork()
if not child:
    client.end_run(run_id)
    os._exit(0 if client.flush(30) else 1)
assert os.waitpid(child, 0)[1] == 0
client.end_run("parent")
assert client.flush(30)
"""


def test_a_run_that_a_hook_of_the_application_begins_after_the_fork_is_the_childs(config):
    """Also where that hook runs before ours: the child becomes a writer of its own once, and ends the run."""
    run_host(config, FIRST, options=FORKS)

    assert {name: row["status"] for name, row in rows_of(config).items()} == {
        "of a hook": "success",
        "parent": "success",
    }
    writers = {line["run_id"]: line["writer"] for line in journal_lines(config, "run")}
    assert writers["of a hook"] != writers["parent"]
