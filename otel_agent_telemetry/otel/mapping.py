"""From a span to a run's columns (design, "What is a run"). Pure: no clock, no I/O, no state.

A column comes from the first that has it: what the client set by name, `agent.run.<column>`
on the span, the matching semantic convention, the surroundings. Everything that is left
over goes to `context_json`, bounded and with secrets masked.

Agents inside runs: which of their spans are runs of their own (design, "What is a run").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.column_checks import clamp
from otel_agent_telemetry.columns import SETTABLE_COLUMNS, TOTAL_COLUMNS, Fields
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import rule_of
from otel_agent_telemetry.otel.content_choice import CONTENT_KEPT, around_of, is_chosen
from otel_agent_telemetry.otel.left_out import NOTHING, sum_of
from otel_agent_telemetry.otel.people_and_labels import LABEL, OFF, labels_of, user_of
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.recording.active_runs import ActiveRun, ResourceDefaults
from otel_agent_telemetry.redaction import clean_members, kept_name, mask_columns
from otel_agent_telemetry.usage import LEFT_OUT_KEY, USAGE_KEY, Usage
from otel_agent_telemetry.wire import dumps_text, load_json

_MAX_RESOURCES: Final = 64
_OURS: Final = frozenset({names.GEN_AI_AGENT_NAME, names.GEN_AI_OPERATION})


class Overrides(NamedTuple):
    """What is known besides the span.

    Columns by name, names that are no columns, what was used, an agent below, what was left out of
    steps and events (None where all that is left out, of the span too, is counted elsewhere), and
    the agent's name where it was found by the span before.
    """

    settings: Mapping[str, Any] = MappingProxyType({})
    extra: Mapping[str, Any] = MappingProxyType({})
    usage: Usage = MappingProxyType({})
    child_agent: str | None = None
    left_out: Mapping[str, int] | None = NOTHING
    agent_name: str | None = None


NO_OVERRIDES: Final = Overrides()


def agent_name_of(view: SpanView, child_agent: str | None = None) -> str:
    """Return the agent's name from the span and those below it, else the service's name; a secret in it is masked."""
    name = agent_name_attribute(view.attributes) or child_agent or _agent_name_in(view) or _framework_name(view)
    name = name or _invocation_name(view)
    return kept_name(name or str(view.resource.get(names.SERVICE_NAME) or names.DEFAULT_SERVICE))


def own_agent_name(view: SpanView) -> str | None:
    """Return the agent's name that the span's own attributes hold; None when they hold none."""
    name = agent_name_attribute(view.attributes) or _agent_name_in(view)
    return name and kept_name(name)


def agent_name_attribute(attributes: Mapping[str, Any]) -> str | None:
    """Return the agent's name that attributes give; None where they give none."""
    for key in names.AGENT_NAMES:
        if (value := attributes.get(key)) and isinstance(value, str):
            return value
    return None


def _agent_name_in(view: SpanView) -> str | None:
    """Return NAME of a span `invoke_agent NAME` (conventions), or of `NAME.run` and its like (`AGENT_VERBS`).

    The Vercel AI SDK puts the model there where the function has no name.
    """
    for key, words in names.AGENT_NAMES_BESIDE.items():
        name = view.attributes.get(words.get(names.text_attribute(view.attributes, key) or "", ""))
        if name and isinstance(name, str):
            return name
    verb, _, rest = view.name.partition(" ")
    if rest and verb in names.AGENT_PREFIXES and not any(view.attributes.get(key) == rest for key in names.MODELS):
        return rest
    name, _, verb = view.name.rpartition(".")
    if not name:
        return None
    verbs = (verbs for key, verbs in names.AGENT_VERBS.items() if key in view.attributes)
    return name if any(verb in some for some in verbs) else None


def _framework_name(view: SpanView) -> str | None:
    """Return what a chain or graph of a framework is called: as a member of an attribute says, else as the span."""
    if not _is_named_by_span(view) or not names.is_agent_work(view.attributes, view.name):
        return None
    for key, member in names.AGENT_OBJECTS.items():
        text = names.text_attribute(view.attributes, key) or ""
        if member in text and isinstance(agent := json_object(text).get(member), str) and agent:
            return agent
    return view.name


def _invocation_name(view: SpanView) -> str | None:
    """Return the name of a span that is an agent's invocation and is called otherwise than the operation."""
    if names.text_attribute(view.attributes, names.GEN_AI_OPERATION) not in names.AGENT_PREFIXES:
        return None
    if view.name.partition(" ")[0] in names.AGENT_PREFIXES:
        return None
    sender = names.sender_of(view.attributes, view.resource)
    # A coding agent's program is the agent, whatever its span is called.
    return None if sender is not None and sender.is_coding_agent else view.name


