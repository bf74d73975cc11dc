"""Adding a column, rehearsed in a copy of the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from storage_cases import ROOT
from version_7_database import make_version_7, row_7

from otel_agent_telemetry.storage.schema import HEAD_REVISION

MIGRATION = '''"""A column more."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade() -> None:
    op.add_column("agent_runs", sa.Column("tenant", sa.Text()))
'''
USE_OF_THE_COLUMN = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.service.app import openapi_document
from otel_agent_telemetry.service.run_bodies import patch_from_body
from otel_agent_telemetry.storage.engine import make_engine, reading, writing
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.schema import ensure_schema

config = TelemetryConfig(base_dir=sys.argv[1])
engine = make_engine(config)
print(ensure_schema(engine, config).outcome)
now = "2026-01-31T12:00:00Z"
required = {"event_id": "5b8aa5a2-d2c8-4723-ac21-29a9ea6b25ae", "run_id": "r", "agent_name": "a", "job_type": "j"}
record = RunRecord.from_fields({**required, "start_time": now, "tenant": "north"})
with writing(engine, "writing") as connection:
    upsert_runs(connection, [record])
with reading(engine, "reading") as connection:
    print(sorted(str(run.tenant) for run in list_runs(connection, RunQuery())))
print(patch_from_body({"tenant": "south"}).fields)
schemas = openapi_document(with_auth=False)["components"]["schemas"]
print([name for name in ("RunBody", "RunPatch", "Run") if "tenant" in schemas[name]["properties"]])
"""


@pytest.fixture(scope="module")
def copy_with_one_more_column(tmp_path_factory):
    """The project with a row added to the table, a migration, and `make columns` run."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("otel_agent_telemetry", "scripts", "docs/reference"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    table = copy / "otel_agent_telemetry/columns.py"
    text, last = table.read_text("utf-8"), '    Column("service_name",'
    row = '    Column("tenant", "text", "Tenant of the run.", patchable=True, filterable=False),\n'
    assert last in text
    table.write_text(text.replace(last, row + last), "utf-8")
    versions = copy / "otel_agent_telemetry/storage/migrations/versions"
    (versions / "v9999_tenant.py").write_text(MIGRATION.format(head=HEAD_REVISION), "utf-8")
    _python(copy, "scripts/write_columns.py")
    return copy


def test_a_column_is_a_row_and_a_migration(copy_with_one_more_column, tmp_path) -> None:
    """A version 7 database is upgraded to it, and the column is written, read, patched and described."""
    make_version_7(tmp_path / "db/telemetry.sqlite", [row_7(1)])
    used = _python(copy_with_one_more_column, "-c", USE_OF_THE_COLUMN, str(tmp_path)).splitlines()
    assert used == ["upgraded", "['None', 'north']", "{'tenant': 'south'}", "['RunBody', 'RunPatch', 'Run']"]
    page = (copy_with_one_more_column / "docs/reference/columns.md").read_text("utf-8")
    assert "| `tenant` | text | null | yes | yes |  |  | Tenant of the run. |\n" in page


def _python(project: Path, *arguments: str) -> str:
    child = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout
