"""The addresses of the page."""

from __future__ import annotations

from typing import Final

from starlette.routing import Route

from otel_agent_telemetry.page import (
    agents_view,
    alerts_view,
    commit_view,
    compare_view,
    cost_view,
    list_neighbours,
    live,
    live_list,
    run_actions,
    run_view,
    runs_export,
    runs_view,
    session_view,
    sign_in,
    status_view,
)
from otel_agent_telemetry.page.rendering import page
from otel_agent_telemetry.page.static_files import read_static
from otel_agent_telemetry.service.guards import SIGN_IN

_RUN: Final = "/runs/{event_id}"
_RUN_ROUTES: Final = (
    Route(_RUN, page(run_view.show_run), include_in_schema=False),
    Route(f"{_RUN}/next", page(list_neighbours.go_to_next), include_in_schema=False),
    Route(f"{_RUN}/previous", page(list_neighbours.go_to_previous), include_in_schema=False),
    Route(f"{_RUN}/live", page(live.stream_run), include_in_schema=False),
    Route(f"{_RUN}/steps/{{number:int}}", page(run_view.show_step), include_in_schema=False),
    Route(f"{_RUN}/events/{{number:int}}", page(run_view.show_event), include_in_schema=False),
    Route(f"{_RUN}/text/{{column}}", page(run_view.show_text), include_in_schema=False),
    Route(f"{_RUN}/markdown", page(run_view.show_markdown), include_in_schema=False),
    Route(f"{_RUN}/delete", page(run_actions.ask_to_delete), include_in_schema=False),
    Route(f"{_RUN}/delete", page(run_actions.delete), methods=["POST"], include_in_schema=False),
    Route(f"{_RUN}/commit", page(run_actions.associate), methods=["POST"], include_in_schema=False),
)
PAGE_ROUTES: Final = (
    Route("/", page(runs_view.show_runs), include_in_schema=False),
    Route("/export.{form}", page(runs_export.export_runs), include_in_schema=False),
    Route("/live/runs", page(live_list.stream_list), include_in_schema=False),
    Route("/compare", page(compare_view.show_comparison), include_in_schema=False),
    *_RUN_ROUTES,
    Route("/agents", page(agents_view.show_agents), include_in_schema=False),
    Route("/alerts", page(alerts_view.show_alerts), include_in_schema=False),
    Route("/cost", page(cost_view.show_cost), include_in_schema=False),
    Route("/commits/{commit}", page(commit_view.show_commit), include_in_schema=False),
    Route("/sessions/{session_id:path}", page(session_view.show_session), include_in_schema=False),
    Route("/status", page(status_view.show_status), include_in_schema=False),
    Route(SIGN_IN, page(sign_in.show_sign_in), include_in_schema=False),
    Route(SIGN_IN, page(sign_in.sign_in), methods=["POST"], include_in_schema=False),
    Route("/sign-out", page(sign_in.sign_out), methods=["POST"], include_in_schema=False),
    Route("/static/{name:path}", read_static, include_in_schema=False),
)
"""Addresses for a browser. The service has them after its own, so that none of them can hide a call of the API."""
