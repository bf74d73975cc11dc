"""One server over `http.client`: requests, one at a time, over a connection that stays open.

Redirects are not followed. Whatever a network, a proxy, a certificate or an odd address does
is an `Unreachable`, whose reason holds neither a token nor a password.

`http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` decide which proxy a request goes through;
loopback never uses one. A proxy that cannot be used (SOCKS, one that is itself reached over TLS,
an address that cannot be read) is an outcome that names its variable.
"""

from __future__ import annotations

import base64
import errno
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
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
    # By its name: a lookup could block, and could answer differently the next time.
    return host.startswith("127.") and host.replace(".", "").isdecimal()


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether a host is reached without a proxy."""
    entries = filter(None, no_proxy.lower().replace(" ", ",").split(","))
    return any(_matches(host, port, entry) for entry in entries)


def _matches(host: str, port: int | None, entry: str) -> bool:
    """Return whether an entry of `no_proxy` names a host.

    `*`, `host`, `.domain`, `*.domain` or `[::1]`, with a port or without.
    """
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and (name.endswith("]") or ":" not in name):
        if number != str(port):
            return False
        entry = name
    if entry == "*":
        return True
    entry = entry.removeprefix("[").removesuffix("]").removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


MAX_ANSWER: Final = 16 << 20
_LEAST_S: Final = 0.001
_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITIES: Final = "certificate authorities are read from SSL_CERT_FILE, SSL_CERT_DIR, or the system's store"

Headers = Mapping[str, str | bytes]
"""Name → value; bytes where the value may be beyond ASCII."""


class Answer(NamedTuple):
    """A whole response, at most MAX_ANSWER bytes and one of its content."""

    status: int
    content: bytes
    retry_after: str | None = None


class Unreachable(NamedTuple):
    """No answer came, and why: one phrase."""

    reason: str


class HttpConnection:
    """Requests to one URL and the paths below it. Used by one thread at a time; opens nothing yet."""

    def __init__(self, url: str, config: TelemetryConfig, *, headers: Headers, timeout_s: float) -> None:
        self._headers = dict(headers)
        self._ca_file = config.ca_file
        self._timeout_s = max(timeout_s, _LEAST_S)
        self._open: http.client.HTTPConnection | None = None
        self._socket: tuple[int, int] | None = None
        self._proxy: Proxy | UnusableProxy | None = None
        try:
            self._url = urlsplit(url)
            self._port = self._url.port or _PORTS[self._url.scheme]
            self._host = self._url.hostname or ""
            self._proxy = proxy_for(self._url, config)
        except (ValueError, KeyError):
            self._host = ""
        if self._host and (basic := basic_authorization(self._url)):
            self._headers.setdefault("Authorization", basic)

    @property
    def is_local(self) -> bool:
        """Return whether the server is on this machine, by its name."""
        return is_loopback(self._host)

    def request(
        self, method: str, path: str = "", *, body: bytes | None = None, headers: Headers | None = None
    ) -> Answer | Unreachable:
        """Send one request and return its answer. `path` is put behind the URL's own.

        Blocks up to the timeout for each step. A connection that the server has closed
        meanwhile is opened anew, once.
        """
        if not self._host:
            return Unreachable("its URL is not http:// or https:// with a host")
        if isinstance(self._proxy, UnusableProxy):
            return Unreachable(self._proxy.reason)
        # `http.client` would raise with the header's value, and so the token, in its message.
        if any(map(_has_control, self._headers.values())):
            return Unreachable("a token holds a control character, which no header can carry")
        self._leave_lost_socket()
        reused = self._open is not None and self._open.sock is not None
        try:
            try:
                return self._exchange(method, path, body, headers or {})
            # A server closes an idle connection when it likes (RFC 9112, 9.3.1). Only a reused one is tried again:
            # on a new one the same failure is the server's state. Sending a batch twice is harmless.
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                if not reused:
                    raise
                return self._exchange(method, path, body, headers or {})
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self.close()
            return Unreachable(self._phrase(problem))

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Headers) -> Answer:
        """Send one request and read its answer. Raises what the library raises."""
        if self._open is None:
            self._open = self._connection()
        # No compression: an answer is small, and a compressed one could unfold to any size.
        sent = {"User-Agent": "otel-agent-telemetry", "Accept-Encoding": "identity", **self._headers, **headers}
        self._open.request(method, self._target(path), body, sent)
        self._socket = _identity_of(self._open.sock)
        answer = self._open.getresponse()
        content = answer.read(MAX_ANSWER + 1)
        # What is left unread would be taken for the head of the next answer, so the connection is closed.
        if len(content) > MAX_ANSWER:
            self.close()
        elif answer.length:  # a cut connection: reading by size does not raise for it
            raise http.client.IncompleteRead(content, answer.length)
        return Answer(answer.status, content, answer.headers.get("Retry-After"))

    def _target(self, path: str) -> str:
        """Return the request line's address: a path; the whole URL for a proxy that is not tunnelled through."""
        own = self._url.path + path or "/"
        if self._url.query:
            own += f"?{self._url.query}"
        if self._proxy is None or self._url.scheme == "https":
            return own
        return f"http://{_authority(self._url)}{own}"

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection to the host, through the proxy where there is one."""
        proxy = self._proxy if isinstance(self._proxy, Proxy) else None
        host, port = (proxy.host, proxy.port) if proxy else (self._host, self._port)
        if self._url.scheme == "http":
            plain = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            if proxy and proxy.authorization:
                self._headers["Proxy-Authorization"] = proxy.authorization
            plain.set_debuglevel(0)  # an application may have set the class's, which prints headers
            return plain
        secure = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=_tls_context(self._ca_file))
        if proxy:
            credentials = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            secure.set_tunnel(self._host, self._port, credentials)
        secure.set_debuglevel(0)
        return secure

    def _phrase(self, problem: Exception) -> str:
        """Return a failure in words: the type alone where the text may quote a header, and so the token."""
        name = type(problem).__name__
        if not isinstance(problem, OSError):
            return name
        text = f"{name}: {problem.strerror or problem}" if str(problem) else name
        if name == "SSLCertVerificationError":
            text += f" ({_AUTHORITIES})"
        return text if not isinstance(self._proxy, Proxy) else f"{text} (through the proxy {self._proxy.host})"

    def close(self) -> None:
        """Close the connection. Idempotent; the next request opens one."""
        self._leave_lost_socket()
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()

    def _leave_lost_socket(self) -> None:
        """Forget a socket whose number other code closed, and may have reused: it is not ours to close."""
        sock = self._open.sock if self._open is not None else None
        if sock is not None and self._socket is not None and _identity_of(sock) != self._socket:
            sock.detach()
            self._open = None


def _identity_of(sock: socket.socket | None) -> tuple[int, int] | None:
    """Return device and inode of a socket; None when it is not open, or the platform numbers sockets otherwise."""
    try:
        status = os.fstat(sock.fileno()) if sock is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what certificates are checked against: `TELEMETRY_CA_FILE`, else the system's. Raises OSError."""
    if ca_file is not None and not ca_file.is_file():
        raise OSError(errno.ENOENT, f"TELEMETRY_CA_FILE: no file {ca_file}")
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise OSError(errno.EINVAL, "TELEMETRY_CA_FILE holds no certificate in PEM form") from None
    except OSError:  # SSLKEYLOGFILE names a file that cannot be written: the keys stay unwritten
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca_file) if ca_file is not None else context.load_default_certs()
        return context


def _has_control(value: str | bytes) -> bool:
    """Return whether a value has control characters, which could end a header."""
    text = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return any(sign < 32 or sign == 127 for sign in text)  # noqa: PLR2004 - of ASCII


def _authority(url: SplitResult) -> str:
    """Return host and port of a URL, without credentials."""
    return url.netloc.rpartition("@")[2]
