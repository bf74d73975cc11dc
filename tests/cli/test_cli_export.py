"""`export`: whole or not at all, of one instant, and safe to open."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from command import COMMAND, agent_telemetry, agent_telemetry_process, record_runs, start_command
from on_disk import ROOT, Process, child_environment, eventually
from stored import aged, ago, query, run_ids, store
from test_cli_retention import WITH_TESTS, WRITE

from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, TIME_COLUMNS

NASTY = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    '=HYPERLINK("http://x","y")',
    "<script>alert(1)</script>",
    'a,b"c\r\nd\x1b[2J\u202e',
    "'=x",
    "ünï\U0001f600",
]


def rows_of_csv(content):
    return list(csv.DictReader(io.StringIO(content, newline="")))


def exported_csv(config, *options, env=None):
    """By way of a file, because the runner of the tests changes line ends."""
    config.base_dir.mkdir(parents=True, exist_ok=True)
    file = config.base_dir / "exported.csv"
    result = agent_telemetry(config, "export", "--format", "csv", "--overwrite", "--output", file, *options, env=env)
    assert result.code == 0, result.err
    return file.read_bytes().decode()


def nasty_runs():
    return [aged(n, n, run_id=f"run-{n}", output_summary=text, agent_name=text) for n, text in enumerate(NASTY, 1)]


def test_csv_has_every_column_newest_first(either):
    """A heading, CRLF, empty for what is not known; numbers as numbers."""
    config, env = either
    store(config, aged(1, 2, items_succeeded=7), aged(2, 1))
    content = exported_csv(config, env=env)
    first, second = rows_of_csv(content)
    assert tuple(first) == COLUMNS
    assert (first["run_id"], second["run_id"], second["items_succeeded"], first["website"]) == (
        "run-2",
        "run-1",
        "7",
        "",
    )
    assert content.count("\r\n") == 3 == content.count("\n")


def test_a_text_that_a_spreadsheet_takes_for_a_formula_is_made_harmless(config):
    """By a quote before it, in every text column; --raw leaves every text as it is."""
    store(config, *nasty_runs())
    for options, expected in (
        ([], [f"'{text}" if text[0] in "=+-@\t\r" else text for text in NASTY]),
        (["--raw"], NASTY),
    ):
        rows = rows_of_csv(exported_csv(config, *options))
        assert [row["output_summary"] for row in rows] == expected
        assert [row["agent_name"] for row in rows] == expected


def test_json_lines_are_the_services_objects(either):
    """The same objects as `runs --json`, one a line, ASCII, whatever the texts hold."""
    config, env = either
    store(
        config,
        *nasty_runs(),
        aged(50, 30, metrics_json='{"a":1}', git_repo="https://github.com/a/b", git_commit_hash="abcdef1"),
    )
    result = agent_telemetry(config, "export", "-f", "jsonl", env=env)
    objects = [json.loads(line) for line in result.out.splitlines()]
    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert objects == agent_telemetry(config, "runs", "--json", "--limit", "1000", env=env).json
    assert objects[-1]["metrics_json"] == {"a": 1}
    assert objects[-1]["commit_url"] == "https://github.com/a/b/commit/abcdef1"


def test_parquet_has_types(either, tmp_path):
    """Timestamps, whole numbers, a flag; texts as they are; the file is private."""
    config, env = either
    store(config, *nasty_runs(), aged(50, 30, status="running", items_failed=2**62, api_posted=1))
    file = tmp_path / "runs.parquet"
    result = agent_telemetry(config, "export", "-f", "parquet", "-o", file, env=env)
    assert result.code == 0, result.err
    assert file.stat().st_mode & 0o777 == 0o600
    table = pq.read_table(file)
    types = {field.name: str(field.type) for field in table.schema}
    assert {types[name] for name in TIME_COLUMNS} == {"timestamp[us, tz=UTC]"}
    assert {types[name] for name in COUNT_COLUMNS} == {"int64"}
    assert (types["api_posted"], types["metrics_json"], types["run_id"]) == ("bool", "string", "string")
    rows = table.to_pylist()
    assert [row["output_summary"] for row in rows[:-1]] == NASTY
    assert (rows[-1]["items_failed"], rows[-1]["api_posted"], rows[-1]["end_time"]) == (2**62, True, None)
    stored = query(config, "SELECT created_at FROM agent_runs WHERE run_id = 'run-1'")[0][0]
    assert rows[0]["created_at"].isoformat(timespec="microseconds") == stored


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--agent", "agent-1"], ["run-1"]),
        (["--status", "FAILURE"], ["run-1"]),
        (["--since", "1h", "--limit", "2"], ["run-2", "run-1"]),
        (["--until", "1h"], []),
        (["--job-type", "other"], []),
        (["--run-id", "run-0", "--parent", "x"], []),
    ],
)
def test_the_filters_are_those_of_runs(config, options, expected):
    """Each leaves the runs that it names."""
    record_runs(config)
    rows = rows_of_csv(agent_telemetry(config, "export", "-f", "csv", *options).out)
    assert [row["run_id"] for row in rows] == expected


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-f", "xml"],
        ["-f", "parquet"],
        ["-f", "csv", "--status", "odd"],
        ["-f", "csv", "--since", "soon"],
        ["-f", "csv", "-n", "0"],
    ],
)
def test_what_cannot_be_used_is_a_usage_error(config, options):
    """A format is needed, Parquet needs a file, filters must mean something."""
    assert agent_telemetry(config, "export", *options).code == 2


def test_more_runs_than_a_page_come_once_each(either):
    """Pages of one instant, also where many runs were created together; a limit cuts within a page."""
    config, env = either
    instant = ago(1)
    store(config, *(aged(n, 1, created_at=instant) for n in range(1, 1203)))
    lines = agent_telemetry(config, "export", "-f", "jsonl", env=env).out.splitlines()
    assert len({json.loads(line)["event_id"] for line in lines}) == len(lines) == 1202
    assert agent_telemetry(config, "export", "-f", "jsonl", "-n", "700", env=env).out.splitlines() == lines[:700]


def test_an_export_beside_a_writer_is_of_one_instant(either):
    """Another process commits runs in order: an export has the first ones, without a gap."""
    config, env = either
    store(config, *(aged(n, 3) for n in range(1, 800)))
    with Process(WRITE, config.base_dir, 200, ago(0), env={**WITH_TESTS, **env}) as writer:
        assert writer.line() == "open"
        for _ in range(4):
            result = agent_telemetry(config, "export", "-f", "jsonl", env=env)
            runs = [json.loads(line) for line in result.out.splitlines()]
            numbers = sorted(int(run["run_id"][4:]) for run in runs if len(run["run_id"]) > 8)
            assert numbers == list(range(1_000_000, 1_000_000 + len(numbers)))
            assert len(runs) - len(numbers) == 799
        status, _, err = writer.end(within_s=60)
    assert status == 0, err
    assert len(agent_telemetry(config, "export", "-f", "jsonl", env=env).out.splitlines()) == 999


def test_no_database_and_an_empty_one_give_an_empty_export(config, tmp_path):
    """Heading alone; a file that other programs can open."""
    for _ in range(2):
        assert len(agent_telemetry(config, "export", "-f", "csv").out.splitlines()) == 1
        file = tmp_path / "empty.parquet"
        assert agent_telemetry(config, "export", "-f", "parquet", "-o", file, "--overwrite").code == 0
        assert pq.read_table(file).num_rows == 0
        store(config)


# --- whole or not at all


def test_a_file_that_is_there_is_replaced_only_with_overwrite(config, tmp_path):
    """A folder never."""
    store(config, aged(1, 1))
    file = tmp_path / "runs.csv"
    file.write_text("mine")
    assert agent_telemetry(config, "export", "-f", "csv", "-o", file).code == 2
    assert file.read_text() == "mine"
    assert agent_telemetry(config, "export", "-f", "csv", "-o", file, "--overwrite").code == 0
    assert rows_of_csv(file.read_bytes().decode())[0]["run_id"] == "run-1"
    assert agent_telemetry(config, "export", "-f", "csv", "-o", tmp_path, "--overwrite").code == 2
    assert agent_telemetry(config, "export", "-f", "csv", "-o", tmp_path / "no" / "x.csv").code == 4


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_full_disk_leaves_the_file_of_before(config, small_disk, form):
    """The export does not fit: the old one stays, nothing else does, and it is not the database that is full."""
    store(config, *(aged(n, 1, error_details=os.urandom(300).hex()) for n in range(1, 801)))
    file = small_disk / "runs"
    file.write_text("before")
    result = agent_telemetry(config, "export", "-f", form, "-o", file, "--overwrite")
    assert result.code == 4
    assert "writing the export: No space left" in result.err
    assert [path.name for path in small_disk.iterdir()] == ["runs"]
    assert file.read_text() == "before"


def test_a_killed_export_leaves_the_file_of_before(config, tmp_path):
    """And one that is interrupted leaves nothing at all."""
    store(config, *(aged(n, 1) for n in range(1, 4001)))
    file = tmp_path / "runs.jsonl"

    def stopped(signal_number):
        """The export, stopped while it wrote; None when it was done before the signal came."""
        file.write_text("before")
        process = start_command(config, "export", "-f", "jsonl", "-o", file, "--overwrite")
        eventually(lambda: list(tmp_path.glob(f".runs.jsonl.{process.pid}.partial")) or process.poll() is not None)
        process.send_signal(signal_number)
        process.communicate(timeout=60)
        return process if process.returncode else None

    for signal_number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = eventually(lambda: stopped(signal_number), within_s=120)  # noqa: B023
        assert process.returncode == status
        assert file.read_text() == "before"
    assert list(tmp_path.glob(f".runs.jsonl.{process.pid}.partial")) == []


def test_a_reader_that_goes_away_is_no_error(config):
    """As with `| head -1`."""
    store(config, *(aged(n, 1, error_details="x" * 1000) for n in range(1, 1001)))
    process = start_command(config, "export", "-f", "jsonl", "--no-sync")
    assert json.loads(process.stdout.readline())["run_id"]
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_slow_reader_does_not_hold_writers_up(config):
    """While the printed export waits in a full pipe, a commit goes through at once."""
    store(config, *(aged(n, 1, error_details="x" * 1000) for n in range(1, 1001)))
    process = start_command(config, "export", "-f", "jsonl", "--no-sync")
    first = process.stdout.readline()
    store(config.with_(db_busy_timeout_ms=0, db_max_retries=0), aged(5000, 1))
    assert process.poll() is None
    lines = [first, *process.stdout]
    assert len([json.loads(line) for line in lines]) == 1000
    assert process.communicate(timeout=30) == ("", "")
    assert len(run_ids(config)) == 1001


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_terminal_gets_no_control_characters(config, form):
    """Printed there, an export shows them as escapes; what a pipe gets is as it is."""
    store(config, *nasty_runs())
    terminal, its_end = os.openpty()
    command = [*COMMAND, "--base-dir", str(config.base_dir), "export", "-f", form, "--no-sync"]
    with subprocess.Popen(
        command, cwd=ROOT, env=child_environment(), stdout=its_end, stderr=subprocess.PIPE
    ) as process:
        os.close(its_end)
        shown = read_to_the_end(terminal)
    assert process.returncode == 0
    assert b"\x1b" not in shown
    assert "\u202e".encode() not in shown
    assert shown.count(b"run-") >= len(NASTY)


def read_to_the_end(terminal):
    parts = []
    with contextlib.suppress(OSError):  # how a terminal reports that no process writes any more
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts)


def test_memory_does_not_grow_with_the_runs(config, tmp_path):
    """Ten times the runs, hardly more memory."""
    peaks = []
    for total in (600, 6000):
        store(config, *(aged(n, 1, error_details="x" * 1500) for n in range(1, total + 1)))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, "--base-dir", config.base_dir, "export", "-f", "csv", "-o", tmp_path / f"{total}"],
            cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 7_000  # KiB; the texts alone are 9,000


PEAK = """
import sys
from otel_agent_telemetry.cli.app import app
try: app(sys.argv[1:], prog_name="agent-telemetry")
except SystemExit as end: assert not end.code
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_without_pyarrow_the_hint_names_what_to_install(config, tmp_path):
    """A usage error, before anything is read; no file is left."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('no', name='pyarrow')")
    file = tmp_path / "runs.parquet"
    result = agent_telemetry_process(
        config, "export", "-f", "parquet", "-o", file, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    )
    assert result.code == 2
    assert "pip install 'otel-agent-telemetry[export]'" in result.err
    assert not file.exists()


def test_an_export_has_the_totals_of_trees_when_asked_for(config):
    """In each format beside the run's own columns, and not otherwise."""
    used = {"metrics_json": '{"gen_ai":{"input_tokens":5,"model_calls":1,"cost_usd":0.5}}'}
    outer = aged(1, 2, **used)
    store(config, outer, aged(2, 1, parent_run_id=outer.run_id, **used))
    expected = {outer.run_id: (2, 10, 1.0, True), aged(2, 1).run_id: (1, 5, 0.5, True)}
    rows = rows_of_csv(exported_csv(config, "--tree"))
    lines = agent_telemetry(config, "export", "--format", "jsonl", "--tree").out.splitlines()
    file = config.base_dir / "runs.parquet"
    assert agent_telemetry(config, "export", "-f", "parquet", "-o", file, "--tree").code == 0
    names = ("runs", "input_tokens", "cost_usd", "complete")
    seen = [
        {row["run_id"]: tuple(row[f"tree_{name}"] for name in names) for row in pq.read_table(file).to_pylist()},
        {run["run_id"]: tuple(run["tree"][name] for name in names) for run in map(json.loads, lines)},
    ]
    assert seen == [expected, expected]
    as_text = {run_id: tuple(map(str, totals)) for run_id, totals in expected.items()}
    assert {row["run_id"]: tuple(row[f"tree_{name}"] for name in names) for row in rows} == as_text
    assert "tree" not in exported_csv(config)
