"""Which thread imports what in a recording process: nothing third-party behind the application."""

from __future__ import annotations

import json

import pytest
from on_disk import run_python
from service import Fault

PROGRAM = """
import importlib.abc, json, sys, threading

class Watch(importlib.abc.MetaPathFinder):
    def __init__(self):
        self.found = []
    def find_spec(self, name, path=None, target=None):
        self.found.append((threading.current_thread().name, name))
        return None

watch = Watch()
sys.meta_path.insert(0, watch)
import logging
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
at_construction = len(watch.found)
run_id = client.start_run("agent", "job")
client.log_event(run_id, "checkpoint", {"n": 1})
client.end_run(run_id, "failure", error_summary="x")
client.associate_commit(run_id, "abcdef1", "ci")
delivered = client.flush(20)
client.close()
first_run = [name for thread, name in watch.found[at_construction:] if thread == "MainThread"]
print(json.dumps({"delivered": delivered, "found": watch.found, "first_run": first_run}))
"""

STANDARD = "sys.stdlib_module_names"


def imports_of(env):
    """Run the program: whether all was delivered, and (thread, top package) of every import."""
    import sys

    told = json.loads(run_python(PROGRAM, env=env).splitlines()[-1])
    known = sys.stdlib_module_names | {"otel_agent_telemetry"}
    behind = sorted(
        {
            (thread, name)
            for thread, name in told["found"]
            if thread != "MainThread" and name.partition(".")[0] not in known
        }
    )
    return told["delivered"], behind, told


@pytest.fixture
def base(tmp_path):
    return {"TELEMETRY_BASE_DIR": str(tmp_path / "base")}


def test_delivery_to_sqlite_imports_nothing_third_party(base):
    """A new file is made, written and found again without SQLAlchemy or Alembic, on any thread."""
    for _ in ("new", "known"):
        delivered, behind, told = imports_of(base)
        assert delivered
        assert behind == []
        packages = {name.partition(".")[0] for _, name in told["found"]}
        assert not packages & {"sqlalchemy", "alembic", "httpx", "httpcore", "tenacity", "pydantic", "rich", "typer"}
        # Nor what each short process would pay at its exit.
        assert not packages & {"unicodedata", "stringprep", "base64"}


def test_delivery_to_a_service_imports_nothing_third_party(base, service):
    """Nor does a webhook."""
    hook = {"GOOGLE_SHEETS_API_ENABLED": "true", "GOOGLE_SHEETS_API_URL": service.url + "/hook"}
    delivered, behind, told = imports_of({**base, **hook, "TELEMETRY_API_URL": service.url})

    assert delivered
    assert behind == []
    assert "httpx" not in {name for _, name in told["found"]}


def test_a_service_that_is_away_imports_nothing_third_party(base, service):
    """The ways that failures take, too."""
    service.script(*[Fault(503)] * 3, Fault(200, b"rubbish"), Fault(302))
    delivered, behind, _ = imports_of({**base, "TELEMETRY_API_URL": service.url})

    assert delivered
    assert behind == []


def test_a_database_by_url_is_imported_when_the_client_is_made(base, tmp_path):
    """SQLAlchemy, Alembic and the driver come with the constructor, on the thread that calls it."""
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    delivered, behind, told = imports_of({**base, "TELEMETRY_DATABASE_URL": url})

    assert delivered
    assert behind == []
    assert not {name for name in told["first_run"] if name.startswith(("sqlalchemy", "alembic"))}
