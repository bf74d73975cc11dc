"""The documentation lists every call, metric, filter and patchable field of the service."""

from __future__ import annotations

from pathlib import Path

from otel_agent_telemetry.columns import PATCHABLE_COLUMNS
from otel_agent_telemetry.service.app import create_app, openapi_document
from otel_agent_telemetry.service.routes_read import FIELDS, RunFilters
from otel_agent_telemetry.testing import isolated_config

DOCS = Path(__file__).parents[2] / "docs"


def test_every_call_stands_in_the_table():
    """`METHOD /path` of each route, and no call that there is not."""
    described = openapi_document(with_auth=False)["paths"]
    calls = {f"{method.upper()} {path}" for path, found in described.items() for method in found}
    text = (DOCS / "http-api.md").read_text()
    methods = ("| `GET", "| `POST", "| `PATCH", "| `DELETE")
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith(methods)}
    assert listed == calls


def test_every_filter_field_and_patchable_column_is_named():
    """What a reader may ask for and what a PATCH takes."""
    text = (DOCS / "http-api.md").read_text()
    assert [name for name in (*RunFilters.model_fields, *FIELDS) if f"`{name}`" not in text] == []
    groups = ("items_", "git_commit_")
    assert [name for name in PATCHABLE_COLUMNS if not name.startswith(groups) and f"`{name}`" not in text] == []


def test_every_metric_stands_in_the_table(tmp_path):
    """Names as Prometheus shows them."""
    app = create_app(isolated_config(tmp_path))
    text = (DOCS / "service.md").read_text()
    for metric in app.state.metrics.registry.collect():
        assert f"`{metric.name}" in text, metric.name
