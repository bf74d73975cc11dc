"""The documentation says what the code does: settings, files, links and examples."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from otel_agent_telemetry.settings import SETTINGS

ROOT = Path(__file__).parents[1]
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.field)
def test_every_setting_is_documented_with_its_default(setting):
    """A row of the table names the variables, the field, the default and the help."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    (row,) = [line for line in text.splitlines() if f"| `{setting.field}` |" in line]
    assert all(f"`{variable}`" in row for variable in setting.variables)
    assert setting.help in row
    if setting.default not in (None, ()):
        assert f"`{str(setting.default).lower() if isinstance(setting.default, bool) else setting.default}`" in row


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def run_example(name: str, base: Path, *before: str, **env: str) -> dict[str, tuple[str, ...]]:
    """Run an example as a user would, and read its runs back from SQLite."""
    environment = {**os.environ, "TELEMETRY_BASE_DIR": str(base), "TELEMETRY_EXIT_TIMEOUT_S": "20", **env}
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "examples" / name)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    connection = sqlite3.connect(base / "db" / "telemetry.sqlite")
    try:
        rows = connection.execute(
            "select run_id, agent_name, job_type, status, parent_run_id, items_succeeded, items_failed from agent_runs"
        ).fetchall()
    finally:
        connection.close()
    return {row[0]: row[1:] for row in rows}


def test_quickstart_keeps_its_run(tmp_path):
    """The five lines of the README, and the row that they make."""
    (row,) = run_example("quickstart.py", tmp_path).values()
    assert row == ("quickstart", "greet", "success", None, 3, 0)


def test_plain_opentelemetry_needs_one_line(tmp_path):
    """A root span with a run id of its own becomes a run."""
    runs = run_example("plain_opentelemetry.py", tmp_path)
    assert runs == {"invoices-2026-11": ("invoice-reader", "read invoices", "success", None, 3, 0)}


QUIET = {
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,langchain,openai_agents",  # they import frameworks for seconds
}
AUTO = str(Path(sys.executable).with_name("opentelemetry-instrument"))


@pytest.mark.parametrize(
    ("before", "env"),
    [
        ((), {"OTEL_PYTHON_TRACER_PROVIDER": "agent_runs"}),
        ((AUTO,), {"OTEL_TRACES_EXPORTER": "none", **QUIET}),
        ((AUTO,), {"OTEL_TRACES_EXPORTER": "agent_runs", **QUIET}),
    ],
)
def test_no_code_is_recorded_by_how_it_is_started(tmp_path, before, env):
    """The three ways that its first lines name."""
    (row,) = run_example("no_code.py", tmp_path, *before, **env).values()
    assert row[1:3] == ("sort letters", "success")


def test_one_line_records_agents_inside_agents(tmp_path):
    """Two runs, the second inside the first."""
    rows = run_example("one_line.py", tmp_path)
    ids = {row[0]: run_id for run_id, row in rows.items()}
    assert {row[0]: row[3] for row in rows.values()} == {"buyer": None, "taster": ids["buyer"]}
    with closing(sqlite3.connect(tmp_path / "db" / "telemetry.sqlite")) as connection:
        told = dict(connection.execute("select agent_name, metrics_json from agent_runs").fetchall())
    assert [json.loads(told[name])["gen_ai"]["input_tokens"] for name in ("buyer", "taster")] == [1200, 300]


def test_subprocess_runs_belong_to_the_run_that_started_them(tmp_path):
    """Across processes, by the environment."""
    rows = run_example("subprocess_runs.py", tmp_path)
    assert {row[0]: row[3] for row in rows.values()} == {"foreman": None, "packer": "packing-day"}


def test_pydantic_ai_agent_is_recorded(tmp_path):
    """A real framework, offline."""
    (row,) = run_example("pydantic_ai_agent.py", tmp_path).values()
    assert row[:3] == ("librarian", "invoke_agent librarian", "success")


def test_captured_skills_are_runs_inside_runs(tmp_path):
    """Three ways to capture; the inner skill's parent is the block around it, and the file has the same ids."""
    rows = run_example("capture_skills.py", tmp_path)
    entries = json.loads((tmp_path / "registry" / "telemetry.json").read_text("utf-8"))
    assert {entry["run_id"] for entry in entries} == rows.keys()
    assert [(entry["skill"], entry["status"]) for entry in entries] == [
        ("plugin.check", "success"),
        ("plugin.build", "success"),
        ("plugin.check", "failure"),
        ("plugin.build", "failure"),
        ("audit.log", "success"),
    ]
    assert rows[entries[0]["run_id"]][3] == entries[1]["run_id"]
    assert entries[0]["inputs"] == {"plugin_path": "./plugin.yaml", "api_key": "***REDACTED***"}


def test_indexing_agent_indexes_real_files_with_child_runs_and_errors(tmp_path):
    """Files are counted and parsed; a broken one is an error, and its run and the whole end `partial`."""
    sources = tmp_path / "sources"
    (sources / "good").mkdir(parents=True)
    (sources / "bad").mkdir()
    (sources / "good" / "one.py").write_text("def f(): ...\nclass C:\n    def g(self): ...\n")
    (sources / "bad" / "broken.py").write_text("def f(:\n")
    (sources / "bad" / "gone.py").symlink_to(sources / "nowhere.py")
    (sources / "top.go").write_text("package x\nfunc Run() {}\n")
    environment = {**os.environ, "TELEMETRY_BASE_DIR": str(tmp_path / "base"), "TELEMETRY_EXIT_TIMEOUT_S": "20"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "indexing_agent.py"), str(sources)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    connection = sqlite3.connect(tmp_path / "base" / "db" / "telemetry.sqlite")
    rows = connection.execute(
        "select item_name, status, items_succeeded, items_failed, metrics_json, parent_run_id, run_id from agent_runs"
    ).fetchall()
    connection.close()
    by_item = {row[0]: row for row in rows}
    root = by_item[None]
    assert root[1:4] == ("partial", 2, 2)
    assert by_item["good"][1:5] == ("success", 1, 0, '{"functions":2,"classes":1}')
    assert by_item["bad"][1:4] == ("partial", 0, 2)
    assert by_item["good"][5] == by_item["bad"][5] == root[6]
