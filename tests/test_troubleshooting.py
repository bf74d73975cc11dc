"""docs/troubleshooting.md has each finding of `doctor`, and each message that is logged."""

from __future__ import annotations

import re

import pytest
from messages_of_sources import doctor_findings, log_records
from on_disk import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
EXPLAINED = {
    text.casefold()
    for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", row)
}


@pytest.mark.parametrize("messages", [doctor_findings, log_records])
def test_every_message_is_explained(messages):
    """In the words that are printed, with `…` for what varies."""
    found = messages()
    assert len(found) > 20
    assert [text for text in sorted(found) if text.casefold() not in EXPLAINED] == []


def test_every_explanation_is_of_a_message_that_exists():
    """A text that the sources no longer have is taken off the page."""
    known = {text.casefold() for text in doctor_findings() | log_records()} | {"… failed: …"}
    assert sorted(EXPLAINED - known) == []
