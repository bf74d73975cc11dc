"""The models of the response about what agents cost and did. Null is not known, and never zero."""

from __future__ import annotations

from pydantic import BaseModel


class StatsLine(BaseModel):
    """One name, or all runs. `unpriced_tokens`: tokens whose cost nobody knows, which `cost_usd` leaves out."""

    name: str
    cost_usd: float | None
    unpriced_tokens: int
    input_tokens: int
    output_tokens: int
    model_calls: int
    turns: int
    failed: int
    tool_calls: int | None
    rejected_tools: int | None
    step_errors: int | None
    commits: int | None
    lines_added: int | None
    lines_removed: int | None


class Stats(BaseModel):
    """The lines, the most expensive first; `more`: whether there are others."""

    since: str
    by: str
    lines: list[StatsLine]
    total: StatsLine
    more: bool
