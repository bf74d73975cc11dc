"""The Dockerfiles: what they copy and install, and their commands run here as they stand, on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib.metadata import metadata
from pathlib import Path

import httpx
import pytest
from collectors import collecting
from deployment import command_of, compose, environment_of, mounts_of, port_of, stage
from on_disk import PATIENCE_S, ROOT, child_environment, eventually
from prometheus_server import CONFIG

from tests.service.writing_agents import quiet_port


def test_the_image_of_the_service_copies_what_there_is():
    """Each path exists and is not left out by the ignore file, which lets nothing else in."""
    copied = {word for line in copies("Dockerfile") for word in line.split()[:-1]}
    assert copied == {"pyproject.toml", "constraints.txt", "README.md", "otel_agent_telemetry"}
    assert all((ROOT / name).exists() for name in copied)
    assert let_in("Dockerfile.dockerignore") == copied


def test_the_image_of_the_collector_copies_what_there_is():
    """And runs the script that `make collector` runs."""
    copied = {word for line in copies("Dockerfile.collector") for word in line.split()[:-1]}
    assert copied == {"builder.yaml", "build.sh"}
    assert all((CONFIG / name).exists() for name in copied)
    assert let_in("Dockerfile.collector.dockerignore") == copied
    assert os.access(CONFIG / "build.sh", os.X_OK)


def copies(name):
    """COPY lines that take from the checkout, not from another stage."""
    return re.findall(r"^COPY (?!--)(.+)$", (CONFIG / name).read_text(), re.MULTILINE)


def let_in(name):
    lines = (CONFIG / name).read_text().splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


def test_the_image_installs_what_the_package_offers():
    """Extras by their names, versions by constraints.txt."""
    (wanted,) = re.findall(
        r"pip install --no-cache-dir -c constraints.txt '\.\[(.+)\]'", (CONFIG / "Dockerfile").read_text()
    )
    assert set(wanted.split(",")) <= set(metadata("otel-agent-telemetry").get_all("Provides-Extra"))
    assert "service" in wanted.split(",")


@pytest.mark.parametrize(("name", "folder"), [("Dockerfile", "/data"), ("Dockerfile.collector", None)])
def test_containers_do_not_run_as_root(name, folder):
    """And what they write is a volume."""
    (user,), (volume,) = stage(name)["USER"], stage(name)["VOLUME"]
    assert user.split(":")[0] not in ("root", "0")
    service = next(
        of for of in compose()["services"].values() if of.get("build", {}).get("dockerfile", "").endswith(name)
    )
    assert any(mount.split(":")[1] == volume for mount in service["volumes"])
    assert folder in (None, volume)


def test_the_command_of_the_image_serves_and_ends(tmp_path):
    """ENTRYPOINT and CMD with the image's own environment: healthy by HEALTHCHECK, a token asked for, 0 on SIGTERM."""
    with service_of_image(tmp_path, TELEMETRY_API_AUTH_TOKEN="not-to-be-shown") as (popen, env):
        url = f"http://127.0.0.1:{env['TELEMETRY_API_PORT']}"
        eventually(lambda: health_of_image(env) == 0)
        assert httpx.get(f"{url}/metrics").status_code == 401
        with_token = {"Authorization": "Bearer not-to-be-shown"}
        assert httpx.get(f"{url}/metrics/prometheus", headers=with_token).status_code == 200
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(PATIENCE_S) == 0
    assert health_of_image(env) != 0
    assert (tmp_path / "data/db/telemetry.sqlite").exists()


def test_the_image_does_not_serve_a_network_without_a_token(tmp_path):
    """It says what is missing and ends."""
    with service_of_image(tmp_path) as (popen, _):
        assert popen.wait(PATIENCE_S) != 0
    assert "TELEMETRY_API_AUTH_TOKEN" in (tmp_path / "log").read_text()


@contextmanager
def service_of_image(folder, **settings):
    """The image's command here: on loopback, a free port and a folder of the test; everything else as in the image."""
    own = {"TELEMETRY_BASE_DIR": str(folder / "data"), "TELEMETRY_API_HOST": "127.0.0.1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = child_environment({**environment_of("Dockerfile"), "PATH": path, **own, **settings})
    env["TELEMETRY_API_PORT"] = str(quiet_port())
    with (folder / "log").open("w") as log:
        popen = subprocess.Popen(command_of("Dockerfile"), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield popen, env
    finally:
        with suppress(ProcessLookupError):
            popen.kill()
        popen.wait(PATIENCE_S)


def health_of_image(env):
    """The exit code of the image's HEALTHCHECK."""
    (line,) = stage("Dockerfile")["HEALTHCHECK"]
    command = json.loads(line.partition("CMD ")[2])
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=PATIENCE_S).returncode


def test_the_health_check_of_the_collector_tells_up_from_down(collector_binary, tmp_path):
    """The command of the compose file against a collector that runs, and one that was killed."""
    with collecting(collector_binary, tmp_path / "gateway", "gateway.yaml") as collector:
        port = port_of(collector.health_url)
        assert health_of_gateway(port) == 0
        collector.kill()
        assert health_of_gateway(port) != 0


def health_of_gateway(port):
    service = compose()["services"]["gateway"]
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    there = port_of(service["environment"]["COLLECTOR_HEALTH"])
    here = [word.replace(f"/{there} ", f"/{port} ") for word in command]
    return subprocess.run(here, capture_output=True, check=False, timeout=PATIENCE_S).returncode


def test_the_collector_is_started_with_what_its_file_needs(collector_binary):
    """Name, configuration and flags of the image's command; the file is mounted where it is looked for."""
    name, *arguments = command_of("Dockerfile.collector")
    (config,) = [word.removeprefix("--config=") for word in arguments if word.startswith("--config=")]
    assert mounts_of("gateway")[config] == "./gateway.yaml"
    assert collector_binary.name.startswith(name)
