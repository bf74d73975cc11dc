"""What runs did, in numbers that add up over runs: how many there were and failed, calls of tools, errors on the way.

A number that nobody counted is not zero. Which of its tool calls a person or a rule refused only some
agents report, and they report each decision: without a decision (`tool_decisions`) the number of rejected
ones is not known.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otel_agent_telemetry.status import FAILED, RUNNING, TIMEOUT
from otel_agent_telemetry.usage import CHILD_ERRORS, REJECTED_TOOLS, TOOL_DECISIONS, USAGE_KEY
from otel_agent_telemetry.wire import load_object

_FAILURES: Final = frozenset({FAILED, TIMEOUT})
_MAX_NAME: Final = 255
"""Characters of a name that are kept: a longer one does not fit into an index of PostgreSQL."""
_MAX_LABELS: Final = 20
_MAX_COUNT: Final = 10**12
"""A greater number in one run counts as this one, so that the sum over a database fits its columns."""


class Work(NamedTuple):
    """Sums over runs. `failed`: those that failed or timed out; `step_errors`: steps that ended with an error."""

    runs: int = 0
    ended: int = 0
    failed: int = 0
    duration_ms: int = 0
    tool_calls: int = 0
    step_errors: int = 0
    tool_decisions: int = 0
    rejected_tools: int = 0

    def plus(self, more: Work) -> Work:
        """Return both added."""
        return Work(*map(sum, zip(self, more, strict=True)))

    @property
    def rejected(self) -> int | None:
        """Return how many tool calls were rejected; None where no agent reported what was decided."""
        return self.rejected_tools if self.tool_decisions else None


NO_WORK: Final = Work()


def work_of(run: Any) -> Work:
    """Return the sums of one run: a row with `status`, `duration_ms`, `tool_calls` and `all_metrics`."""
    # The duration of an open run is not known yet: it is counted when it ends.
    has_ended = run.status != RUNNING
    found = Work(
        runs=1,
        ended=int(has_ended),
        failed=int(run.status in _FAILURES),
        duration_ms=min(run.duration_ms, _MAX_COUNT) if has_ended else 0,
        tool_calls=min(run.tool_calls, _MAX_COUNT),
    )
    # The JSON of most runs holds none of these, and is not parsed for them.
    text = run.all_metrics
    if text is None or (CHILD_ERRORS not in text and TOOL_DECISIONS not in text):
        return found
    used = (load_object(text) or {}).get(USAGE_KEY)
    if not isinstance(used, dict):
        return found
    errors, decisions, rejected = (_count(used.get(name)) for name in (CHILD_ERRORS, TOOL_DECISIONS, REJECTED_TOOLS))
    return found._replace(step_errors=errors, tool_decisions=decisions, rejected_tools=rejected)


def _count(value: object) -> int:
    """Return a count; 0 for anything that is none."""
    return min(value, _MAX_COUNT) if type(value) is int and value > 0 else 0


def names_of(run: Any) -> list[tuple[str, str]]:
    """Return dimension and name of each line that a run counts in, beside those of its model and its tree."""
    found = [("agent", run.agent_name), ("host", run.host), ("session", run.session_id), ("user", run.user_id)]
    if run.git_repo:
        found.append(("repository", kept_name(run.git_repo)))
    # Most runs have no labels; what another program wrote there need not be an object.
    if run.labels:
        labels = load_object(run.labels) or {}
        found += [("label", kept_name(f"{name}={value}")) for name, value in sorted(labels.items())[:_MAX_LABELS]]
    return [(dimension, name) for dimension, name in found if name]


def kept_name(name: str) -> str:
    """Return a repository or label as it is kept: a long one without its end, for which an ellipsis stands."""
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
