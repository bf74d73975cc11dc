"""For which runs message content is kept where it is not kept in general: those of some agents or projects. Pure.

`TELEMETRY_CAPTURE_CONTENT_FOR` names them, as `agent:NAME` and `project:NAME`. An agent is named by its run, by the
span or log record itself, or by `service.name`; a project by the label `project` or by `agent.run.product`. What
is received over OTLP is judged span by span and record by record, because its run may not have come yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.recording.active_runs import ResourceDefaults

CONTENT_KEPT: Final = "content_kept"
"""Member of `context_json` of a run whose content is kept because it was chosen."""
_AGENT: Final = "agent:"
_PROJECT: Final = "project:"
_AGENT_NAMES: Final = (*names.AGENT_NAMES, names.SERVICE_NAME)
_PROJECT_NAMES: Final = ("agent.label.project", f"{names.PREFIX}product")


def around_of(
    around: ResourceDefaults,
    resource: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    agent_name: str | None = None,
    product: object = None,
) -> ResourceDefaults:
    """Return the defaults that hold for a run, span or log record: with content where it is chosen.

    `agent_name`, `product`: those of its run, where that is known.
    """
    # The usual case: nothing is chosen, or everything.
    if around.capture_content or not around.content_for:
        return around
    # With its kind before it: an agent and a project may have the same name.
    given = {f"{_AGENT}{agent_name}".lower(), f"{_PROJECT}{product}".lower()}
    given.update(_given(_AGENT, _AGENT_NAMES, resource, attributes))
    given.update(_given(_PROJECT, _PROJECT_NAMES, resource, attributes))
    return around if given.isdisjoint(around.content_for) else around._replace(capture_content=True)


def is_chosen(around: ResourceDefaults) -> bool:
    """Return whether content is kept by choice, of defaults that `around_of` has returned."""
    return around.capture_content and bool(around.content_for)


def _given(kind: str, keys: tuple[str, ...], *places: Mapping[str, Any]) -> Iterator[str]:
    """Yield what attributes name, as the setting does."""
    for place in places:
        for key in keys:
            if (value := place.get(key)) is not None:
                yield f"{kind}{value}".lower()
