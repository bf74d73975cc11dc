"""The models of responses about alerts: the rules, what they have opened, and what they would have."""

from __future__ import annotations

from pydantic import BaseModel


class FileProblem(BaseModel):
    """A fault of the file of rules, or a rule that needs a setting which is off."""

    line: int
    rule: str
    text: str
    fix: str


class AlertRule(BaseModel):
    """A rule in force; `about` is its meaning in words."""

    name: str
    about: str
    measure: str
    line: int


class StoredAlert(BaseModel):
    """An alert; `event_id` is that of the run it is about, if any, `value` the last one above the threshold."""

    id: int
    rule: str
    subject: str
    about: str
    measure: str
    value: float | None
    threshold: float | None
    opened_at: str
    calm_since: str | None
    resolved_at: str | None
    event_id: str | None
    notice_problem: str


class Alerts(BaseModel):
    """The rules, and the alerts that are open and that were, the newest first, at most 100 of each."""

    file: str
    problems: list[FileProblem]
    refused: list[FileProblem]
    rules: list[AlertRule]
    open: list[StoredAlert]
    past: list[StoredAlert]


class PastAlert(BaseModel):
    """An alert that would have been; `resolved_at` is null where it would be open."""

    rule: str
    subject: str
    run_id: str | None
    value: float | None
    threshold: float | None
    opened_at: str
    resolved_at: str | None


class DryRun(BaseModel):
    """The rules in force, and the alerts that they would have opened, in their order."""

    rules: list[AlertRule]
    alerts: list[PastAlert]
