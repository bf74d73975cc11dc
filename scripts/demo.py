"""What `make demo` shows: an agent's runs, a failure, a killed process, then the page.

    [1/4] an agent answers questions about this repository   real runs with steps, tokens and cost
    [2/4] a question that its model cannot answer             a failed run with its cause
    [3/4] a question during which the agent is killed          a run that the next delivery closes
    [4/4] the page                                             until a key is pressed

With `DEMO=once`, and without a terminal, it ends by itself. Its data lie in the folder that
`TELEMETRY_BASE_DIR` names, which `make demo` sets to `.demo`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
EXAMPLES: Final = ROOT / "examples"
COMMAND: Final = (sys.executable, "-m", "otel_agent_telemetry.cli")
QUESTIONS: Final = (
    "Where is a custom run id checked?",
    "Which code closes the runs of killed processes?",
    "Where are secrets masked in texts?",
)
PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.1


def main() -> int:
    """Run the four parts. Return 1 when one of them does not show what it is to show."""
    began = time.monotonic()
    with _output_of([sys.executable, str(EXAMPLES / "scripted_model.py"), "0"]) as model_url:
        os.environ["MODEL_URL"] = model_url
        _title(1, "an agent answers questions about this repository")
        _ask(*QUESTIONS)
        subprocess.run([sys.executable, EXAMPLES / "indexing_agent.py", ROOT / "otel_agent_telemetry"], check=True)
        _title(2, "a question that its model cannot answer")
        _ask("What happens while the model is overloaded?", code=1)
        _title(3, "a question during which the agent is killed (kill -9)")
        _kill_at_work("Why are slow disks no danger?")
    _telemetry("runs")
    for name in (QUESTIONS[1], "What happens while the model is overloaded?", "Why are slow disks no danger?"):
        print(f"\n$ agent-telemetry show …   # {name}")
        _telemetry("show", _run_id(name))
    print(f"\nAll of this took {time.monotonic() - began:.0f} s. The data lie in {os.environ['TELEMETRY_BASE_DIR']}.")
    _title(4, "the page")
    _serve()
    return 0


def _title(number: int, text: str) -> None:
    """Print what comes next."""
    print(f"\n[{number}/4] {text}", flush=True)


def _agent(*questions: str) -> list[str]:
    """Return the command that asks the agent."""
    return [sys.executable, str(EXAMPLES / "repository_guide.py"), str(ROOT / "otel_agent_telemetry"), *questions]


def _ask(*questions: str, code: int = 0) -> None:
    """Let the agent answer. Raises SystemExit when it ends otherwise than expected."""
    found = subprocess.run(_agent(*questions), check=False).returncode
    if found != code:
        raise SystemExit(f"the agent ended with {found}, not {code}")


def _kill_at_work(question: str) -> None:
    """Kill the agent once its first tool call has been recorded."""
    journal = Path(os.environ["TELEMETRY_BASE_DIR"], "raw")
    with subprocess.Popen(_agent(question)) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not _has_tool_call(journal):
            if time.monotonic() > deadline:
                raise SystemExit("the agent did not begin to work")
            time.sleep(_LOOK_S)
        process.kill()
    print(f"{question}\n  killed: process {process.pid}", flush=True)


def _has_tool_call(journal: Path) -> bool:
    """Return whether an open run has two steps that have ended: a model call and the tool call that it asked for."""
    lines = [json.loads(line) for path in sorted(journal.glob("*.ndjson")) for line in path.read_text().splitlines()]
    ended = {line["run_id"] for line in lines if line["record_type"] == "run" and line["status"] != "running"}
    steps = [line for line in lines if line["record_type"] == "span" and line["run_id"] not in ended]
    return sum(bool(step.get("end_time")) for step in steps) >= 2  # noqa: PLR2004 - the two of the docstring


def _telemetry(*arguments: str) -> None:
    """Run `agent-telemetry` with its output on this terminal."""
    sys.stdout.flush()
    subprocess.run([*COMMAND, *arguments], check=True)


def _run_id(question: str) -> str:
    """Return the run of a question."""
    listed = subprocess.run([*COMMAND, "runs", "--json"], capture_output=True, check=True)
    runs: Sequence[dict[str, Any]] = json.loads(listed.stdout)
    return next(str(run["run_id"]) for run in runs if run.get("item_name") == question)


@contextmanager
def _output_of(command: Sequence[str]) -> Iterator[str]:
    """Run a server; yield the first line that it prints; end it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)


def _serve() -> None:
    """Serve the page until a key is pressed; without a terminal, or with `DEMO=once`, only look whether it is there."""
    os.environ["TELEMETRY_LOG_LEVEL"] = "WARNING"  # the address is enough
    is_watched = sys.stdin.isatty() and os.environ.get("DEMO") != "once"
    with _output_of([*COMMAND, "ui", *(() if is_watched else ("--no-browser",))]) as address:
        if not address.startswith("http://"):
            raise SystemExit(f"the page cannot be served: {address}")
        print(f"{address}   (the runs, their timelines and what they cost)", flush=True)
        if is_watched:
            print("Press Enter to end.", flush=True)
            select.select([sys.stdin], [], [])


if __name__ == "__main__":
    sys.exit(main())
