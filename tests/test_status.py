"""The six words and their spellings."""

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.status import STATUSES, canonical_status, is_terminal


@pytest.mark.parametrize(
    ("spelling", "word"),
    [
        *((word, word) for word in ("running", "success", "failed", "partial", "timeout", "cancelled")),
        ("failure", "failed"),
        ("error", "failed"),
        ("completed", "success"),
        ("succeeded", "success"),
        ("ok", "success"),
        ("canceled", "cancelled"),
    ],
)
def test_each_spelling_means_one_word_in_any_case(spelling: str, word: str) -> None:
    """Contract, decision 2: spellings are taken whatever their case and outer blanks."""
    for written in (spelling, spelling.upper(), spelling.title(), f" {spelling}\n"):
        assert canonical_status(written) == word


@pytest.mark.parametrize("other", ["", "  ", "pending", "unset", "success!", None, 1, True, b"ok", ["ok"], {}])
def test_anything_else_is_no_status(other: object) -> None:
    """Unknown words and other types are None, never an exception."""
    assert canonical_status(other) is None


def test_an_enumeration_of_words_is_taken() -> None:
    """A caller's own str enumeration works like its words."""

    class Outcome(str, Enum):  # noqa: UP042 - as callers write it
        DONE = "Completed"

    assert canonical_status(Outcome.DONE) == "success"


@given(st.text())
def test_the_result_is_one_of_the_six(word: str) -> None:
    """No text yields a status outside the six."""
    assert canonical_status(word) in (None, *STATUSES)


def test_only_running_has_not_ended() -> None:
    """Every status but running is terminal."""
    assert [word for word in STATUSES if not is_terminal(word)] == ["running"]
