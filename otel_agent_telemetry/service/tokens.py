"""Who may use the service: one token by a variable, any number by a file.

The file of `TELEMETRY_API_TOKENS_FILE` is TOML, one table a token, and readable by its owner alone (mode 0600):

    [ci]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    may = ["write"]

`sha256` is the digest of the token in hex (`printf %s "$TOKEN" | sha256sum`), so that the file
holds no secret that could be used. `may`: `read` is every GET, `write` every POST and PATCH,
OTLP too, `admin` deletions and rules. The token of `TELEMETRY_API_AUTH_TOKEN` may all of it.

The file is read again within a second of a change. One that cannot be used leaves the tokens
as they were; at the start it is an error.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import stat
import time
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError

_log = logging.getLogger(__name__)
READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
PERMISSIONS: Final = frozenset({READ, WRITE, ADMIN})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOK_EVERY_S: Final = 1.0
_MAX_FILE: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_MEMBERS: Final = frozenset({"sha256", "may"})


class Token(NamedTuple):
    """A known token: its name in the file, its SHA-256 digest, and what it may do."""

    name: str
    digest: bytes
    may: frozenset[str]


class TokensFileError(Exception):
    """A file of tokens that cannot be used; the message names the rule that it breaks, and no token."""


def permission_for(method: str) -> str:
    """Return the permission that a request with this HTTP method needs."""
    if method in _READING:
        return READ
    return ADMIN if method == "DELETE" else WRITE


class Tokens:
    """The tokens that are valid now. Used by one event loop; looking for a change of the file costs one `stat`."""

    def __init__(self, settings: TelemetryConfig) -> None:
        """Read the settings and the file. Raises ConfigurationError when the file cannot be used."""
        self._path: Path | None = settings.api_tokens_file
        self._single: tuple[Token, ...] = ()
        self.problem = ""
        """Why the file as it is now is not used; "" when it is."""
        if settings.api_auth_token:
            digest = sha256(settings.api_auth_token.encode("utf-8", "surrogateescape")).digest()
            self._single = (Token("TELEMETRY_API_AUTH_TOKEN", digest, PERMISSIONS),)
        self._from_file: tuple[Token, ...] = ()
        self._version: tuple[int, ...] | None = None
        self._looked_at = 0.0
        if self._path is not None:
            try:
                self._version, self._from_file = _read(self._path)
            except TokensFileError as problem:
                raise ConfigurationError(
                    f"TELEMETRY_API_TOKENS_FILE: {self._path}: {problem}",
                    hint="docs/service.md describes the file.",
                ) from None

    def find(self, authorization: Sequence[bytes]) -> Token | None:
        """Return the token that the values of `Authorization` are exactly one of, as `Bearer`; None without one."""
        # Two headers are refused: a proxy in front may have checked the one that is not read here.
        scheme, _, text = authorization[0].partition(b" ") if len(authorization) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            return None
        return self.find_text(text)

    def find_text(self, text: bytes) -> Token | None:
        """Return the token whose text this is; blanks around it do not count. None for an unknown one."""
        digest, found = sha256(text.strip()).digest(), None
        # All are compared, each in constant time: the time of an answer says nothing of any of them.
        for token in self.known():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def known(self) -> tuple[Token, ...]:
        """Return the tokens that are valid now."""
        self._look_for_changes()
        return (*self._single, *self._from_file)

    def _look_for_changes(self) -> None:
        """Read the file again when it has changed; keep the old tokens when it cannot be used."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            if _version_of(self._path) != self._version:
                self._version, self._from_file = _read(self._path)
                self.problem = ""
                _log.info("the file of tokens has been read again: %d tokens", len(self._from_file))
        except TokensFileError as problem:
            if str(problem) != self.problem:
                self.problem = str(problem)
                _log.error("the file of tokens cannot be used, the old tokens stay: %s: %s", self._path, problem)


def read_tokens_file(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file. Raises TokensFileError."""
    return _read(path)[1]


def _read(path: Path) -> tuple[tuple[int, ...], tuple[Token, ...]]:
    """Return which version of the file was read, and its tokens."""
    version = _version_of(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE + 1).decode()
        if len(text) > _MAX_FILE:
            raise TokensFileError(f"it is larger than {_MAX_FILE} bytes")
        tables = tomllib.loads(text)
    except OSError as problem:
        raise TokensFileError(problem.strerror or type(problem).__name__) from None
    except tomllib.TOMLDecodeError:  # its message may quote a token
        raise TokensFileError("it is not TOML") from None
    except UnicodeDecodeError:
        raise TokensFileError("it is not UTF-8") from None
    return version, tuple(_token(name, table) for name, table in tables.items())


def _version_of(path: Path) -> tuple[int, ...]:
    """Return what changes with the file's content. Raises TokensFileError for a file that others may read."""
    try:
        status = path.stat()
    except OSError as problem:
        raise TokensFileError(problem.strerror or type(problem).__name__) from None
    if not stat.S_ISREG(status.st_mode):
        raise TokensFileError("it is no regular file")
    if os.name != "nt" and status.st_mode & 0o077:
        raise TokensFileError("others than its owner may read or write it; set its mode to 0600")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _token(name: str, table: Any) -> Token:
    """Return the token of one table. Raises TokensFileError with the rule that it breaks."""
    if not isinstance(table, dict) or set(table) != _MEMBERS:
        raise TokensFileError(f"[{name}] has not exactly the members sha256 and may")
    digest, may = table["sha256"], table["may"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise TokensFileError(f"[{name}] sha256 is not 64 hexadecimal digits")
    if not isinstance(may, list) or not may or not all(isinstance(word, str) and word in PERMISSIONS for word in may):
        raise TokensFileError(f"[{name}] may is not a list of read, write, admin")
    return Token(name, bytes.fromhex(digest), frozenset(may))
