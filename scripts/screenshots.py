"""Make the pictures of docs/page.md: the page over runs of real programs, at two widths, light and dark.

    make screenshots                       # into docs/images
    python scripts/screenshots.py FOLDER   # elsewhere, every view at every width and in both schemes

The runs are those of `examples/`, of a program that is killed, and of coding agents whose recorded
OTLP is sent as they send it. Needs Chromium.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
from playwright.sync_api import Browser, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGES: Final = ROOT / "docs/images"
EXAMPLES: Final = (
    ("indexing_agent.py", "FOLDER"),
    ("pydantic_ai_agent.py",),
    ("one_line.py",),
    ("subprocess_runs.py",),
    ("capture_skills.py",),
    ("quickstart.py",),
)
CAPTURES: Final = ROOT / "tests/emitters/captures"
KILLED: Final = """
import os, signal
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.start_run("nightly_importer", "import", item_name="orders.csv")
client.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
WIDTHS: Final = (380, 1400)
SCHEMES: Final = ("light", "dark")
IN_DOCS: Final = {("runs", 1400, "light"), ("coding", 1400, "light"), ("coding", 1400, "dark"), ("runs", 380, "light"),
                  ("agents", 1400, "light"), ("agent", 1400, "light"), ("compare", 1400, "light")}  # fmt: skip
_STARTED: Final = re.compile(r"serving .* at (http://\S+)")
_PATIENCE_S: Final = 60.0


def make_runs(environment: dict[str, str], folder: Path) -> None:
    """Run the examples, over a folder with a file that cannot be parsed, and a program that is killed."""
    for name in ("buffer", "capture", "delivery"):
        shutil.copytree(ROOT / "otel_agent_telemetry" / name, folder / name)
    (folder / "delivery/unfinished.py").write_text("def unfinished(:\n")
    for name, *arguments in EXAMPLES:
        words = [str(folder) if word == "FOLDER" else word for word in arguments]
        # The indexing agent ends with 1, because of the file that cannot be parsed.
        subprocess.run([sys.executable, ROOT / "examples" / name, *words], env=environment, check=False)
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)


@contextmanager
def service(environment: dict[str, str]) -> Iterator[str]:
    """Serve the runs; yield the address."""
    command = [sys.executable, "-m", "otel_agent_telemetry.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(found[1] for line in process.stderr if (found := _STARTED.search(line)))
        finally:
            process.send_signal(signal.SIGTERM)


def send_captures(url: str) -> None:
    """Send what coding agents have sent, as they send it."""
    for path in sorted(CAPTURES.glob("*_traces_*.json")):
        request = json.loads(path.read_text("utf-8"))
        httpx.post(url + request["path"], json=request["body"], timeout=_PATIENCE_S).raise_for_status()


def newest(url: str, **filters: str) -> dict[str, object]:
    """Return the newest run that has these values, once it is there."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        found: list[dict[str, object]] = httpx.get(f"{url}/api/v1/runs", params={**filters, "limit": "1"}).json()
        if found:
            return found[0]
        time.sleep(0.2)
    raise SystemExit(f"no run with {filters} arrived within {_PATIENCE_S:g} s")


def views(url: str) -> dict[str, str]:
    """Return the views by name, with the address of each."""
    run = newest(url, agent_name="indexing_agent", status="partial")
    other = newest(url, agent_name="indexing_agent", status="success")
    coding = newest(url, agent_name="github-copilot")
    found = {
        "runs": "/",
        "failed": "/?status=failed",
        "nothing": "/?text=no-such-text",
        "run": f"/runs/{run['event_id']}",
        "coding": f"/runs/{coding['event_id']}",
        "killed": f"/runs/{newest(url, agent_name='nightly_importer')['event_id']}",
        "agents": "/agents",
        "agent": "/agents?agent=indexing_agent",
        "cost": "/cost",
        "compare": f"/compare?run={run['event_id']}&run={other['event_id']}",
        "status": "/status",
    }
    if coding["session_id"]:
        found["session"] = f"/sessions/{coding['session_id']}"
    return found


def take(browser: Browser, url: str, folder: Path, *, only: set[tuple[str, int, str]] | None) -> None:
    """Write a picture of each view, width and scheme into a folder."""
    for name, address in views(url).items():
        for width in WIDTHS:
            for scheme in SCHEMES:
                if only is not None and (name, width, scheme) not in only:
                    continue
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(url + address)
                page.wait_for_timeout(300)  # plots are drawn after the page
                page.screenshot(path=folder / f"page-{name}-{width}-{scheme}.png", full_page=True)
                page.close()


def main() -> None:
    """Make the runs in a folder of their own, serve them, take the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        environment = {**os.environ, "TELEMETRY_BASE_DIR": f"{temporary}/base", "PYTHONPATH": str(ROOT)}
        make_runs(environment, Path(temporary) / "project")
        with service(environment) as url:
            send_captures(url)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser, url, folder, only=IN_DOCS if folder == IMAGES else None)


if __name__ == "__main__":
    main()
