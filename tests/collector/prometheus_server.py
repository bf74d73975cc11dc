"""A real Prometheus for the tests: Debian's package, on loopback, with the configuration that users get."""

from __future__ import annotations

import math
import shutil
import subprocess
from contextlib import contextmanager, suppress

import httpx
from components import require
from on_disk import PATIENCE_S, ROOT, eventually

CONFIG = ROOT / "collector-config"
SCRAPE_S = 1
_TIMEOUT_S = 10.0


def program(name):
    """The path of `prometheus` or `promtool`."""
    return require("Prometheus")[name]


def promtool(*arguments, cwd=CONFIG / "prometheus"):
    """Run promtool; what it printed, and whether it was content."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, done.returncode == 0


class Prometheus:
    """One that scrapes; `query` asks it over its HTTP API."""

    def __init__(self, url):
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S)

    def get(self, path, **parameters):
        """The `data` of an answer; fails the test with Prometheus' own words when it is none."""
        answer = self._client.get(path, params=parameters)
        body = answer.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    def query(self, expression):
        """Labels and value of each series that an expression gives now."""
        found = self.get("/api/v1/query", query=expression)
        assert found["resultType"] == "vector", (expression, found["resultType"])
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    def has_data(self, expression):
        """Whether an expression gives a series with a number; shares of nothing are none."""
        return any(not math.isnan(value) for _, value in self.query(expression))

    def healthy(self):
        """Job → whether its last scrape went well, and why not."""
        return {
            target["labels"]["job"]: (target["health"] == "up", target["lastError"])
            for target in self.get("/api/v1/targets", state="active")["activeTargets"]
        }

    def close(self):
        self._client.close()


@contextmanager
def running_prometheus(folder, targets, *, port):
    """Prometheus over our prometheus.yaml with other `targets`, `{"127.0.0.1:8765": "127.0.0.1:41234"}`, every second."""
    shutil.copytree(CONFIG / "prometheus", folder / "prometheus")
    config = folder / "prometheus/prometheus.yaml"
    config.write_text(_rendered(config.read_text(), targets))
    command = (
        *(program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h"),
    )
    with (folder / "prometheus.log").open("w") as log:
        popen = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: _ready(server, popen, folder))
        yield server
    finally:
        server.close()
        with suppress(ProcessLookupError):
            popen.terminate()
        popen.wait(PATIENCE_S)


def _rendered(text, targets):
    for told, real in targets.items():
        assert text.count(f"[{told}]") == 1, told
        text = text.replace(f"[{told}]", f"[{real}]")
    assert text.count("_interval: 15s") == 2
    return text.replace("_interval: 15s", f"_interval: {SCRAPE_S}s")


def _ready(server, popen, folder):
    assert popen.poll() is None, (folder / "prometheus.log").read_text()
    try:
        return httpx.get(f"{server.url}/-/ready", timeout=_TIMEOUT_S).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