def _is_named_by_span(view: SpanView) -> bool:
    """Return whether the sender gives its agent's name as the name of the span."""
    return any(key in view.attributes for key in names.NAMED_BY_SPAN)


def job_type_of(view: SpanView) -> str:
    """Return what the run does: the first of the span's attributes for it, its name, or `unknown`."""
    given = (view.attributes.get(key) for key in (names.JOB_TYPE, *names.JOB_TYPES))
    return str(next(filter(None, given), None) or view.name or "unknown")


def run_columns(
    view: SpanView, *, overrides: Overrides = NO_OVERRIDES, around: ResourceDefaults, problems: list[str]
) -> Fields:
    """Return every column but identity, status and times. What is unusable is left out and noted in `problems`."""
    attributes = view.attributes
    given = {**_marked_columns(attributes, problems), **overrides.settings}
    columns = clamp(given, problems) if given else {}
    for source in (_conventional(attributes), conventional_of_resource(view.resource), around.columns):
        for column, text in source.items():
            columns.setdefault(column, text)
    if "@" in columns.get("git_repo", ""):  # a remote is anybody's text, and may hold a password
        with importing():
            from otel_agent_telemetry.urls import without_credentials

        columns["git_repo"] = without_credentials(columns["git_repo"])
    if "agent_name" not in columns:
        columns["agent_name"] = overrides.agent_name or agent_name_of(view, overrides.child_agent)
    if "job_type" not in columns:
        columns["job_type"] = job_type_of(view)
    totals = {name: columns.pop(name) for name in TOTAL_COLUMNS if name in columns}
    if totals:  # what the application says itself counts before what was counted
        columns["metrics_json"] = with_reported(columns.get("metrics_json"), totals)
    _put_people_and_labels(columns, view, around)
    if overrides.usage or "metrics_json" in columns:
        _put_json(columns, "metrics_json", {USAGE_KEY: overrides.usage} if overrides.usage else {}, around)
    around = around_of(
        around, view.resource, attributes, agent_name=columns["agent_name"], product=columns.get("product")
    )
    kept, left_out = rule_of(around).keep({key: attributes[key] for key in left_over_names(attributes)})
    if is_chosen(around):
        kept = {**kept, CONTENT_KEPT: True}
    left_out = NOTHING if overrides.left_out is None else sum_of((left_out, overrides.left_out))
    _put_json(columns, "context_json", {**kept, **overrides.extra}, around, left_out)
    return mask_columns(columns)


def _put_people_and_labels(columns: Fields, view: SpanView, around: ResourceDefaults) -> None:
    """Add the user and the labels that span and resource give; what was set by name stands."""
    given = "\n".join((*view.attributes, *view.resource))
    if around.user_ids == OFF and "labels" not in columns and LABEL not in given:
        return
    if "user_id" not in columns:
        user = user_of(view.attributes, around)
        if (user := user if user is not None else user_of(view.resource, around)) is not None:
            columns["user_id"] = user
    labels = {**labels_of(view.resource), **labels_of(view.attributes)}
    if "labels" in columns:
        labels |= json_object(columns.pop("labels"))
    if labels:
        columns["labels"] = dumps_text(clean_members(labels, max_bytes=around.max_bytes))


