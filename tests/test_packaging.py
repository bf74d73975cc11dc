"""What is published: the wheel has what a user runs, the source distribution what its tests need."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from scripts.try_packages import USES

ROOT = Path(__file__).resolve().parents[1]


def tracked():
    """The files that the repository has; those of a checkout without git are all there are."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    return {name for name in names if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Names of the files in the wheel and in the source distribution, and the metadata, built from a copy."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    names = tracked() or {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel_path,), (sdist_path,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel_path) as wheel:
        in_wheel = set(wheel.namelist())
        (about,) = (name for name in in_wheel if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(about))
    with tarfile.open(sdist_path) as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}
    return in_wheel, in_sdist, metadata


def test_the_wheel_has_every_file_of_the_package_and_the_licence(built):
    """Templates, styles, migrations and the folder for PYTHONPATH, which no import names."""
    in_wheel, _, _ = built
    package = {name for name in tracked() if name.startswith("otel_agent_telemetry/")}
    assert package - in_wheel == set()
    assert "otel_agent_telemetry/otel/at_start/sitecustomize.py" in in_wheel
    assert any(name.endswith("/licenses/LICENSE") for name in in_wheel)
    assert [name for name in in_wheel if name.startswith(("tests/", "docs/"))] == []


def test_the_source_distribution_has_tests_docs_and_examples(built):
    """From it the tests run; only what a checkout alone needs is missing."""
    _, in_sdist, _ = built
    missing = {name for name in tracked() - in_sdist if not Path(name).name.startswith(".") and "/." not in name}
    assert {name for name in missing if not name.startswith((".ci/", ".github/"))} == set()
    assert "LICENSE" in in_sdist


def test_the_metadata_says_what_it_is_and_for_whom(built):
    """As an index shows it."""
    _, _, metadata = built
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "opentelemetry" in metadata["Keywords"]
    assert metadata.get_payload().startswith("# otel-agent-telemetry")
    assert set(metadata.get_all("Provides-Extra")) >= {"service", "grpc", "postgres", "export", "cost", "zstd", "otlp"}


def test_the_release_publishes_without_a_token_what_was_tried():
    """By the identity of the workflow, which the job that builds does not have; `make` knows the targets."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in build
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert publish["steps"][-1]["with"] == {"attestations": True}
    assert "secrets." not in str(workflow)
    (command,) = (step["run"] for step in build["steps"] if step.get("run", "").startswith("make "))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(command.split()[1:]) <= targets


def test_every_extra_is_tried():
    """`make packages` installs each one that a user may name."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    assert set(USES) == {"", *extras} - {"dev", "frameworks"}
