"""The lines of `tail`: a run state, an event or a step of a journal, or of a service, as one line."""

from datetime import datetime
from typing import Any

from otel_agent_telemetry.cli.fitted_table import WIDE
from otel_agent_telemetry.cli.item_words import described
from otel_agent_telemetry.cli.output import (
    format_moment,
    format_start,
    local_time,
    printable,
    shortened,
    style_of,
    to_json_text,
)
from otel_agent_telemetry.cli.run_table import short_id
from otel_agent_telemetry.model import RunEvent
from otel_agent_telemetry.operations.line_items import item_of
from otel_agent_telemetry.wire import EVENT, SPAN

_MAX_PAYLOAD = 300


def line_of(record: dict[str, Any], *, width: int | None, utc: bool, now: datetime) -> tuple[str, str]:
    """Return a record as one line, and the style of its status.

    `width` is that of the terminal, with short times and ids; None is a pipe, where only payloads are cut.
    """
    item = item_of(record)
    status = "" if item is None or isinstance(item, RunEvent) else item.status
    # What is no record of this version is shown as it stands, and not left out.
    words = to_json_text(record) if item is None else described(item)
    if isinstance(item, RunEvent):
        words = shortened(words, _MAX_PAYLOAD)
    run_id, event_id = (str(record.get(name) or "") for name in ("run_id", "event_id"))
    kind, words, at = f"{printable(record.get('record_type')):<5}", printable(words), _time_of(record)
    if width is None:
        return f"{format_moment(at, utc=utc)}  {kind}  {printable(run_id or event_id)}  {words}", style_of(status)
    time = _short_time(at, is_wide=width >= WIDE, utc=utc, now=now)
    return shortened(f"{time} {kind} {short_id(run_id, event_id):<8} {words}", width), style_of(status)


def _time_of(record: dict[str, Any]) -> str:
    """Return when a record was made: an event then, a step at its end, a run at its last change."""
    kind = str(record.get("record_type"))
    names = {EVENT: ("timestamp",), SPAN: ("end_time", "start_time")}.get(kind, ("updated_at",))
    return str(next((value for name in names if (value := record.get(name))), "-"))


def _short_time(text: str, *, is_wide: bool, utc: bool, now: datetime) -> str:
    """Return the time to the second, with its day where there is room or it is not today."""
    moment = local_time(text, utc=utc)
    if moment is None or is_wide:
        return format_start(text, is_wide=is_wide, utc=utc, now=now)
    is_today = moment.date() == now.astimezone(moment.tzinfo).date()
    return f"{moment:%H:%M:%S}" if is_today else f"{moment:%d %b %H:%M}"
