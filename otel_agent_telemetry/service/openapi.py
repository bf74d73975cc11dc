"""The operations of the service, and the OpenAPI document made from them.

Each endpoint is registered once, with its path, parameters, bodies and responses; the router
and `/openapi.json` are both built from that registration. The model that describes a query
is the one that validates it. Request bodies are validated by `run_bodies`, because the rules
of a run are those of `RunRecord`, which clients and journals share; that the document agrees
with them is what `test_service_schema` checks with generated requests.

Why Starlette and not FastAPI: `docs/decisions.md`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from otel_agent_telemetry.service.schemas import COMPONENTS, Problem
from otel_agent_telemetry.storage.queries import PLUMBING_HEADER

Endpoint = Callable[[Request], Awaitable[Response]]
"""A coroutine function that turns a request into a response; errors are raised."""

OPENAPI_VERSION: Final = "3.1.0"
REFERENCE: Final = "#/components/schemas/{model}"
_NOT_A_WORD: Final = re.compile(r"\W")
LINK_HEADER: Final = {"Link": {"description": 'The next page, rel="next".', "schema": {"type": "string"}}}
LIST_HEADERS: Final = {
    **LINK_HEADER,
    PLUMBING_HEADER: {
        "description": "With plumbing=false, on the first page: the runs of plumbing that are left out.",
        "schema": {"type": "integer"},
    },
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_ERRORS: Final = {
    400: "The request is malformed.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such run.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The media type or encoding of the body is not supported.",
    422: "A value breaks a rule.",
    429: "Too many requests from this address.",
    431: "The head of the request, its address included, is too large.",
    503: "Runs cannot be stored or read now; retry later.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path: how it is reached and what the document says about it.

    `responses` maps a status, as text, to an OpenAPI response object; `request_body` is an
    OpenAPI request body. `path_parameters` and `query` name a parameter by each field.
    """

    method: str
    path: str
    endpoint: Endpoint
    tag: str
    summary: str
    responses: Mapping[str, Any]
    path_parameters: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    request_body: Mapping[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the OpenAPI operation object. The description is the endpoint's docstring."""
        parameters = [*_parameters(self.path_parameters, "path"), *_parameters(self.query, "query")]
        name = _NOT_A_WORD.sub("_", f"{self.endpoint.__name__}{self.path}")
        return {
            "tags": [self.tag],
            "summary": self.summary,
            "description": inspect.getdoc(self.endpoint) or "",
            "operationId": f"{name}_{self.method.lower()}",
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": self.request_body} if self.request_body else {}),
            "responses": self.responses,
        }


class OperationRoute(Route):
    """A Starlette route of one operation: it serves the operation's method, and HEAD where that is GET."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation.path, operation.endpoint, methods=[operation.method])
        self.operation = operation

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does, and put the route into the scope: access log and metrics name its template."""
        match, child_scope = super().matches(scope)
        if match is not Match.NONE:
            child_scope["route"] = self
        return match, child_scope


class OperationGroup:
    """The operations of one module, in the order in which their paths are tried."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.routes: list[OperationRoute] = []

    def add(self, method: str, path: str, **described: Any) -> Callable[[Endpoint], Endpoint]:
        """Register the decorated coroutine function; `described` holds the other fields of `Operation`."""

        def register(endpoint: Endpoint) -> Endpoint:
            operation = Operation(method=method, path=path, endpoint=endpoint, tag=self.tag, **described)
            self.routes.append(OperationRoute(operation))
            return endpoint

        return register


def _parameters(model: type[BaseModel] | None, place: str) -> list[dict[str, Any]]:
    """Return one OpenAPI parameter for each field of a model; `place` is `path` or `query`."""
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=REFERENCE)
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": place,
            "required": name in required,
            "description": field.get("description", ""),
            # "not given" is not a value that a client could send
            "schema": {key: value for key, value in field.items() if key != "default" or value is not None},
        }
        for name, field in schema["properties"].items()
    ]


def describe_service(
    routes: Iterable[BaseRoute],
    *,
    title: str,
    version: str,
    description: str,
    open_paths: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI document of the operations among `routes`.

    `open_paths`: the paths that need no bearer token, when the others need one; default: no
    operation needs one.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, OperationRoute):
            operation = route.operation
            paths.setdefault(operation.path, {})[operation.method.lower()] = operation.describe()
    # All models at once, so that one that stands inside two others is described once.
    _, models = models_json_schema([(model, "validation") for model in COMPONENTS], ref_template=REFERENCE)
    document: dict[str, Any] = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "description": description, "version": version},
        "paths": paths,
        "components": {"schemas": models.get("$defs", {})},
    }
    if open_paths is not None:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
        for path in open_paths:
            paths[path]["get"]["security"] = []
    return document


def responses(
    model: type[BaseModel] | None,
    status: int,
    *errors: int,
    many: bool = False,
    headers: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI responses of an operation: `status` with the model, each of `errors` with `Problem`.

    401, 408 and 431 are added, since any request may get them. `many`: an array of the model.
    `content`: media types beside JSON.
    """
    success: dict[str, Any] = {"description": "Successful Response"}
    if headers:
        success["headers"] = headers
    success["content"] = {**(json_content(model, many=many) if model else {}), **(content or {})}
    described = {str(status): success}
    for error in (*errors, 401, 408, 431):
        described[str(error)] = {"description": _ERRORS[error], "content": json_content(Problem)}
    for retryable in {"429", "503"} & described.keys():
        described[retryable]["headers"] = _RETRY_AFTER
    return described


def json_body(model: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """Return the OpenAPI request body for a JSON object of this model, or an array of up to 10,000."""
    return {"required": True, "content": json_content(model, many=many, max_items=10_000)}


def json_content(model: type[BaseModel], *, many: bool = False, max_items: int | None = None) -> dict[str, Any]:
    """Return the OpenAPI content of a JSON body that holds the model, or an array of it."""
    schema: dict[str, Any] = {"$ref": REFERENCE.format(model=model.__name__)}
    if many:
        schema = {"type": "array", "items": schema, **({"maxItems": max_items} if max_items else {})}
    return {"application/json": {"schema": schema}}
