"""Web addresses of a repository and of a commit, from any form of a git remote.

Contract, "URLs". A remote comes from a repository's own files or from a caller, so it is
untrusted text that becomes a link: the host must *equal* a known one, the path may contain
only characters that the platforms allow in names, and the result is always `https://` without
credentials, port of another protocol, query or fragment. Any other remote gives None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.secret_names import is_secret_key

PUBLIC_HOSTS: Final[Mapping[str, str]] = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket",
}
"""Host → platform, for the three that need no configuration."""

_COMMIT_PATHS: Final = {"github": "commit", "gitlab": "-/commit", "bitbucket": "commits"}
PLATFORMS: Final = tuple(_COMMIT_PATHS)
"""The platforms that a self-hosted host may be configured as."""

_URL: Final = lazy(
    r"(?P<scheme>https?|ssh|git|git\+ssh|ssh\+git)://"
    r"(?:[^/?#]*@)?(?P<host>[a-z0-9.-]+)(?::(?P<port>\d{0,5}))?/(?P<path>[^?#]*)(?:[?#].*)?",
    re.IGNORECASE,
)
_SCP: Final = lazy(r"(?:[^/?#@]+@)?(?P<host>[a-z0-9.-]+):(?!//)(?P<path>[^?#]*)(?:[?#].*)?", re.IGNORECASE)
_SEGMENT: Final = lazy(r"[A-Za-z0-9._~+-]+")
_SHA: Final = lazy(r"[0-9a-fA-F]{7,64}")
_SCHEME: Final = lazy(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FEWEST_SEGMENTS: Final = 2
_LOGIN: Final = "git"


class _Remote(NamedTuple):
    """The parts of a remote: lower-case host, the port of an https address or "", path segments."""

    host: str
    port: str
    segments: tuple[str, ...]


def commit_url(repo: str | None, sha: str | None, *, hosts: Mapping[str, str] | None = None) -> str | None:
    """Return the address of a commit's page, or None when it cannot be built.

    `sha` is 7 to 64 hex digits; `repo` and `hosts` as in `repo_url`.
    """
    if sha is None or _SHA.fullmatch(sha) is None:
        return None
    found = _located(repo, hosts)
    return None if found is None else f"{found[0]}/{_COMMIT_PATHS[found[1]]}/{sha}"


def repo_url(repo: str | None, *, hosts: Mapping[str, str] | None = None) -> str | None:
    """Return the address of a repository's page, or None when it cannot be built.

    `repo` is a remote in any form that git takes: `https://`, `http://`, `ssh://`, `git://`,
    `git@host:path`; with or without `.git`. `hosts` adds self-hosted platforms, host (or
    `host:port`) → one of PLATFORMS. Never raises.
    """
    found = _located(repo, hosts)
    return None if found is None else found[0]


def without_credentials(url: str) -> str:
    """Return the URL without `user:password@` and without query members that name a secret.

    Accepts web addresses, remotes and SQLAlchemy URLs. The login name of `git@host:path` is
    kept, because it is part of that form and no secret. A password with an unescaped `/` or
    `@` is removed as a whole. Never raises.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _without_scp_credentials(url)
    rest = url[scheme.end() :]
    authority_end = _first_of(rest, "/?#")
    authority, tail = rest[:authority_end], rest[authority_end:]
    if "@" in authority:
        authority = authority.rpartition("@")[2]
        if not authority and "@" in tail:  # no host yet: the password continues after its own "@/"
            tail = tail.rpartition("@")[2]
    elif _is_cut_password(authority) and "@" in tail:
        authority, tail = "", tail.rpartition("@")[2]
    return scheme[0] + authority + _without_secret_members(tail)


def _located(repo: str | None, hosts: Mapping[str, str] | None) -> tuple[str, str] | None:
    """Return `(address, platform)` of a remote on a known host, else None."""
    remote = _parsed(repo) if repo is not None else None
    if remote is None:
        return None
    public = PUBLIC_HOSTS.get(remote.host.removeprefix("www."))
    if public is not None:
        if len(remote.segments) > _FEWEST_SEGMENTS and public != "gitlab":
            return None
        return "/".join(("https:/", remote.host.removeprefix("www."), *remote.segments)), public
    own = {name.lower(): platform for name, platform in (hosts or {}).items()}
    netloc = f"{remote.host}:{remote.port}" if remote.port else remote.host
    platform = own.get(netloc) or own.get(remote.host)
    if platform not in _COMMIT_PATHS:
        return None
    return "/".join(("https:/", netloc, *remote.segments)), platform


def _parsed(repo: str) -> _Remote | None:
    """Return the parts of a remote that a link can be made of; None for any other text."""
    # Browsers drop control characters and take a backslash for a slash: the link would lead elsewhere.
    if not repo.isprintable() or " " in repo or "\\" in repo:
        return None
    found = _URL.fullmatch(repo)
    if found is not None:
        is_web = found["scheme"].lower() == "https"
        # The port of ssh or git is not the port of the web page.
        port = (found["port"] or "") if is_web and found["port"] != "443" else ""
    else:
        found, port = _SCP.fullmatch(repo), ""
    if found is None:
        return None
    path = found["path"].strip("/").removesuffix(".git")
    segments = tuple(path.split("/"))
    if len(segments) < _FEWEST_SEGMENTS or not all(map(_is_name, segments)):
        return None
    return _Remote(found["host"].lower(), port, segments)


def _is_name(segment: str) -> bool:
    """Return whether a path segment can be the name of a user, a group or a repository."""
    return segment not in ("", ".", "..", "-") and _SEGMENT.fullmatch(segment) is not None


def _without_scp_credentials(text: str) -> str:
    """Return `user@host:path` without its user, unless that is the usual one of a git server."""
    head_end = _first_of(text, "/\\")
    user, at, host = text[:head_end].rpartition("@")
    if not at or ":" not in text[:head_end] or (user == _LOGIN and ":" in host):
        return text
    return host + text[head_end:]


def _is_cut_password(authority: str) -> bool:
    """Return whether what looks like `host:port` is the head of `user:password/with/slashes@host`."""
    _, colon, port = authority.partition(":")
    return bool(colon) and not authority.startswith("[") and port != "" and not port.isdecimal()


def _without_secret_members(tail: str) -> str:
    """Return the end of a URL without the members of its query that name a secret."""
    before, mark, query = tail.partition("?")
    if not mark:
        return tail
    query, sharp, fragment = query.partition("#")
    kept = "&".join(member for member in query.split("&") if not is_secret_key(member.partition("=")[0]))
    return before + (mark + kept if kept else "") + sharp + fragment


def _first_of(text: str, stops: str) -> int:
    """Return the index of the first of some characters, or the text's length."""
    return min((at for at in map(text.find, stops) if at >= 0), default=len(text))
