"""Refused batches are tried by halves: every good item is written once, every bad one is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.bisection import Bisection


def written_without(bad: set[int], items: list[int], *, refusal: str | None = None) -> tuple[list[int], list[int], int]:
    """What a target that refuses any part with one of `bad` accepts, the positions refused, and the parts tried."""
    bisection = Bisection(items, refusal=refusal)
    accepted: list[int] = []
    tried = 0
    for part in bisection:
        tried += 1
        if bad & set(part):
            bisection.refuse("bad")
        else:
            accepted += part
    return accepted, [position for position, _ in bisection.refused], tried


@given(st.integers(0, 40).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, max(size - 1, 0))))))
def test_every_good_item_is_accepted_once_in_order_and_every_bad_one_refused(case: tuple[int, set[int]]) -> None:
    """Whatever is refused, its neighbours are not."""
    size, bad = case
    accepted, refused, _ = written_without(bad, list(range(size)))
    assert accepted == [item for item in range(size) if item not in bad]
    assert refused == [item for item in range(size) if item in bad]


def test_a_batch_that_is_accepted_is_tried_once() -> None:
    """The usual case costs nothing."""
    assert written_without(set(), [1, 2, 3]) == ([1, 2, 3], [], 1)


def test_one_bad_item_among_many_costs_about_two_parts_a_halving() -> None:
    """A thousand items need no thousand attempts."""
    accepted, refused, tried = written_without({700}, list(range(1024)))
    assert (len(accepted), refused, tried) == (1023, [700], 21)


def test_a_whole_that_is_known_to_be_refused_is_not_tried_again() -> None:
    """Its halves come first."""
    assert written_without(set(), [1, 2, 3, 4], refusal="too large") == ([1, 2, 3, 4], [], 2)


def test_a_single_item_that_is_known_to_be_refused_has_no_parts() -> None:
    """It is the cause itself, with the reason that was given."""
    bisection = Bisection(["only"], refusal="too large")
    assert list(bisection) == []
    assert bisection.refused == [(0, "too large")]


@pytest.mark.parametrize("refusal", [None, "refused"])
def test_no_items_have_no_parts(refusal: str | None) -> None:
    """Nothing is written for an empty batch."""
    bisection = Bisection([], refusal=refusal)
    assert (list(bisection), bisection.refused) == ([], [])
