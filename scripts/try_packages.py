"""Install the wheel, alone and with each extra, into an empty environment, use what the extra is for, and print sizes.

Called as `python scripts/try_packages.py WHEEL [EXTRA …]`; without names all are tried. Needs an index and minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

CONSTRAINTS: Final = Path(__file__).resolve().parents[1] / "constraints.txt"

_RECORD: Final = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("packaged", "try", run_id="tried") as run:
    usage = {"model_calls": 1, "models": ["gpt-4.1-mini"], "input_tokens": 1000000, "output_tokens": 0}
    run.set_metrics(metrics_json={"gen_ai": {**usage, "by_model": {"gpt-4.1-mini": {"provider": "openai", **usage}}}})
client.flush()
"""
_SERVE: Final = """
agent-telemetry serve --port 0 >served.txt 2>&1 & service=$!
for _ in $(seq 100); do grep -q http: served.txt && break; sleep 0.2; done
url=$(grep -oE "http://[0-9.:]+" served.txt | head -1)
python -c 'import sys, urllib.request as web; web.urlopen(sys.argv[1] + "/health")' "$url"
kill $service; wait $service
"""
_WITHOUT_SERVICE: Final = """
agent-telemetry show tried
agent-telemetry doctor
! agent-telemetry serve 2>missing.txt
grep -F "otel-agent-telemetry[service]" missing.txt
"""
_COST: Final = """
agent-telemetry runs --json | python -c 'import json, sys; assert json.load(sys.stdin)[0]["cost_usd"] > 0'
"""
_EXPORT: Final = """
agent-telemetry export --format parquet --output runs.parquet
python -c 'import pyarrow.parquet as parquet; assert parquet.read_table("runs.parquet").num_rows == 1'
"""
USES: Final = {
    "": _WITHOUT_SERVICE,
    "service": _SERVE,
    "grpc": f"export TELEMETRY_OTLP_GRPC_PORT=18767\n{_SERVE}\ngrep gRPC served.txt",
    "postgres": "python -c 'import psycopg; psycopg.pq.version()'",
    "cost": _COST,
    "otlp": "TELEMETRY_OTLP_ENABLED=true agent-telemetry doctor",
    "export": _EXPORT,
    "zstd": "python -c 'import zstandard'",
    "all": _SERVE + _COST + _EXPORT,
}
"""Extra → what is done with it after a run was recorded, as lines of a shell that ends at the first failure."""


def main() -> None:
    """Try the extras named on the command line; exit with 1 at the first that does not work."""
    wheel = Path(sys.argv[1]).resolve()
    print("| extra | packages | MB |\n|---|---|---|")
    for extra in sys.argv[2:] or USES:
        with tempfile.TemporaryDirectory() as folder:
            packages, megabytes = _try(wheel, extra, Path(folder))
        print(f"| {f'`{extra}`' if extra else '(none)'} | {packages} | {megabytes} |", flush=True)


def _try(wheel: Path, extra: str, folder: Path) -> tuple[int, int]:
    """Install, record a run, use the extra; return how many packages there are and how large they are."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    before = _size(folder / "venv")
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    subprocess.run([*pip, "install", "--quiet", "-c", str(CONSTRAINTS), what], check=True)
    grown = _size(folder / "venv") - before
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True)
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "TELEMETRY_BASE_DIR": str(folder / "base"),
        "TELEMETRY_DISCOVER_SERVICE": "false",
    }
    subprocess.run([str(python), "-c", _RECORD], check=True, env=environment, cwd=folder)
    shell = shutil.which("bash") or "/bin/bash"
    subprocess.run([shell, "-euc", USES[extra]], check=True, env=environment, cwd=folder, stdout=sys.stderr)
    own = sum(not line.startswith(("pip==", "setuptools==")) for line in listed.stdout.splitlines())
    return own, round(grown / 1e6)


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
