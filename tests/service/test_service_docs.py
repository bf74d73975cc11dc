"""The pages say what the service does: every call, every metric, every readable field."""

from __future__ import annotations

from pathlib import Path

from fastapi.routing import APIRoute

from otel_agent_telemetry.columns import PATCHABLE_COLUMNS
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.routes_read import FIELDS, RunFilters
from otel_agent_telemetry.testing import isolated_config

DOCS = Path(__file__).parents[2] / "docs"


def test_every_call_stands_in_the_table(tmp_path):
    """`METHOD /path` of each route, and no call that there is not."""
    described = create_app(isolated_config(tmp_path)).openapi()["paths"]
    calls = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    text = (DOCS / "http-api.md").read_text()
    told = {line.split("`")[1] for line in text.splitlines() if line.startswith(("| `GET", "| `POST", "| `PATCH"))}
    assert told == calls


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
    for metric in app.state.figures.registry.collect():
        assert f"`{metric.name}" in text, metric.name


def test_the_routes_that_go_the_short_way_are_routes(tmp_path):
    """Each of them is an endpoint that takes the request and nothing else."""
    from otel_agent_telemetry.service import routes_traces, routes_write
    from otel_agent_telemetry.service.app import DIRECT, direct_routes

    found = direct_routes([*routes_write.router.routes, *routes_traces.router.routes])
    assert found.keys() == DIRECT
    for route in found.values():
        assert isinstance(route, APIRoute)
        assert [*route.endpoint.__annotations__] == ["request", "return"]
