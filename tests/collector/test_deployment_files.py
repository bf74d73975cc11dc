"""docker-compose.yaml and what it mounts, as far as they can be proved without a container engine.

Compose's own loader reads the file. Every path, variable, port and flag in it is held against what it is meant for.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml
from collectors import validated
from components import require
from deployment import compose, environment_of, mounts_of, port_of, stage
from on_disk import PATIENCE_S
from prometheus_server import CONFIG, program, promtool

from otel_agent_telemetry.settings import SETTINGS

OF_DRIVERS = {"PGPASSWORD"}  # read by PostgreSQL's client library


# The compose file


def test_composes_own_loader_takes_the_file():
    """Keys and types, by the library that `docker compose` reads it with."""
    said, content = loaded(CONFIG / "docker-compose.yaml")
    assert content, said
    assert set(json.loads(said)["services"]) == set(compose()["services"])


def test_composes_own_loader_would_find_a_misspelt_key(tmp_path):
    """So that the test above can fail."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((CONFIG / "docker-compose.yaml").read_text().replace("read_only:", "readonly:"))
    said, content = loaded(wrong)
    assert not content
    assert "readonly" in said


def loaded(path):
    """What Compose makes of a file, as JSON, or its complaint; and whether it took it."""
    done = subprocess.run(
        [require("Compose's loader"), "--no-interpolation", "--format=json", path],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return (done.stdout if done.returncode == 0 else done.stderr), done.returncode == 0


def test_everything_that_is_mounted_is_there():
    """Files and folders of this checkout; volumes and secrets that are declared."""
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (CONFIG / source).exists() if source.startswith(".") else source in compose()["volumes"]
            assert there, (name, volume)
        assert set(service.get("secrets", ())) <= set(compose()["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(compose()["services"]), name


def test_files_are_mounted_read_only():
    """A container changes its volumes and nothing of the checkout."""
    for service in compose()["services"].values():
        mounts = [volume for volume in service.get("volumes", ()) if volume.startswith(".")]
        assert all(volume.endswith(":ro") for volume in mounts), mounts


def test_ports_are_published_on_loopback_alone():
    """Whoever wants more puts a proxy before it."""
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert len(ports) >= 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_must_be_set_is_told_at_the_top():
    """Each variable that the file asks the environment for; secrets have no default."""
    text = (CONFIG / "docker-compose.yaml").read_text()
    head = text.split("\nname:")[0]
    asked = dict(re.findall(r"\$\{(\w+)(:[?-])", text))
    assert set(asked) == {"TELEMETRY_API_AUTH_TOKEN", "TELEMETRY_DATABASE_URL", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(name in head for name in asked)
    assert asked["TELEMETRY_API_AUTH_TOKEN"] == asked["GRAFANA_PASSWORD"] == ":?"


def test_images_are_pinned():
    """To a version, or built here."""
    for name, service in compose()["services"].items():
        assert "build" in service or re.search(r":v?\d[\w.]*$", service["image"]), name


def test_the_services_settings_are_ours():
    """In the compose file and in the image."""
    known = {variable for setting in SETTINGS for variable in setting.variables} | OF_DRIVERS
    given = set(compose()["services"]["service"]["environment"])
    ours = {name for name in environment_of("Dockerfile") if name.startswith("TELEMETRY_")}
    assert given <= known
    assert ours
    assert ours <= known


def test_the_collectors_settings_are_those_of_its_file(collector_binary):
    """Each name stands in gateway.yaml, and the collector takes the whole as it is."""
    told = compose()["services"]["gateway"]["environment"]
    given = {name: re.sub(r"\$\{.+\}", "not-to-be-shown", str(value)) for name, value in told.items()}
    asked = set(re.findall(r"\$\{env:(\w+)", (CONFIG / "gateway.yaml").read_text()))
    assert set(given) <= asked
    code, said = validated(collector_binary, f"--config={CONFIG / 'gateway.yaml'}", env=given)
    assert code == 0, said


def test_ports_agree():
    """What is published, bound, asked for health, scraped and shown as a data source."""
    services = compose()["services"]
    told = services["gateway"]["environment"]
    published = {name: {int(port.split(":")[2]) for port in of.get("ports", ())} for name, of in services.items()}
    assert published["service"] == {int(environment_of("Dockerfile")["TELEMETRY_API_PORT"])}
    assert stage("Dockerfile")["EXPOSE"] == [environment_of("Dockerfile")["TELEMETRY_API_PORT"]]
    assert told["TELEMETRY_API_URL"] == f"http://service:{environment_of('Dockerfile')['TELEMETRY_API_PORT']}"
    assert published["gateway"] == {port_of(told["COLLECTOR_OTLP_GRPC"]), port_of(told["COLLECTOR_OTLP_HTTP"])}
    assert f"/dev/tcp/127.0.0.1/{port_of(told['COLLECTOR_HEALTH'])} " in services["gateway"]["healthcheck"]["test"][-1]
    scraped = targets("prometheus.compose.yaml")
    assert scraped == {
        "agent-telemetry": "service:8765",
        "otel-collector": f"gateway:{told['COLLECTOR_METRICS_PORT']}",
        "spans": f"gateway:{port_of(told['COLLECTOR_PROMETHEUS'])}",
    }
    assert published["prometheus"] == {9090}


def targets(name):
    jobs = yaml.safe_load((CONFIG / "prometheus" / name).read_text())["scrape_configs"]
    return {job["job_name"]: job["static_configs"][0]["targets"][0] for job in jobs}


# Prometheus and Grafana


def test_both_prometheus_files_scrape_the_same():
    """But for names, and for the token that the compose file gives."""
    plain, composed = (
        yaml.safe_load((CONFIG / "prometheus" / name).read_text())
        for name in ("prometheus.yaml", "prometheus.compose.yaml")
    )
    for configuration in (plain, composed):
        for job in configuration["scrape_configs"]:
            job.pop("static_configs")
    token = composed["scrape_configs"][0].pop("authorization")
    assert composed == plain
    assert token == {"credentials_file": f"/run/secrets/{compose()['services']['prometheus']['secrets'][0]}"}
    said, content = promtool("check", "config", "--syntax-only", "prometheus.compose.yaml")
    assert content, said


def test_prometheus_knows_the_flags_and_finds_the_files():
    """Those of the command in the compose file."""
    service = compose()["services"]["prometheus"]
    known = subprocess.run([program("prometheus"), "--help"], capture_output=True, text=True, check=False)
    flags = dict(flag.split("=", 1) for flag in service["command"])
    assert all(f"{flag}=" in known.stdout + known.stderr for flag in flags)
    mounts = mounts_of("prometheus")
    assert mounts[flags["--config.file"]] == "./prometheus/prometheus.compose.yaml"
    assert str(Path(flags["--config.file"]).with_name("alerts.yaml")) in mounts
    assert flags["--storage.tsdb.path"] in mounts


def test_grafana_finds_data_source_and_dashboards():
    """The address is Prometheus' in the compose file; the folder of the dashboards is mounted where it is looked for."""
    mounts = mounts_of("grafana")
    provisioning = CONFIG / mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/agent-telemetry.yaml").read_text())["providers"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    interval = yaml.safe_load((CONFIG / "prometheus/prometheus.compose.yaml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    assert mounts[provider["options"]["path"]] == "./dashboards"
