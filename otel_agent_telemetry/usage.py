"""Usage of models and tools: calls, tokens; as mappings that can be added.

A *usage* maps names to counts (integers ≥ 0) or to lists of words: `model_calls`,
`tool_calls`, `input_tokens`, `models` … Counts are added, lists united, so order and grouping
do not matter. `otel.usage` extracts usages from spans.

Prices are no part of a usage: a reader works them out from what each model used (`storage.pricing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

Usage = Mapping[str, Any]
"""Name → count or list of words."""

NO_USAGE: Final[Usage] = MappingProxyType({})
USAGE_KEY: Final = "gen_ai"
"""The member of a run's `metrics_json` that holds its usage."""
LEFT_OUT_KEY: Final = "dropped"
"""The member of a run's `context_json` that counts what was left out as message content: name → how often."""
BY_MODEL: Final = "by_model"
"""Model → its calls, its tokens and its provider: what a price depends on."""
COST: Final = "cost_nusd"
"""10^-9 US dollars, in roll-ups that earlier versions stored."""
REPORTED: Final = "reported_"
"""Before a name in the usage of a model: the part of that figure whose cost the spans reported."""
REPORTED_COST: Final = "reported_cost_nusd"
"""10^-9 US dollars that spans of model calls reported, under their model, or beside it for calls without one."""
RUN_COST: Final = "run_cost_nusd"
"""10^-9 US dollars that the run's own span reported for the whole."""
LAST_CALL: Final = "last_model_call"
"""When a model call ended and how, as text of which the greatest is the last: `TIME ok` or `TIME failed WHY`."""
LAST_CALL_DECIDES: Final = "last_model_call_decides"
"""In the usage of a run's own span: 1 where its sender leaves its status to the last model call."""
MODEL_INSIDE: Final = "model_inside"
"""In the usage of one span: the model that it names for the calls inside it which name none."""
LEFT_OUT: Final = "left_out"
"""Name → how often it was left out of a span that came over OTLP, or of its events, as message content."""
NO_MODEL: Final = ""
"""The name under `BY_MODEL` of what spans used that report tokens and no model: calls, if a span above names one."""
SO_FAR: Final = "so_far"
"""Model → tokens of calls whose sender adds them to those of the next call in the same span: of several the greatest
count, and only where no such call (`SUMS_UP`) follows."""
SUMS_UP: Final = "sums_up"
"""In the usage of a call: 1 where its tokens hold those of the calls before it in the same span."""
TOOL_CALLS: Final = "tool_calls"
SERVED: Final = "served_tool_calls"
"""Calls of tools that a protocol's client or server reports: those that callers report too, unless there are more."""
CHILD_ERRORS: Final = "child_errors"
TOOL_DECISIONS: Final = "tool_decisions"
"""Calls of tools that a person or a rule was asked about, and their answer reported."""
REJECTED_TOOLS: Final = "rejected_tools"
"""Those of them that were refused; not known where nothing was reported to be decided."""
_TOKENS: Final = "_tokens"
_OF_STEPS: Final = frozenset(
    {"steps", TOOL_CALLS, SERVED, CHILD_ERRORS, "had_errors", LEFT_OUT, TOOL_DECISIONS, REJECTED_TOOLS}
)
"""What is counted on every span; the rest is counted on model calls."""
_MAX_WORDS: Final = 100
_MAX_NAMES: Final = 256
REST: Final = "…"
"""The name under which counts of names are added that are too many to be kept apart."""


def added(usages: Iterable[Usage]) -> dict[str, Any]:
    """Return the sum of usages, names in order: counts add up, lists and objects are united, of two texts one stays."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            elif name == LEFT_OUT:
                total[name] = _counted_together(total.get(name, {}), value)
            elif name == SO_FAR:
                total[name] = _greatest(total.get(name, {}), value)
            elif isinstance(value, Mapping):
                total[name] = _united(total.get(name, {}), value)
            elif isinstance(value, str):
                if name == MODEL_INSIDE:  # of the one span alone
                    continue
                total[name] = max(total.get(name, ""), value)
            else:
                total[name] = sorted({*total.get(name, ()), *value})[:_MAX_WORDS]
    return dict(sorted(total.items()))


def _united(known: Mapping[str, Usage], more: Mapping[str, Usage]) -> dict[str, Usage]:
    """Merge objects of usages by name; those beyond the first hundred names are left out."""
    united = {name: added([known.get(name, {}), more.get(name, {})]) for name in {**known, **more}}
    return dict(sorted(united.items())[:_MAX_WORDS])


def _greatest(known: Mapping[str, Usage], more: Mapping[str, Usage]) -> dict[str, Usage]:
    """Return for each model the greatest of each of its figures."""
    models = {name: (known.get(name, {}), more.get(name, {})) for name in {**known, **more}}
    return {
        name: {figure: max(one.get(figure, 0), two.get(figure, 0)) for figure in {**one, **two}}
        for name, (one, two) in sorted(models.items())
    }


def _counted_together(known: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Add counts of names; those beyond the first 256 names are counted together, whatever the order of adding."""
    counts = dict(known)
    for name, times in more.items():
        counts[name] = counts.get(name, 0) + times
    counts = dict(sorted(counts.items()))
    if len(counts) <= _MAX_NAMES:
        return counts
    rest = counts.pop(REST, 0)
    # The smallest names are kept: one that had to go never belongs to them again, so each count is whole.
    kept = dict(islice(counts.items(), _MAX_NAMES))
    return {**kept, REST: rest + sum(islice(counts.values(), _MAX_NAMES, None))}


def left_out(*, own: Usage, steps: Usage, records: Usage = NO_USAGE) -> dict[str, int]:
    """Return what was left out of a run, its steps, their events and its log records, by name."""
    of_spans = _counted_together(own.get(LEFT_OUT, {}), steps.get(LEFT_OUT, {}))
    return _counted_together(of_spans, records.get(LEFT_OUT, {}))


def is_call(usage: Usage) -> bool:
    """Return whether a span with this usage is a model call, or repeats what the calls inside it used."""
    return not (usage.keys() <= _OF_STEPS)


def is_any_call(usage: Usage) -> bool:
    """Return whether a span with this usage counts calls of a model or a tool, which one inside it may count again."""
    return is_tool_call(usage) or is_call(usage)


def is_tool_call(usage: Usage) -> bool:
    """Return whether a span with this usage counts calls of tools."""
    return TOOL_CALLS in usage or SERVED in usage


def folded(own: Usage, inside: Usage) -> dict[str, Any]:
    """Return what a span and everything inside it used, the same calls once.

    `own`: what the span itself reports. `inside`: the sum over what is below it. Two
    instrumentations, or a wrapper, report one call twice, and agents repeat the sum of their
    calls. So tokens are those of the innermost spans that report any. A tool call without a model
    call inside it is the tool calls inside it; with one it is an agent, whose tools are other calls.
    """
    inside = _with_sums_counted(inside)
    if (model := own.get(MODEL_INSIDE) or next(iter(own.get("models", ())), None)) is not None:
        inside = _claimed(inside, model)
    if MODEL_INSIDE in own:
        own = {name: value for name, value in own.items() if name != MODEL_INSIDE}
    repeated = TOOL_CALLS if TOOL_CALLS in inside else SERVED if is_tool_call(inside) else None
    if repeated is not None and not is_call(inside):
        own = {name: value for name, value in own.items() if name not in (repeated, SERVED)}
    # Only two calls can be the same call; everything else is added.
    if not (is_call(own) and is_call(inside)):
        return added([own, inside])
    counted = inside if has_tokens(inside) or not has_tokens(own) else own
    total = {name: value for name, value in counted.items() if name not in _OF_STEPS and name != RUN_COST}
    if (calls := inside.get("model_calls", own.get("model_calls"))) is not None:
        total["model_calls"] = calls
    if counted is own and "models" in inside:
        total["models"] = [*own.get("models", ()), *inside["models"]]
    elif (cost := _reported_cost(own)) is not None and _reported_cost(inside) is None:
        total[BY_MODEL] = _with_cost(inside.get(BY_MODEL, {}), cost)
    return added([{name: value for name, value in total.items() if value != {}}, of_steps(own), of_steps(inside)])


def _with_sums_counted(inside: Usage) -> Usage:
    """Return the usage of everything in one span with its `SO_FAR` counted, where no call has repeated that."""
    if not depends_on_others(inside):
        return inside
    rest = {name: value for name, value in inside.items() if name not in (SO_FAR, SUMS_UP)}
    so_far = {} if SUMS_UP in inside else inside[SO_FAR]
    return added([rest, *so_far.values(), {BY_MODEL: so_far}]) if so_far else rest


def depends_on_others(usage: Usage) -> bool:
    """Return whether what a call used is known only from the calls beside it, too."""
    return SO_FAR in usage or SUMS_UP in usage


def _claimed(inside: Usage, model: str) -> Usage:
    """Return a usage in which what names no model is calls of this one."""
    by_model = inside.get(BY_MODEL, {})
    if NO_MODEL not in by_model:
        return inside
    rest = {name: used for name, used in by_model.items() if name != NO_MODEL}
    calls = {"model_calls": by_model[NO_MODEL].get("model_calls", 0), "models": [model]}
    others = {name: value for name, value in inside.items() if name != BY_MODEL}
    return added([others, calls, {BY_MODEL: rest}, {BY_MODEL: {model: by_model[NO_MODEL]}}])


