"""The description of the service: FastAPI's, with the bodies that the endpoints read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from otel_agent_telemetry.service.guards import OPEN_PATHS
from otel_agent_telemetry.service.schemas import BODIES

_REFERENCE = "#/components/schemas/{model}"


def describe_as_served(app: FastAPI, *, with_auth: bool) -> None:
    """Make `/openapi.json` complete."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app, with_auth=with_auth)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _description(app: FastAPI, *, with_auth: bool) -> dict[str, Any]:
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, bodies = models_json_schema([(model, "validation") for model in BODIES], ref_template=_REFERENCE)
    components = described.setdefault("components", {})
    components.setdefault("schemas", {}).update(bodies.get("$defs", {}))
    if with_auth:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"bearer": []}]
        for path in OPEN_PATHS:
            described["paths"][path]["get"]["security"] = []
    return described
