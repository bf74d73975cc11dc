"""What tests share: evidence on disk, real processes, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.journal import journal_files, read_journal
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.recording.recorder import Recorder

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0


class Case:
    """Clients, recorders and providers of one configuration."""

    def __init__(self, config):
        self.config = config
        self.recorders = []
        self.providers = []

    def client(self, **changes):
        return TelemetryClient(self.config.with_(**changes) if changes else self.config)

    def recorder(self, **more):
        """A recorder of its own: not the shared one, and not closed at exit alone."""
        recorder = Recorder(self.config, **more)
        self.recorders.append(recorder)
        return recorder

    def provider(self, **more):
        """An application's provider that records runs through a processor of ours."""
        provider = TracerProvider(**{"resource": Resource.get_empty(), "shutdown_on_exit": False, **more})
        provider.add_span_processor(AgentRunSpanProcessor(self.config))
        self.providers.append(provider)
        return provider

    def tracer(self, **more):
        return self.provider(**more).get_tracer("app")

    def journal(self, record_type=None):
        return journal_lines(self.config, record_type)

    def rows(self):
        return rows_of(self.config)

    def close(self):
        for provider in self.providers:
            provider.shutdown()
        for recorder in self.recorders:
            recorder.close(5.0)


@contextmanager
def nobody_delivers(config):
    """Hold the drain lock, as another process on this host would: records stay in the buffer."""
    config.buffer_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(config.buffer_dir / "drain.lock")
    assert lock.try_acquire()
    try:
        yield
    finally:
        lock.release()


def journal_lines(config, record_type=None):
    """Every record of the journal, oldest first."""
    return [
        record
        for path in journal_files(config.ndjson_dir)
        for line in read_journal(path)
        for record in line.records
        if record_type is None or record["record_type"] == record_type
    ]


def buffer_lines(config, record_type=None):
    """Every record in the buffer's segments, by writer and segment."""
    return [
        record
        for files in list_writers(config.buffer_dir)
        for _, path in files.segments
        for line in read_segment(path, to_the_end=True)
        for record in line.records
        if record_type is None or record["record_type"] == record_type
    ]


def rows_of(config):
    """run_id → row, of the database; empty while there is none."""
    if not config.db_path.exists():
        return {}
    try:
        with closing(sqlite3.connect(config.db_path, timeout=10)) as connection:
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM agent_runs").fetchall()
    except sqlite3.OperationalError:  # made, but still without its tables
        return {}
    return {row[COLUMNS.index("run_id")]: dict(zip(COLUMNS, row, strict=True)) for row in rows}


def record(number=1, *, status="running", updated=0, **more):
    """One state of a run; `updated` are seconds after its start."""
    start = 1_760_000_000 + number
    values = {
        "event_id": f"00000000-0000-4000-8000-{number:012x}",
        "run_id": f"run-{number}",
        "created_at": _stamp(start),
        "updated_at": _stamp(start + updated),
        "start_time": _stamp(start),
        "agent_name": "agent",
        "job_type": "job",
        "status": status,
        **more,
    }
    return RunRecord(**values)


def _stamp(seconds):
    from otel_agent_telemetry.clock import iso_utc

    return iso_utc(round(seconds * 1_000_000_000))


def eventually(seen, *, within_s=PATIENCE_S):
    """The first true result of `seen()`; fails the test when there is none in time.

    For what other processes do, which no event of ours can tell.
    """
    deadline = time.monotonic() + within_s
    while not (result := seen()):
        assert time.monotonic() < deadline, f"{seen} never came true"
        threading.Event().wait(0.01)
    return result


class Process:
    """A real process of this interpreter that runs `code`; its lines can be waited for."""

    def __init__(self, code, *arguments, env=None, options=()):
        self.popen = subprocess.Popen(
            [sys.executable, *options, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            env=child_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that what it forked can be ended with it
        )
        self.pid = self.popen.pid

    def line(self):
        """The next line that it prints; "" when it ended instead."""
        line = bytearray()
        # Byte by byte: what a buffer took besides, `communicate` would not find.
        while (byte := os.read(self.popen.stdout.fileno(), 1)) not in (b"", b"\n"):
            line += byte
        return line.decode().strip()

    def tell(self, line=""):
        """Send it a line."""
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.popen.send_signal(signal.SIGKILL)
        return self.end()

    def end(self, *, within_s=PATIENCE_S):
        """Exit code, the rest of its output, and its errors."""
        try:
            out, err = self.popen.communicate(timeout=within_s)
        finally:
            if self.popen.poll() is None:
                self._end_all()
        return self.popen.returncode, out, err

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._end_all()

    def _end_all(self):
        if self.popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.popen.communicate()


class Fork:
    """A fork of this process that calls `work` until it returns or is killed: no interpreter to start, nothing to import.

    It leaves without the exit handlers of this process, with status 1 when `work` failed.
    """

    def __init__(self, work, *arguments):
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                work(*arguments)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self):
        """Return the exit code, or the negative number of the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def run_python(code, *arguments, env=None, options=()):
    """Run `code` to its end: standard output; fails the test with its errors when it fails."""
    with Process(code, *arguments, env=env, options=options) as process:
        status, out, err = process.end()
    assert status == 0, err
    return out


def child_environment(more=None):
    """The environment without any of our settings, and `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TELEMETRY_", "OTEL_", "METRICS_API_", "GOOGLE_SHEETS_", "AGENT_"))
    }
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "TELEMETRY_DISCOVER_SERVICE": "false",
        **(more or {}),
    }