def _with_cost(by_model: Mapping[str, Usage], cost: int) -> Mapping[str, Usage]:
    """Return what one model used with the cost that a span around its calls reports; several have no share of it."""
    # How the cost is shared between several models, nobody has reported.
    if len(by_model) != 1:
        return by_model
    ((model, used),) = by_model.items()
    reported = {REPORTED + name: count for name, count in used.items() if isinstance(count, int)}
    return {model: {**used, **reported, REPORTED_COST: cost}}


def summed(steps: Sequence[tuple[Usage, int]]) -> dict[str, Any]:
    """Return what the steps of a run used, the same calls once (`folded`).

    Each step is its usage and the position of the step around it, negative for none.
    """
    inside: list[list[Usage]] = [[] for _ in steps]
    missing = [0] * len(steps)
    for _, around in steps:
        if around >= 0:
            missing[around] += 1
    ready = [position for position, count in enumerate(missing) if not count]
    total: list[Usage] = []
    for position in ready:  # grows: a step is ready when all that is inside it has been counted
        usage, around = steps[position]
        used = folded(usage, added(inside[position])) if inside[position] else usage
        if around < 0:
            total.append(used)
            continue
        inside[around].append(used)
        missing[around] -= 1
        if not missing[around]:
            ready.append(around)
    return added(total)


def of_steps(usage: Usage) -> dict[str, Any]:
    """Return what a usage counts on every step, without what it counts on model calls."""
    return {name: usage[name] for name in _OF_STEPS & usage.keys()}


def has_tokens(usage: Usage) -> bool:
    """Return whether a usage has a number of tokens."""
    return SO_FAR in usage or any(name.endswith(_TOKENS) and count for name, count in usage.items())


def shown_usage(*, own: Usage, steps: Usage, records: Usage = NO_USAGE) -> dict[str, Any]:
    """Return a run's usage for readers, from the usage on its own span, the sum of its steps and of its log records.

    The run's own tokens count only when no step has any, because frameworks repeat the total
    on the root span; so with a cost. What the records give counts before what the spans do: a coding agent reports its
    calls in both, and completely in its records.
    """
    if records:
        given = shown_usage(own={}, steps=records)
        known = shown_usage(own=own, steps=steps)
        if _reported_cost(records) is not None:
            known.pop(RUN_COST, None)
        return dict(sorted({**known, **given}.items()))
    if TOOL_CALLS in own and (is_call(steps) or TOOL_CALLS in steps):  # a tool that does the work of an agent
        own = {name: value for name, value in own.items() if name != TOOL_CALLS}
    usage = folded(own, steps)
    if (served := usage.pop(SERVED, 0)) > usage.get(TOOL_CALLS, 0):
        usage[TOOL_CALLS] = served
    usage.pop(RUN_COST, None)
    usage.pop(LAST_CALL_DECIDES, None)
    usage.pop(LEFT_OUT, None)
    if NO_MODEL in usage.get(BY_MODEL, {}):
        usage[BY_MODEL] = {name: used for name, used in usage[BY_MODEL].items() if name != NO_MODEL}
        if not usage[BY_MODEL]:
            del usage[BY_MODEL]
    if RUN_COST in own and _reported_cost(steps) is None:
        usage[RUN_COST] = own[RUN_COST]
    if usage.get(CHILD_ERRORS):
        usage["had_errors"] = True
    return dict(sorted(usage.items()))


def _reported_cost(usage: Usage) -> int | None:
    """Return the cost that spans of model calls reported; None where none did."""
    of_models = usage.get(BY_MODEL, {}).values()
    costs = [one[REPORTED_COST] for one in (usage, *of_models) if REPORTED_COST in one]
    return sum(costs) if costs else None


def reported_cost_usd(used: Usage) -> float | None:
    """Return the US dollars that spans report for all of a usage; None where they do not for some of its calls."""
    if isinstance(run_cost := used.get(RUN_COST), int):
        return run_cost / 1e9
    by_model = used.get(BY_MODEL)
    models = [one for one in by_model.values() if isinstance(one, Mapping)] if isinstance(by_model, Mapping) else []
    if any(one.get("model_calls") != one.get(f"{REPORTED}model_calls") for one in models):
        return None
    costs = [cost for one in (used, *models) if isinstance(cost := one.get(REPORTED_COST), int)]
    return sum(costs) / 1e9 if costs else None


def last_call(*, ended_at: str, failure: str | None) -> str:
    """Return the text of `LAST_CALL` for one call; `failure` is why it failed, None for one that did not."""
    return f"{ended_at} ok" if failure is None else f"{ended_at} failed {failure}"


def failure_of_last_call(used: Usage) -> str | None:
    """Return why the last model call of a run failed; None where it did not, or where it decides nothing."""
    text = used.get(LAST_CALL)
    if not isinstance(text, str):
        return None
    _, _, how = text.partition(" ")
    word, _, why = how.partition(" ")
    return (why or "the last model call failed") if word == "failed" else None
