"""The manifests of collector-config/kubernetes, as far as they can be proved without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml
from components import require
from on_disk import PATIENCE_S, ROOT
from typer.main import get_command

from otel_agent_telemetry.cli.app import app
from otel_agent_telemetry.service.guards import OPEN_PATHS
from otel_agent_telemetry.settings import SETTINGS

FOLDER = ROOT / "collector-config/kubernetes"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


def resources():
    """Every resource of the manifests."""
    return [resource for path in MANIFESTS for resource in yaml.safe_load_all(path.read_text("utf-8"))]


def pods():
    """The specification of every pod, wherever it stands."""
    found = [resource["spec"] for resource in resources() if "template" in resource["spec"]]
    found += [resource["spec"]["jobTemplate"]["spec"] for resource in resources() if "jobTemplate" in resource["spec"]]
    return [one["template"]["spec"] for one in found]


def containers():
    """Every container, those that run first included."""
    return [one for pod in pods() for one in (*pod["containers"], *pod.get("initContainers", ()))]


def validated(*paths):
    """What Kubernetes' schema makes of manifests: whether it takes all, and its words."""
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(require("Kubernetes' schema"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_takes_the_manifests_and_would_find_a_misspelt_key(tmp_path):
    """By the schema of its API, in which no unknown key is allowed."""
    takes_all, words = validated(*MANIFESTS)
    assert takes_all, words
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MANIFESTS[0].read_text("utf-8").replace("replicas:", "replica:"))
    takes_all, words = validated(wrong)
    assert not takes_all
    assert "replica" in words


def test_they_set_what_the_package_reads():
    """Each variable is a setting, each secret is made by a command of the README."""
    known = {name for setting in SETTINGS for name in setting.variables}
    variables = [variable for one in containers() for variable in one.get("env", ())]
    assert {variable["name"] for variable in variables} <= known
    readme = (FOLDER / "README.md").read_text("utf-8")
    for variable in variables:
        if "valueFrom" in variable:
            secret = variable["valueFrom"]["secretKeyRef"]
            assert secret["name"] == "agent-telemetry-agent" or f"secret generic {secret['name']} " in readme
            assert secret["key"] == "token" or f"--from-literal={secret['key']}=" in readme


def test_they_start_commands_that_there_are():
    """Of `agent-telemetry`, which is the image's own."""
    started = {one["args"][0] for one in containers() if "args" in one}
    assert started == {"serve", "deliver", "init-db", "retention"}
    assert started <= set(get_command(app).commands)


def test_probes_ask_paths_that_need_no_token():
    """The database decides about requests, and not about restarts."""
    served = [one for one in containers() if one.get("args") == ["serve"]]
    assert len(served) == 2
    for one in served:
        assert one["readinessProbe"]["httpGet"]["path"] == "/health"
        assert one["livenessProbe"]["httpGet"]["path"] == one["startupProbe"]["httpGet"]["path"] == "/version"
        assert {port["name"] for port in one["ports"]} == {one["readinessProbe"]["httpGet"]["port"]}
    assert {"/health", "/version"} <= OPEN_PATHS


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_pods_may_do_as_little_as_they_need(pod):
    """The user of the image, no root, no token of the cluster, nothing written but on volumes."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert "--uid 10001" in (ROOT / "collector-config/Dockerfile").read_text("utf-8")
    assert not pod["automountServiceAccountToken"]
    volumes = {volume["name"] for volume in pod.get("volumes", ())} | {"runs"}
    for one in (*pod["containers"], *pod.get("initContainers", ())):
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
