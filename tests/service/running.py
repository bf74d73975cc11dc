"""The real service for tests: in a thread of this process, or as the command in a subprocess."""

from __future__ import annotations

import re
import signal
import ssl
import sys
import threading
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path

import httpx
import uvicorn
from on_disk import PATIENCE_S, child_environment, eventually

from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.server import _options, address_of, bound
from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.storage.tables import metadata
from tests.service.warm_command import WarmCommand

COMMAND = (sys.executable, "-m", "otel_agent_telemetry.cli")
TIMEOUT_S = 60.0
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of http://: loading the authorities is most of what making a client takes. It accepts no certificate."""
_SERVING = re.compile(r"serving .* at (https?://\S+)")
_DELETIONS = tuple(f"DELETE FROM {table.name}" for table in metadata.sorted_tables)


class _Server(uvicorn.Server):
    """A server with an event that is set once it listens."""

    def __init__(self, config):
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.ready.set()


class Service:
    """A running service at `url`. `client` sends the token when one is required."""

    def __init__(self, settings, url, app=None):
        self.settings = settings
        self.url = url
        self.app = app
        self.client = self.new_client()

    @cached_property
    def engine(self):
        """An engine of its own on the database of the service."""
        return make_engine(self.settings)

    def close(self):
        """Close the connections of this object; the service goes on."""
        self.client.close()
        if "engine" in vars(self):
            self.engine.dispose()

    def new_client(self, **more):
        """Return a client with its own connections; `headers={}` omits the token."""
        checks = {"verify": _NO_AUTHORITIES} if self.url.startswith("http://") else {}
        return httpx.Client(
            **{"base_url": self.url, "timeout": TIMEOUT_S, "headers": self._headers(), **checks, **more}
        )

    def _headers(self):
        token = self.settings.api_auth_token if self.settings is not None else None
        return {b"Authorization": b"Bearer " + token.encode()} if token else {}


@contextmanager
def running(settings, *, clock=None):
    """Run the real app under uvicorn on a free port of loopback, its event loop in a thread.

    Opens and closes the backend as `server.serve` does, so a refusal to start is raised here.
    """
    settings = settings.with_(api_host="127.0.0.1")
    app = create_app(settings, clock=clock)
    backend = app.state.backend
    backend.open()
    try:
        listener = bound("127.0.0.1", 0)
        url = address_of(settings, listener)
        backend.announce(url)
        service = Service(settings, url, app)
        with closing(service), _serving(app, settings, listener):
            yield service
    finally:
        backend.close()


@contextmanager
def _serving(app, settings, listener):
    server = _Server(uvicorn.Config(app, **{**_options(settings), "timeout_graceful_shutdown": 5}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="service", daemon=True)
    thread.start()
    try:
        assert server.ready.wait(PATIENCE_S), "the service did not begin to listen"
        assert server.started
        yield
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()
        assert not thread.is_alive(), "the service did not end"


class ServiceProcess(Service):
    """`agent-telemetry serve` as a process. Its log goes to a file, so that a full pipe cannot block it."""

    def __init__(self, popen, log_path, url, ca_file=None):
        self._ca_file = ca_file
        super().__init__(None, url)
        self.popen = popen
        self.pid = popen.pid
        self.log_path = log_path

    def new_client(self, **more):
        """Return a client as `Service.new_client` does, which knows the certificate of this service."""
        if self._ca_file is None:
            return super().new_client(**more)
        return super().new_client(verify=ssl.create_default_context(cafile=self._ca_file), **more)

    @property
    def log(self):
        """Return what it has logged so far."""
        return self.log_path.read_text()

    def kill(self):
        """Send SIGKILL and wait for the end."""
        self.popen.kill()
        self.popen.wait(PATIENCE_S)

    def terminate(self):
        """Send SIGTERM and return the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE_S * 2)

    def rss_bytes(self):
        """Return the resident memory of the process."""
        return _status_bytes(self.pid, "VmRSS")

    def peak_rss_bytes(self):
        """Return the peak resident memory of the process."""
        return _status_bytes(self.pid, "VmHWM")


def _status_bytes(pid, name):
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@contextmanager
def serve_process(base_dir, env=None, *, port=0, ca_file=None):
    """Run a real `agent-telemetry serve` over `base_dir`; it is killed at the end. `ca_file`: checks its certificate."""
    log_path = Path(base_dir).with_name(f"{Path(base_dir).name}.service.log")
    with log_path.open("w") as log:
        arguments = ("--base-dir", base_dir, "serve", "--port", port)
        popen = WarmCommand(arguments, env=child_environment(env), output=log)
    try:
        url = eventually(lambda: _address_in(log_path, popen))
        service = ServiceProcess(popen, log_path, url, ca_file)
        with service.client:
            eventually(lambda: _answers(service))
            yield service
    finally:
        with suppress(ProcessLookupError):
            popen.kill()
        popen.wait(PATIENCE_S)


def _address_in(log_path, popen):
    text = log_path.read_text()
    assert popen.poll() is None, f"the service ended with {popen.returncode}: {text}"
    found = _SERVING.search(text)
    return found[1] if found else None


def _answers(service):
    with suppress(httpx.TransportError):
        return service.client.get("/version").status_code == httpx.codes.OK
    return False


def emptied(service):
    """Return the service after deleting its rows and clearing its caches."""
    # One statement by the driver alone: every test of a shared service waits for it.
    with writing(service.engine, "emptying") as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(no_parameters=True).exec_driver_sql(";".join(_DELETIONS))
        else:
            for deletion in _DELETIONS:
                connection.exec_driver_sql(deletion)
    service.app.state.field_values.clear()
    return service
