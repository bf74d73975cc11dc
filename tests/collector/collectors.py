"""The real collector for the tests: what `make collector` built, started with the files that operators run."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager, suppress

import httpx
from on_disk import PATIENCE_S, ROOT, child_environment, eventually

from tests.service.writing_agents import quiet_port

FILES = ROOT / "collector-config"
NO_GAP = "--feature-gates=stanza.synchronousLogEmitter"
"""What agent.yaml wants to be started with; harmless with the others."""


def validated(binary, *arguments, env=None):
    """Exit code and errors of the collector's own check of a configuration."""
    done = subprocess.run(
        [binary, "validate", NO_GAP, *arguments],
        env=child_environment(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stderr


class Collector:
    """A collector with ports and a state folder of its own, which it keeps over `kill` and `start`.

    Its log is appended to `log_path`. `env` are settings besides the ports: `TELEMETRY_API_URL`,
    `COLLECTOR_GATEWAY_URL` …
    """

    def __init__(self, binary, folder, *names, env=None):
        self.folder = folder
        self.log_path = folder / "collector.log"
        self.popen = None
        self._command = [binary, NO_GAP, *(f"--config={FILES / name}" for name in names)]
        self._env = {
            "COLLECTOR_STATE_DIR": str(folder / "state"),
            "COLLECTOR_RETRY_MAX": "1s",
            "COLLECTOR_METRICS_INTERVAL": "200ms",
            **(env or {}),
        }
        self._take_ports()

    def _take_ports(self):
        ports = {name: quiet_port() for name in ("grpc", "http", "health", "prometheus", "own")}
        self.grpc_address = f"127.0.0.1:{ports['grpc']}"
        self.url = f"http://127.0.0.1:{ports['http']}"
        self.health_url = f"http://127.0.0.1:{ports['health']}"
        self.prometheus_url = f"http://127.0.0.1:{ports['prometheus']}/metrics"
        self.own_metrics_url = f"http://127.0.0.1:{ports['own']}/metrics"
        self._ports = {
            "COLLECTOR_OTLP_GRPC": self.grpc_address,
            "COLLECTOR_OTLP_HTTP": f"127.0.0.1:{ports['http']}",
            "COLLECTOR_HEALTH": f"127.0.0.1:{ports['health']}",
            "COLLECTOR_PROMETHEUS": f"127.0.0.1:{ports['prometheus']}",
            "COLLECTOR_METRICS_PORT": str(ports["own"]),
        }

    def start(self, **env):
        """Start, or start again after `kill`; returns when it takes telemetry. `env` changes settings."""
        self._env |= env
        self.folder.mkdir(parents=True, exist_ok=True)
        is_new = self.popen is None
        self._run()
        eventually(lambda: self._is_healthy(may_move=is_new))
        return self

    def _run(self):
        with self.log_path.open("a") as log:
            self.popen = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=child_environment({**self._ports, **self._env}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(PATIENCE_S)

    def terminate(self):
        """SIGTERM, as systemd ends it; its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE_S)

    @property
    def log(self):
        """All that it wrote so far."""
        return self.log_path.read_text()

    def series(self, url=None):
        """`name{labels}` → value of what it shows to Prometheus: of spans by default, or `own_metrics_url`."""
        lines = httpx.get(url or self.prometheus_url).raise_for_status().text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _is_healthy(self, *, may_move):
        if self.popen.poll() is not None:
            assert may_move, f"the collector ended with {self.popen.returncode}: {self.log}"
            assert "address already in use" in self.log, self.log
            # Between the choice of a port and the collector's start, another process has taken it.
            self.log_path.unlink()
            self._take_ports()
            self._run()
            return False
        with suppress(httpx.TransportError):
            return httpx.get(self.health_url).status_code == httpx.codes.OK
        return False


@contextmanager
def collecting(binary, folder, *names, env=None):
    """A started collector over files of collector-config/; it is killed at the end when it still runs."""
    collector = Collector(binary, folder, *names, env=env)
    try:
        yield collector.start()
    finally:
        collector.kill()
