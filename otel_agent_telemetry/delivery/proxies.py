"""Which proxy a request goes through: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.

Loopback never uses one. A proxy that cannot be used (SOCKS, one that is itself spoken to over
TLS, an address that cannot be read) is an outcome that names its variable.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from otel_agent_telemetry.config import TelemetryConfig


class Proxy(NamedTuple):
    """An HTTP proxy. `authorization` is the value of its header, None without credentials."""

    host: str
    port: int
    authorization: str | None = None


class UnusableProxy(NamedTuple):
    """A proxy that requests should go through and cannot."""

    reason: str


def proxy_for(url: SplitResult, config: TelemetryConfig) -> Proxy | UnusableProxy | None:
    """Return the proxy for a URL, None when there is none. Never raises."""
    setting = "https_proxy" if url.scheme == "https" else "http_proxy"
    if getattr(config, setting) is None:
        setting = "all_proxy"
    given: str | None = getattr(config, setting)
    host = url.hostname or ""
    if not given or is_loopback(host) or _is_exempt(host, url.port, config.no_proxy or ""):
        return None
    variable = config.variable_of(setting)
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        address = parts.hostname, parts.port
    except ValueError:
        return UnusableProxy(f"{variable} is not the address of a proxy")
    if parts.scheme != "http":
        return UnusableProxy(f"{variable} names a {parts.scheme} proxy, which is not supported (only http://)")
    if not address[0]:
        return UnusableProxy(f"{variable} is not the address of a proxy")
    return Proxy(address[0], address[1] or 80, basic_authorization(parts))


def basic_authorization(url: SplitResult) -> str | None:
    """Return the Basic credentials that a URL carries, as a header's value; None without any."""
    if url.username is None:
        return None
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name: `localhost`, 127.0.0.0/8, `::1`."""
    if host in ("localhost", "::1") or host.endswith(".localhost"):
        return True
    return host.startswith("127.") and host.replace(".", "").isdecimal()


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    entries = filter(None, no_proxy.lower().replace(" ", ",").split(","))
    return any(_matches(host, port, entry) for entry in entries)


def _matches(host: str, port: int | None, entry: str) -> bool:
    """Whether an entry of `no_proxy` names a host: `*`, `host`, `.domain`, `*.domain`, `[::1]`; also with a port."""
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and (name.endswith("]") or ":" not in name):
        if number != str(port):
            return False
        entry = name
    if entry == "*":
        return True
    entry = entry.removeprefix("[").removesuffix("]").removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