def _marked_columns(attributes: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the columns that `agent.run.*` sets; what is unusable becomes a problem."""
    found: dict[str, Any] = {}
    for key, value in attributes.items():
        if key.startswith(names.PREFIX):
            column = key[len(names.PREFIX) :]
            if column in SETTABLE_COLUMNS:
                found[column] = value
            elif key == names.METRICS:
                found.setdefault("metrics_json", value)
            elif key not in (names.RUN_ID, names.STATUS, names.PART_OF):
                problems.append(f"{key} is no column of a run")
    return found


def _conventional(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that attributes of conventions give, the first one that has a text."""
    found: dict[str, str] = {}
    given = names.CONVENTIONAL_COLUMNS.keys() & attributes.keys()
    for key in names.CONVENTIONAL_COLUMNS if len(given) > 1 else given:
        value = attributes.get(key)
        if value and isinstance(value, str) and not value.startswith(names.DEFAULT_SERVICE):
            found.setdefault(names.CONVENTIONAL_COLUMNS[key], value)
    return found


_of_resource: dict[int, tuple[Mapping[str, Any], dict[str, str]]] = {}


def conventional_of_resource(resource: Mapping[str, Any]) -> dict[str, str]:
    """Return the same for a resource; this process's one or two are remembered, because each start and end asks.

    Those that views of live spans share are proxies (`spans.view_of`). A plain dict was
    received: it is another one each time, of any size, and not kept.
    """
    if type(resource) is not MappingProxyType:
        return _conventional(resource)
    known = _of_resource.get(id(resource))
    if known is None or known[0] is not resource:
        if len(_of_resource) >= _MAX_RESOURCES:
            _of_resource.clear()
        known = _of_resource[id(resource)] = (resource, _conventional(resource))
    return known[1]


def left_over_names(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the attributes that give no column and are kept in `context_json`, unless they are content."""
    return tuple(key for key in keys if not key.startswith((names.PREFIX, LABEL)) and key not in _OURS)


def _put_json(
    columns: Fields,
    column: str,
    more: Mapping[str, Any],
    around: ResourceDefaults,
    left_out: Mapping[str, int] = NOTHING,
) -> None:
    """Make a JSON column text: what was given (an object, or JSON text of one) and `more` merged.

    `left_out` is added as it is, unless there is a member of that name.
    """
    given = columns.pop(column, None)
    try:
        value = _merged(json_object(given), more) if given is not None else dict(more)
    except Exception as failure:  # an object of the caller's
        value = {"unreadable": f"{type(given).__name__} raises {type(failure).__name__}", **more}
    if value or left_out:
        cleaned = clean_members(value, max_bytes=around.max_bytes)
        columns[column] = dumps_text(
            {**cleaned, LEFT_OUT_KEY: cleaned.get(LEFT_OUT_KEY, left_out)} if left_out else cleaned
        )


def with_reported(given: Any, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for `metrics_json` with figures that were given by the name of their column."""
    metrics = {} if given is None else json_object(given)
    used = metrics.get(USAGE_KEY)
    return {**metrics, USAGE_KEY: {**(used if isinstance(used, Mapping) else {}), **totals}}


def _merged(given: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; in the usage, a figure that was given counts before the one that was counted."""
    used, reported = more.get(USAGE_KEY), given.get(USAGE_KEY)
    if isinstance(used, Mapping) and isinstance(reported, Mapping):
        return {**given, **more, USAGE_KEY: {**used, **reported}}
    return {**more, **given} if reported is not None else {**given, **more}


def differing(columns: Fields, used: Usage) -> dict[str, Any]:
    """Return the figures of a run's usage that it gave itself and that differ from those counted."""
    reported = json_object(columns.get("metrics_json") or "{}").get(USAGE_KEY)
    if not isinstance(reported, dict):
        return {}
    return {name: value for name, value in reported.items() if used.get(name) != value}


def json_object(given: Any) -> dict[str, Any]:
    """Return a value for a JSON column as an object: mappings as they are, JSON text parsed, the rest as `value`."""
    if isinstance(given, str):
        given = load_json(given, {"text": given})
    if isinstance(given, Mapping):
        return dict(given)
    return {"value": given}


def repeats(view: SpanView, run: ActiveRun) -> bool:
    """Return whether an agent's span below a run only repeats what that run is; it is a step of it then.

    Frameworks wrap an agent in spans of the same agent, or of none that they name; the first
    agent below such a one gives it its name. Whoever marks a span as a run means it.
    """
    if names.is_marked(view.attributes) or not run.is_agent:
        return False
    name = named_agent(view)
    if name is None:
        return True
    if run.takes_child_name and run.child_agent is None:
        run.child_agent = name
    return name == (run.child_agent if run.takes_child_name else run.agent_name)


def service_of(resource: Mapping[str, Any]) -> str | None:
    """Return the service that a program is of; None where it has only the name that OpenTelemetry puts."""
    service = names.text_attribute(resource, names.SERVICE_NAME) or ""
    return None if service.startswith(names.DEFAULT_SERVICE) else kept_name(service) or None


def named_agent(view: SpanView) -> str | None:
    """Return the agent that a span inside a run names; None where it names none."""
    name = own_agent_name(view)
    if name is None and _is_named_by_span(view) and names.is_agent_invocation(view.attributes, view.name):
        return kept_name(view.name)  # the agent's own attributes come later
    return name


def is_agents_doing(view: SpanView) -> bool:
    """Return whether a span is an agent's doing: it names one, or is an agent's or a chain that runs one."""
    return own_agent_name(view) is not None or names.is_agent_work(view.attributes, view.name)


def note_agent(run: ActiveRun, view: SpanView) -> None:
    """Note whether a run is an agent's doing, and whether it still needs a name."""
    named = own_agent_name(view) is not None
    run.is_agent = named or names.is_agent_work(view.attributes, view.name)
    run.takes_child_name = run.is_agent and not named
