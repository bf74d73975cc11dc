"""What one row of the table of conventions holds: the words of one convention, framework or program.

A row has data only. `table` merges the rows; the rules that read them are `otel.usage_attributes`,
`otel.mapping` and `otel.content`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from otel_agent_telemetry.given_by_name import GivenByName
from otel_agent_telemetry.otel.conventions.log_words import LogWords

Kind = Literal["agent", "chain", "model", "tool"]
"""What a span is. `agent`: an agent's or workflow's invocation, a run. `chain`: a part of one, which may repeat the sum
of what is below it. `model`: one request to a model. `tool`: one call of a tool."""

AGENT: Final[Kind] = "agent"
CHAIN: Final[Kind] = "chain"
MODEL: Final[Kind] = "model"
TOOL: Final[Kind] = "tool"

NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Sender(GivenByName):
    """A program or library whose figures need a rule of their own.

    `marks`: (attribute of the span or its resource, its value in lower case or `*` for any); one of
    them is enough. `providers`: those of its model calls whose figures need it, all where it
    is empty. `cache_beside_input`: its input tokens leave the cached ones out.
    `reasoning_beside_output`: its output tokens leave the reasoning ones out.
    `last_model_event_decides`: a root span without a status of its own failed when the last
    model call in it did. `exception_decides`: a span with an exception failed whatever its
    status is. `is_coding_agent`: its other root spans are no runs that a user asked for.
    `sums_after`: (provider, `*` for any other, which is last; parts of finish reasons in lower
    case) of model calls whose tokens the next call in the same span adds to its own.
    """

    marks: tuple[tuple[str, str], ...]
    providers: tuple[str, ...] = ()
    exception_decides: bool = False
    cache_beside_input: bool = False
    reasoning_beside_output: bool = False
    last_model_event_decides: bool = False
    is_coding_agent: bool = False
    sums_after: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Convention(GivenByName):
    """The words of one emitter. Where several rows or words give the same thing, the first counts.

    Kinds. `kinds`: attribute → its values in lower case → what the span is; the value `*`
    stands for any, `*word` for any that ends with `word`. `misnamed`: attribute of `kinds`
    → kind → patterns of the names of spans that it calls so and that are chains. `pending`:
    attribute → its value on spans that only announce a span → the attribute with the parent of
    the announced span, whose own id is the parent's. `continuations`: attribute → its value on model
    calls whose tokens belong to a call that another span has counted. `echoes`: attribute → its
    value on spans that only repeat what another span beside them reports. `served`: attributes of
    spans that report, for a protocol, calls of tools that their callers may report too. `prompt_spans`: names of a
    coding agent's spans that are what came of a prompt, although no attribute says so.

    Use. `tokens`: our name of a figure → the attributes that give it; `only_beside`: an
    attribute without which they are not read, because their names are anybody's.
    `totals`: how the names of attributes of a whole begin → how those of `tokens` do.
    `token_objects`: attribute with an object, or JSON of one → its member (`a.b` for one
    inside another) → our name of the figure. `costs`: US dollars; `cost_parts`: attributes
    whose sum they are where no other is there; `cost_objects`: attribute with an object → the
    member that is the sum. `models`, `providers`: attributes that give them; `models_beside`:
    attribute → its value → the attribute that gives the model only then; `model_objects`:
    attribute with an object → the member that is the model; `no_models`: what
    senders write in lower case where they do not know the model.

    Names. `agent_names`, `job_types`: attributes that give them. `agent_objects`: attribute
    with an object → the member that is the agent's name. `agent_prefixes`: words before an
    agent's name in a span's name. `agent_verbs`: attribute that a span has → words after the
    agent's name and a dot. `named_by_span`: attributes of `kinds` whose agents and chains are
    called as their spans are. `agent_names_beside`: attribute → its value → the attribute that
    gives the agent's name only then. `columns`: attribute of a span or its resource → a column of the
    run. `user_ids`: attributes that name a person.

    Errors. `timeouts`, `cancellations`: how the types of exceptions, and error codes, end that
    mean so, in lower case; `timeout_messages`, `cancellation_messages`: how messages end, where
    the type of an exception does not say. `event_names`: patterns of names of events that are
    no names, because the attribute `event.name` holds it.

    Content, which `otel.content` reads. `content`: attributes and members of events that hold
    what was said to or by a model, or by people with it; `content_namespaces`: such names with
    all that are below them. `known`: names whose texts are no content, whatever they look like
    and wherever they stand. `known_namespaces`: below them only names whose last word says
    content are left out. `figures`: namespaces of numbers, which are kept also as text. `urls`:
    names of URLs, which are kept without their query. `events`: names, and namespaces of names,
    of events that are the convention's, not the application's. `logs`: what its log records mean.
    """

    name: str
    source: str
    kinds: Mapping[str, Mapping[str, Kind]] = NONE
    misnamed: Mapping[str, Mapping[Kind, tuple[str, ...]]] = NONE
    pending: Mapping[str, Mapping[str, str]] = NONE
    continuations: Mapping[str, str] = NONE
    echoes: Mapping[str, str] = NONE
    served: tuple[str, ...] = ()
    prompt_spans: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[str, ...]] = NONE
    totals: Mapping[str, str] = NONE
    token_objects: Mapping[str, Mapping[str, str]] = NONE
    costs: tuple[str, ...] = ()
    cost_parts: tuple[str, ...] = ()
    cost_objects: Mapping[str, str] = NONE
    models: tuple[str, ...] = ()
    models_beside: Mapping[str, Mapping[str, str]] = NONE
    model_objects: Mapping[str, str] = NONE
    no_models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    agent_names: tuple[str, ...] = ()
    agent_objects: Mapping[str, str] = NONE
    agent_prefixes: tuple[str, ...] = ()
    agent_verbs: Mapping[str, tuple[str, ...]] = NONE
    job_types: tuple[str, ...] = ()
    columns: Mapping[str, str] = NONE
    user_ids: tuple[str, ...] = ()
    agent_names_beside: Mapping[str, Mapping[str, str]] = NONE
    named_by_span: tuple[str, ...] = ()
    only_beside: str | None = None
    senders: tuple[Sender, ...] = ()
    content: tuple[str, ...] = ()
    content_namespaces: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    known_namespaces: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    timeouts: tuple[str, ...] = ()
    cancellations: tuple[str, ...] = ()
    timeout_messages: tuple[str, ...] = ()
    cancellation_messages: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    logs: LogWords | None = None
