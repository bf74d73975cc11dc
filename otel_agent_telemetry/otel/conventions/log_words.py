"""What a row of the table says of an agent's log records: which of its events mean what, and where their values stand.

An agent that is started by a prompt reports what it does as log records, of which a session's make one run for each
prompt (`turns`). A row has data only; `otel.turn_records` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_agent_telemetry.given_by_name import GivenByName

if TYPE_CHECKING:  # every recording process loads the table, and none of them reads a log record
    from otel_agent_telemetry.turns import Role

BEGINS: Final[Role] = "begins"
MODEL_CALL: Final[Role] = "model_call"
MODEL_ERROR: Final[Role] = "model_error"
MODEL_GAVE_UP: Final[Role] = "model_gave_up"
TOOL_CALL: Final[Role] = "tool_call"
TOOL_DECISION: Final[Role] = "tool_decision"
ERROR: Final[Role] = "error"
ENDS: Final[Role] = "ends"
SIGN: Final[Role] = "sign"
NOTHING: Final[Role] = "nothing"
OTHER: Final[Role] = "other"

_NO_WORDS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_ROLES: Final[Mapping[str, Role]] = MappingProxyType({})

_FIGURES: Final = {
    "input_token_count": "gen_ai.usage.input_tokens",
    "output_token_count": "gen_ai.usage.output_tokens",
    "cached_content_token_count": "gen_ai.usage.cache_read.input_tokens",
    "cached_token_count": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_token_count": "gen_ai.usage.cache_write.input_tokens",
    "thoughts_token_count": "gen_ai.usage.reasoning.output_tokens",
    "reasoning_token_count": "gen_ai.usage.reasoning.output_tokens",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_creation_tokens": "gen_ai.usage.cache_write.input_tokens",
    "model": "gen_ai.request.model",
    "tool_name": "gen_ai.tool.name",
    "function_name": "gen_ai.tool.name",
    "cost_usd": "gen_ai.usage.cost",
}


class LogWords(GivenByName):
    """The events of one agent.

    Whose. `agent`: what the agent is called, and part of the identity of its turns. `services`: its values of
    `service.name`, in lower case; `scopes`: names of its instrumentation scopes, for a program whose user has named
    the service otherwise. `prefixes`: how its events' names may begin; what follows is looked up in `roles`.
    `job_type`: what its runs do.

    What they mean. `roles`: event → what it means for its turn; one that is not listed is an event and nothing more.
    `with_failure`: event → what it means where it reports a failure. `only_with`: event → the attribute without
    which it is only a sign of life, because the agent reports the same call twice.

    Where values stand, of several names the first. `sessions`, `prompts`: ids. `versions`: of the agent. `sequence`:
    the number of the event in its session. `figures`: attribute → the conventional name by which its number, model,
    tool or cost is read; the rules of the agent's `Sender` hold. `errors`: a text; `statuses`: an HTTP status, of 400
    and more for a failure; `durations`: milliseconds of a call; `successes`: whether a tool's call succeeded;
    `decisions`: what was decided about it, and `rejections` the words of them, in lower case, that mean no.

    How turns are identified and joined with traces. `prompt_is_turn`: each prompt id is one turn, also where the
    event that begins it never came. `span_is_run`: the event that begins a turn carries the ids of the span that is
    the same run; else the traces that its events name are steps of the turn.
    """

    agent: str
    job_type: str
    services: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    prefixes: tuple[str, ...]
    roles: Mapping[str, Role]
    with_failure: Mapping[str, Role] = _NO_ROLES
    only_with: Mapping[str, str] = _NO_WORDS
    sessions: tuple[str, ...] = ("session.id",)
    prompts: tuple[str, ...] = ("prompt_id",)
    versions: tuple[str, ...] = ("app.version", "service.version")
    sequence: str = "event.sequence"
    figures: Mapping[str, str] = MappingProxyType(_FIGURES)
    errors: tuple[str, ...] = ("error.message", "error", "error_message")
    statuses: tuple[str, ...] = ("status_code", "http.response.status_code", "http.status_code")
    durations: tuple[str, ...] = ("duration_ms",)
    successes: tuple[str, ...] = ("success",)
    decisions: tuple[str, ...] = ("decision",)
    rejections: tuple[str, ...] = ("reject", "rejected", "denied", "deny", "abort", "cancel")
    prompt_is_turn: bool = False
    span_is_run: bool = False
