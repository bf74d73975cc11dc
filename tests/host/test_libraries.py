"""Applications that use a library which meets ours: pydantic, freezegun, gevent, openai, httpx, logfire."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread

import orjson
import pytest
from on_disk import PATIENCE_S, Process, journal_lines, rows_of
from programs import PRELUDE, run_host

for needed in ("pydantic", "freezegun", "gevent", "openai", "httpx", "logfire"):
    if find_spec(needed) is None:  # looked for and not imported: the hosts do that, in processes of their own
        pytest.skip(f"{needed} (pip install -e '.[dev]')", allow_module_level=True)

MODEL = """
import pydantic
from typing import Any
from otel_agent_telemetry import TelemetryClient
class State(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    client: TelemetryClient
    run: Any
client = TelemetryClient()
with client.track_run("agent", "job") as run:
    copied = State(client=client, run=run).model_copy(deep=True)
    assert copied.client is client and copied.run is run
    del copied
    run.log_event("after")
"""


def test_a_pydantic_model_of_the_application_may_hold_them(config):
    """model_copy(deep=True) gives a model with the same client and run."""
    run_host(config, MODEL)

    assert [line["event_type"] for line in journal_lines(config, "event")] == ["after"]


FROZEN = """
from freezegun import freeze_time
if sys.argv[1] == "imported before":
    from otel_agent_telemetry import TelemetryClient
    client = TelemetryClient()
    with client.track_run("agent", "job"):
        pass
with freeze_time("2012-01-14"):
    from otel_agent_telemetry import TelemetryClient
    client = TelemetryClient()
    ids = set()
    for number in range(5):
        with client.track_run("agent", "job") as run:
            run.log_event("event")
            ids.add(run.run_id)
    assert len(ids) == 5
    assert client.flush(30)
with client.track_run("agent", "job", run_id="through") as run:
    with freeze_time("2040-01-01") as frozen:
        run.log_event("frozen")
        frozen.tick(1000)
with client.track_run("agent", "job") as run:
    run.log_event("event")
assert client.flush(30)
client.close()
"""


@pytest.mark.parametrize("when", ["imported before", "imported while frozen"])
def test_freezegun(config, when):
    """Time frozen by freezegun, also while our modules are imported first: all runs are kept, also afterwards."""
    run_host(config, FROZEN, when, options=())

    rows = rows_of(config)
    assert len(rows) == 7 + (when == "imported before")
    assert {row["status"] for row in rows.values()} == {"success"}
    assert rows["through"]["duration_ms"] < 3_600_000


GEVENT = """
if sys.argv[1] == "first":
    from gevent import monkey
    monkey.patch_all()
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("agent", "job", run_id="before"):
    pass
if sys.argv[1] == "late":
    import warnings
    warnings.simplefilter("ignore")
    from gevent import monkey
    monkey.patch_all()
import gevent

def work(number):
    with client.track_run("agent", "job", run_id=f"green-{number}") as run:
        gevent.sleep(0.001)
        run.log_event("event")

jobs = [gevent.spawn(work, number) for number in range(20)]
gevent.joinall(jobs, raise_error=True)
assert client.flush(30)
"""


@pytest.mark.parametrize("when", ["first", "late"])
def test_gevent(config, when):
    """Everything patched by gevent before us, and after our first run: all runs are delivered, the program ends."""
    run_host(config, GEVENT, when, options=(), quiet=False)

    assert len(rows_of(config)) == 21


class ModelServer(BaseHTTPRequestHandler):
    """Answers each chat completion with one word."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "word"}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "fake",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        content = orjson.dumps(answer)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Write nothing."""


@pytest.fixture
def model_server():
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 100

    with Server(("127.0.0.1", 0), ModelServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


RECORDING = """
from otel_agent_telemetry import TelemetryClient
telemetry = TelemetryClient()
telemetry.end_run(telemetry.start_run("agent", "job"))  # the background begins
around = lambda: telemetry.track_run("agent", "job")
"""

BARE = """
import contextlib
around = contextlib.nullcontext
"""

OPENAI = """
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="key", max_retries=0, timeout=30)
failed = []
for number in range(40):
    try:
        with around():
            answer = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "word"}])
            assert answer.choices[0].message.content == "word"
    except Exception as problem:
        failed.append(repr(problem))
assert not failed, (len(failed), failed[0])
"""

HTTPX = """
import httpx
failed = []
for number in range(40):
    try:
        with around(), httpx.Client(timeout=30, verify=False) as client:  # loading the authorities is most of a client
            assert client.post(sys.argv[1], json={"a": 1}).status_code == 200
    except Exception as problem:
        failed.append(repr(problem))
assert not failed, (len(failed), failed[0])
"""


@pytest.mark.parametrize(("library", "target"), [("openai", "sqlite"), ("httpx", "sqlite"), ("httpx", "service")])
def test_forty_calls_in_each_of_eight_processes(config, service, model_server, library, target):
    """Imported by the application while our background begins: no call fails, with us as without us."""
    service.takes_lines = True
    calls = {"openai": OPENAI, "httpx": HTTPX}[library]
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_DB_SYNCHRONOUS": "OFF"}
    if target == "service":
        # The service of this test takes runs only, and delivery would say so.
        env |= {"TELEMETRY_API_URL": service.url, "TELEMETRY_DELIVER": "runs"}
    bare = run_host(config, BARE + calls, model_server, options=(), env={"PYTHONWARNINGS": "default"}, quiet=False)
    assert not bare

    processes = [Process(PRELUDE + RECORDING + calls, model_server, env=env) for _ in range(8)]
    ended = [process.end(within_s=4 * PATIENCE_S) for process in processes]

    assert [(status, err) for status, _, err in ended] == [(0, "")] * 8
    states = [line["status"] for line in journal_lines(config, "run") if line["status"] != "running"]
    assert states == ["success"] * 8 * 41


LOGFIRE = """
import logfire, otel_agent_telemetry
logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
assert otel_agent_telemetry.instrument()
with logfire.span("work", a=1) as span:
    with logfire.span("step"):
        pass
    logfire.info("a log")
try:
    with logfire.span("fails"):
        raise ValueError("of the application")
except ValueError:
    pass
logfire.force_flush()
"""


def test_spans_of_logfire_are_recorded(config):
    """Logfire wraps spans: runs, their ends and their errors are kept."""
    run_host(config, LOGFIRE, options=(), quiet=False)

    ended = {line["job_type"]: line["status"] for line in journal_lines(config, "run") if line["status"] != "running"}
    assert ended == {"work": "success", "fails": "failed"}


BEHIND_POSTGRESQL = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
at_start = set(sys.modules)
assert "psycopg" in at_start
with client.track_run("agent", "job") as run:
    run.log_event("event")
assert client.flush(30)
client.close()
ours_and_standard = {"otel_agent_telemetry", *sys.stdlib_module_names}
new = [name for name in set(sys.modules) - at_start if name.partition(".")[0] not in ours_and_standard]
assert not new, new
"""


def test_no_third_party_module_is_imported_behind_the_application_over_postgresql(config, postgres):
    """SQLAlchemy, Alembic and the driver are imported by TelemetryClient(), none of their parts on a thread of ours."""
    run_host(config, BEHIND_POSTGRESQL, env={"TELEMETRY_DATABASE_URL": postgres.make_url()})
