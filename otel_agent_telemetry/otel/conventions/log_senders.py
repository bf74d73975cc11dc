"""Whose a log record is, and what its event means: the rows of `log_words` by service, scope and name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.otel.conventions.coding_agents import CODING_AGENTS
from otel_agent_telemetry.otel.conventions.log_words import NOTHING, OTHER, SIGN, LogWords
from otel_agent_telemetry.turns import Role

_WORDS: Final = tuple(row.logs for row in CODING_AGENTS if row.logs is not None)
_OF_SERVICE: Final = {service: words for words in _WORDS for service in words.services}
_OF_SCOPE: Final = {scope: words for words in _WORDS for scope in words.scopes}
_DOUBLES: Final = "gen_ai."
"""How the names of events begin that repeat, by the conventions, what the agent's own event reports."""


def words_of(service: str, scope: str, name: str) -> LogWords | None:
    """Return the words of the agent that a record is of, None for any other sender.

    By `service.name`; the user may have named the service otherwise, so the scope and the event's name show it too.
    """
    words = _OF_SERVICE.get(service.lower()) or _OF_SCOPE.get(scope)
    if words is not None:
        return words
    return next((words for words in _WORDS if name.startswith(words.prefixes)), None)


def role_in(words: LogWords, name: str, attributes: Mapping[str, Any], *, is_failure: bool) -> Role:
    """Return what an event means for its turn; `is_failure`: whether it reports one."""
    # Its tokens are those of the agent's own event, and would count twice.
    if name.startswith(_DOUBLES):
        return NOTHING
    prefix = next((prefix for prefix in words.prefixes if name.startswith(prefix)), "")
    event = name[len(prefix) :]
    if is_failure and event in words.with_failure:
        return words.with_failure[event]
    if (needed := words.only_with.get(event)) is not None and attributes.get(needed) in (None, ""):
        return SIGN
    return words.roles.get(event, OTHER)
