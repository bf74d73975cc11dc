"""Quantiles from classes of durations are within 5 % of those of the durations."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from otel_agent_telemetry.storage.durations import BOUNDS, MAX_MS, class_of, quantile


@pytest.mark.parametrize("share", [0.5, 0.95])
@settings(max_examples=60, deadline=None)
@given(durations=some.lists(some.one_of(some.integers(0, 50), some.integers(0, MAX_MS)), min_size=1, max_size=40))
def test_a_quantile_is_within_five_percent(share, durations):
    """Of whichever durations, against the one at its place in their order."""
    exact = sorted(durations)[ceil(share * len(durations)) - 1]
    assert quantile(Counter(map(class_of, durations)), share) == pytest.approx(exact, rel=0.05)


def test_classes_of_two_days_add_up_to_those_of_both():
    """That is why classes are kept, and not quantiles."""
    days = [[10, 100, 1000], [20_000, 5, 999]]
    both = Counter(map(class_of, days[0])) + Counter(map(class_of, days[1]))
    assert both == Counter(map(class_of, days[0] + days[1]))
    assert quantile(both, 0.5) == pytest.approx(100, rel=0.05)


def test_every_duration_has_one_class():
    """A class begins where the one before it ends; what is longer than the last is in the last."""
    assert all(class_of(bound) == bound and class_of(end - 1) == bound for bound, end in pairwise(BOUNDS))
    assert class_of(-1) == 0
    assert class_of(10**30) == BOUNDS[-1]


def test_no_runs_have_no_quantile():
    """Unknown is not zero."""
    assert quantile({}, 0.5) is None
