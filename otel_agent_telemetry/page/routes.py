"""The addresses of the page."""

from __future__ import annotations

from typing import Final

from starlette.routing import Route

from otel_agent_telemetry.page import runs_view, sign_in, status_view
from otel_agent_telemetry.page.rendering import page
from otel_agent_telemetry.page.static_files import read_static
from otel_agent_telemetry.service.guards import SIGN_IN

PAGE_ROUTES: Final = (
    Route("/", page(runs_view.show_runs), include_in_schema=False),
    Route("/status", page(status_view.show_status), include_in_schema=False),
    Route(SIGN_IN, page(sign_in.show_sign_in), include_in_schema=False),
    Route(SIGN_IN, page(sign_in.sign_in), methods=["POST"], include_in_schema=False),
    Route("/sign-out", page(sign_in.sign_out), methods=["POST"], include_in_schema=False),
    Route("/static/{name:path}", read_static, include_in_schema=False),
)
"""Addresses for a browser. The service has them after its own, so that none of them can hide a call of the API."""
