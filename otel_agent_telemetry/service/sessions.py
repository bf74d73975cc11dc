"""Sessions of browsers: a signed cookie that stands for a token, and the proof that a form came from our own page.

The cookie holds the token's name, a mark of its digest, and a random id; it is signed with a secret of this database,
which every service over it shares. It holds no token, and ends 12 hours after the sign-in, or at once when its token
is no longer known. A form carries a value that is signed for its session: another site can neither read nor make one.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

from otel_agent_telemetry.service.tokens import PERMISSIONS, Token, Tokens

_log = logging.getLogger(__name__)

SESSION_S: Final = 12 * 3600
"""Seconds after which a browser signs in again."""
PAGE_SESSION: Final = "otel_agent_telemetry.page_session"
"""Key in the scope of a request: its `PageSession`."""
_COOKIE_PREFIX: Final = "agent_telemetry_"
_MARK_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PageSession:
    """Who looks at a page: what its token may do, and its signer of forms. Without tokens everybody may everything."""

    token_name: str
    permissions: frozenset[str]
    session_id: str
    _signer: Signer

    def may(self, permission: str) -> bool:
        """Return whether the session's token may `read`, `write` or `admin`."""
        return permission in self.permissions

    def form_token(self) -> str:
        """Return the value of a form's hidden field `form_token`; a new one each time, valid for 12 hours."""
        return self._signer.form_token(self.session_id)

    def is_own_form(self, form_token: str) -> bool:
        """Return whether a form's value was made for this session."""
        return self._signer.is_form_token(form_token, self.session_id)


class Signer:
    """Signs cookies and forms with a secret of the database."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._forms = URLSafeTimedSerializer(secret, salt="form")
        # Cookies do not know ports: services of two databases on one host must not end each other's sessions.
        self.cookie_name = _COOKIE_PREFIX + hmac.digest(secret, b"cookie", "sha256").hex()[:8]

    def cookie_of(self, token: Token) -> str:
        """Return the value of a new session's cookie."""
        return str(self._sessions.dumps([token.name, self._mark(token), secrets.token_urlsafe(9)]))

    def session_of(self, cookie: str, tokens: Tokens) -> tuple[Token, PageSession] | None:
        """Return the token and the session of a cookie; None for one that is forged, old, or of a removed token."""
        try:
            name, mark, session_id = self._sessions.loads(cookie, max_age=SESSION_S)
        except (BadData, ValueError, TypeError):
            return None
        for token in tokens.known():
            if token.name == name and hmac.compare_digest(self._mark(token), str(mark)):
                return token, self.session(token.name, token.may, str(session_id))
        return None

    def session(self, token_name: str, permissions: frozenset[str], session_id: str = "") -> PageSession:
        """Return a session; without an id that of a reader who has no cookie."""
        return PageSession(token_name, permissions, session_id, self)

    def form_token(self, session_id: str) -> str:
        """Return a signed value for a form of this session."""
        return str(self._forms.dumps(session_id))

    def is_form_token(self, form_token: str, session_id: str) -> bool:
        """Return whether the value was signed for this session in the last 12 hours."""
        try:
            return hmac.compare_digest(str(self._forms.loads(form_token, max_age=SESSION_S)), session_id)
        except (BadData, ValueError, TypeError):
            return False

    def _mark(self, token: Token) -> str:
        """Return what binds a cookie to a token: whoever reads one of cookie, database and tokens forges none."""
        return hmac.digest(self._secret, token.digest, "sha256")[:_MARK_BYTES].hex()


class Sessions:
    """The sessions of one service. Its signer is made when the first request needs it."""

    def __init__(self, tokens: Tokens | None, read_secret: Callable[[], Awaitable[str]]) -> None:
        self.tokens = tokens
        self._read_secret = read_secret
        self._signer: Signer | None = None

    async def signer(self) -> Signer:
        """Return the signer. Raises StorageError when the database's secret can neither be read nor made."""
        if self._signer is None:
            self._signer = Signer(bytes.fromhex(await self._read_secret()))
        return self._signer

    async def open_session(self) -> PageSession:
        """Return the session of a reader without a cookie: all rights where no token is needed, else none."""
        return (await self.signer()).session("", PERMISSIONS if self.tokens is None else frozenset())

    async def find(self, cookies: bytes) -> tuple[Token, PageSession] | None:
        """Return the token and the session of a request's `Cookie` header; None without a valid one."""
        if self.tokens is None or not cookies:
            return None
        signer = await self.signer()
        try:
            found = SimpleCookie(cookies.decode("latin-1")).get(signer.cookie_name)
        except CookieError:
            return None
        return None if found is None else signer.session_of(found.value, self.tokens)
