"""What all HTTP requests to a service share: the token's header, errors without it, and reading an answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

import httpx
import orjson

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import is_loopback
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.urls import without_credentials
from otel_agent_telemetry.wire import load_object

FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
"""What a request raises that gets no answer; the last two for an address that cannot be one."""
_NAMED_BY_TYPE: Final = (httpx.LocalProtocolError, UnicodeError)
_OK: Final = 200
_NOT_FOUND: Final = 404
_UNAUTHORIZED: Final = frozenset({401, 403})


def service_client(url: str, config: TelemetryConfig, headers: dict[bytes, bytes]) -> httpx.Client:
    """Return a client of one service, with its token, which goes to that URL only: redirects are not followed.

    Connects to nothing yet. Raises ConfigurationError for a URL that cannot be asked.
    """
    headers = {**headers, b"User-Agent": b"otel-agent-telemetry", **bearer(config.api_auth_token)}
    try:
        return httpx.Client(
            base_url=url,
            headers=headers,
            timeout=config.api_timeout_s,
            follow_redirects=False,
            verify=_trusted(url, config),
            # A proxy of the environment must not get what is meant for this machine: httpx would honour it for
            # 127.0.0.1.
            trust_env=not is_loopback(httpx.URL(url).host),
        )
    except FAILURES as problem:
        raise ConfigurationError(
            f"the service's URL {without_credentials(url)} cannot be asked: {type(problem).__name__}",
            hint="Check TELEMETRY_API_URL.",
        ) from None
    except (ImportError, ValueError, OSError) as problem:  # what httpx makes of proxies and certificates
        raise ConfigurationError(
            f"a connection to {without_credentials(url)} cannot be prepared: {type(problem).__name__}",
            hint="Check TELEMETRY_CA_FILE, http_proxy, https_proxy, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSLKEYLOGFILE.",
        ) from None


def _trusted(url: str, config: TelemetryConfig) -> ssl.SSLContext | bool:
    """Return what checks the service's certificate: TELEMETRY_CA_FILE, else what httpx knows of the system's."""
    if config.ca_file is not None:
        return ssl.create_default_context(cafile=config.ca_file)
    # Reading some hundred certificates takes 40 ms, more than a request to this machine does. Without them a
    # handshake would be refused, but there is none: redirects, to https:// perhaps, are not followed.
    return True if not url.startswith("http://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def bearer(token: str | None) -> dict[bytes, bytes]:
    """Return the `Authorization` header of a token; none without one. Bytes, since httpx takes no text beyond ASCII."""
    return {b"Authorization": b"Bearer " + token.encode(errors="replace")} if token else {}


def described(problem: Exception) -> str:
    """Return one of FAILURES in words: the type alone where the text may quote a header, and so the token."""
    name = type(problem).__name__
    return name if isinstance(problem, _NAMED_BY_TYPE) else f"{name}: {problem}"


def get(client: httpx.Client, path: str, *, name: str, parameters: Mapping[str, str] | None = None) -> httpx.Response:
    """Return the answer, with status 200 or 404, of the service called `name` in messages. Blocks.

    Raises StoreUnavailableError when it cannot be reached or answers another status,
    ConfigurationError when it does not accept the token.
    """
    return _answered(lambda: client.get(path, params=parameters), f"reading {name}")


def delete(client: httpx.Client, path: str, *, name: str) -> httpx.Response:
    """Return the answer to a deletion, and raise, as `get` does. Blocks."""
    return _answered(lambda: client.delete(path), f"deleting at {name}")


def _answered(ask: Callable[[], httpx.Response], doing: str) -> httpx.Response:
    """Return the answer that `ask` gets, with an error of this package for one that settles nothing."""
    try:
        answer = ask()
    except FAILURES as problem:
        raise StoreUnavailableError(
            f"{doing}: {described(problem)}",
            hint="Check TELEMETRY_API_URL and that the service runs; runs recorded meanwhile wait in the buffer.",
        ) from None
    if answer.status_code in _UNAUTHORIZED:
        raise ConfigurationError(
            f"{doing}: it answered {answer.status_code} {_detail(answer)}".rstrip(),
            hint="Set TELEMETRY_API_AUTH_TOKEN to a token of the service that may do this.",
        )
    if answer.status_code not in (_OK, _NOT_FOUND):
        raise StoreUnavailableError(f"{doing}: it answered {answer.status_code} {_detail(answer)}")
    return answer


def json_of(answer: httpx.Response, *, name: str) -> Any:
    """Return the JSON value of an answer. Raises StoreUnavailableError when it holds none.

    `name` is what the message calls the service.
    """
    try:
        return orjson.loads(answer.content)
    except ValueError:
        raise unexpected_answer(name) from None


def read_json(
    url: str, config: TelemetryConfig, path: str, parameters: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the object that one request to a service answers. Blocks; raises as `get` does."""
    name = without_credentials(url)
    with closing(service_client(url, config, {b"Accept": b"application/json"})) as client:
        answer = get(client, path, name=name, parameters=parameters)
        value = json_of(answer, name=name)
    if answer.status_code != _OK or not isinstance(value, dict):
        raise unexpected_answer(name)
    return value


def unexpected_answer(name: str) -> StoreUnavailableError:
    """Return the error for an answer that this service would not give."""
    return StoreUnavailableError(
        f"reading {name}: its answer is not one of this service", hint="Check TELEMETRY_API_URL."
    )


def _detail(answer: httpx.Response) -> str:
    """Return the service's own words in an error, at most 200 characters; empty when there are none."""
    return str((load_object(answer.content) or {}).get("detail", ""))[:200]
