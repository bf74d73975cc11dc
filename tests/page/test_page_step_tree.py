"""Every step of a run can be reached in its timeline, on pages of bounded length, whatever the steps' ids are."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.operations.nesting import NO_STEP, steps_around
from otel_agent_telemetry.page import step_tree as subject
from otel_agent_telemetry.page.step_tree import ALL_LEVELS, MAX_ROWS, View, step_tree, visible_rows
from otel_agent_telemetry.storage.step_rows import StepColumns

T0 = 1_760_000_000_000_000_000
MS = 1_000_000
IDS = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
STEPS = st.lists(st.tuples(IDS, st.one_of(st.none(), IDS, st.just("gone")), st.integers(-5, 50), st.integers(-5, 50)))


def row(number, span_id, parent=None, *, begins=0, lasts=1, failed=False):
    """A step; `begins` and `lasts` are milliseconds, `lasts` None for one that is open."""
    return number, span_id, parent, T0 + begins * MS, lasts, failed


def columns_of(rows):
    rows = sorted(rows, key=lambda one: (one[3], one[0]))
    return StepColumns(*zip(*rows, strict=True)) if rows else StepColumns()


def tree_of(rows, *, end=100):
    return step_tree(columns_of(rows), origin=T0, until_ms=float(end))


def numbers_in(rows):
    return [number for number, *_ in rows]


def numbers(tree, shown):
    return [tree.steps.numbers[one.position] for one in shown.rows]


def reached(tree, view):
    """All steps that a reader reaches from a view by going to the next pages and to the inside of what is folded."""
    found, waiting, seen = set(), [view], set()
    while waiting:
        view = waiting.pop()
        if view in seen:
            continue
        seen.add(view)
        shown = visible_rows(tree, view)
        assert len(shown.rows) <= subject.MAX_ROWS
        found.update(numbers(tree, shown))
        if shown.skip + len(shown.rows) < shown.total:
            waiting.append(View(view.top, view.level, view.flipped, shown.skip + len(shown.rows)))
        waiting += [
            View(top=tree.steps.numbers[one.position], level=ALL_LEVELS)
            for one in shown.rows
            if tree.inside[one.position] and not one.is_open
        ]
    return found


@given(STEPS, st.integers(1, 4))
def test_every_step_can_be_reached_on_short_pages(steps, most):
    """Circles, missing parents, repeated ids and ends before starts included; no page has more rows than it may."""
    rows = [row(at + 1, own, parent, begins=begin, lasts=lasts) for at, (own, parent, begin, lasts) in enumerate(steps)]
    tree = tree_of(rows)
    whole, subject.MAX_ROWS = subject.MAX_ROWS, most
    try:
        assert reached(tree, View()) == set(numbers_in(rows))
    finally:
        subject.MAX_ROWS = whole


@given(STEPS)
def test_all_levels_show_every_step_once(steps):
    """Opened wholly, the pages together have each step once, a step after the one around it."""
    rows = [row(at + 1, own, parent, begins=begin, lasts=lasts) for at, (own, parent, begin, lasts) in enumerate(steps)]
    tree = tree_of(rows)
    shown = visible_rows(tree, View(level=ALL_LEVELS))
    assert sorted(numbers(tree, shown)) == numbers_in(rows)
    place = {one.position: at for at, one in enumerate(shown.rows)}
    assert all(outer == NO_STEP or place[outer] < place[position] for position, outer in enumerate(tree.around))
    assert sum(tree.inside[top] + 1 for top in tree.tops) == len(rows)


@given(STEPS)
def test_the_critical_path_hangs_together(steps):
    """A step is on it only if the step around it is."""
    rows = [row(at + 1, own, parent, begins=begin, lasts=lasts) for at, (own, parent, begin, lasts) in enumerate(steps)]
    tree = tree_of(rows)
    assert all(tree.around[position] in (NO_STEP, *tree.critical) for position in tree.critical)


def test_the_critical_path_is_what_the_end_waited_for():
    """Of two steps at the same time the longer one counts, and before it what had ended when it began."""
    rows = [
        row(1, "plan", begins=0, lasts=10),
        row(2, "slow", begins=10, lasts=80),
        row(3, "fast", begins=10, lasts=20),
        row(4, "inner", "slow", begins=15, lasts=70),
        row(5, "unneeded", "slow", begins=20, lasts=5),
    ]
    tree = tree_of(rows, end=90)
    assert {tree.steps.span_ids[position] for position in tree.critical} == {"plan", "slow", "inner"}


def test_a_large_run_begins_as_an_overview():
    """Levels are open as far as their rows fit on a page; a folded step says how many are inside, and how many failed.

    As users of Jaeger ask for (2183, and 160 of its UI): not everything at once, and down to a level.
    """
    rows = [row(1, "top", begins=0, lasts=90)]
    for group in range(20):
        rows.append(row(10_000 + group, f"g{group}", "top", begins=group))
        rows += [
            row(20_000 + group * 100 + at, f"g{group}-{at}", f"g{group}", begins=group, failed=at > 0)
            for at in range(40)
        ]
    tree = tree_of(rows)
    shown = visible_rows(tree, View())
    assert (shown.level, shown.total, len(shown.rows)) == (2, 21, 21)
    group = shown.rows[1].position
    assert (tree.inside[group], tree.failed_inside[group]) == (40, 39)
    assert tree.failed_inside[shown.rows[0].position] == 20 * 39
    opened = visible_rows(tree, View(flipped=frozenset({tree.steps.numbers[group]})))
    assert opened.total == 61
    folded = visible_rows(tree, View(flipped=frozenset({1})))
    assert numbers(tree, folded) == [1]


def test_a_step_around_everything_is_opened_at_once():
    """The span of an agent with a thousand steps: its first page shows steps, not one folded row."""
    tree = tree_of([row(1, "agent"), *(row(at, f"s{at}", "agent", begins=at // 100) for at in range(2, 1_002))])
    assert len(visible_rows(tree, View()).rows) == MAX_ROWS
    assert len(visible_rows(tree, View(top=1)).rows) == MAX_ROWS


def test_the_inside_of_a_step_has_a_time_axis_of_its_own():
    """One click makes a short step of a long run readable."""
    rows = [row(1, "long", lasts=100), row(2, "short", "long", begins=50, lasts=2), row(3, "in", "short", begins=51)]
    tree = tree_of(rows)
    shown = visible_rows(tree, View(top=2))
    assert [(one.level, tree.steps.numbers[one.position]) for one in shown.rows] == [(1, 2), (2, 3)]
    assert shown.axis.span_ms == 2
    assert [tree.steps.numbers[position] for position in tree.above(shown.top)] == [1]


def test_a_step_that_is_open_reaches_to_the_end():
    """What has not ended is drawn to now."""
    tree = tree_of([row(1, "open", begins=20, lasts=None)])
    assert tree.until_ms[0] == tree.axis.end_ms == 100


def test_a_parent_with_a_repeated_id_is_the_one_that_is_known_to_be_meant():
    """A run that seeds `random` draws the same ids again; the sender said when the parent began."""
    rows = [row(1, "a", begins=0), row(2, "a", begins=10), row(3, "b", "a", begins=20)]
    assert tree_of(rows).around == [NO_STEP, NO_STEP, 1]
    assert step_tree(columns_of(rows), origin=T0, until_ms=1, starts_of_parents={3: T0}).around == [NO_STEP, NO_STEP, 0]


def test_what_is_below_a_circle_stays_below_it():
    """Only the steps that lead back to themselves are taken out of their places."""
    rows = [row(1, "a", "b"), row(2, "b", "a"), row(3, "c", "a"), row(4, "d", "c"), row(5, "e", "e")]
    assert tree_of(rows).around == [NO_STEP, NO_STEP, 0, 2, NO_STEP]


def test_many_steps_with_one_id_are_placed_quickly():
    """A sender that repeats one id cannot keep the service busy."""
    steps = columns_of([row(at, "a", "a", begins=at) for at in range(20_000)])
    began = time.process_time()
    steps_around(steps.span_ids, steps.parent_ids, steps.start_ns)
    assert time.process_time() - began < 5


def test_ten_thousand_levels_need_no_deep_stack():
    """Nothing recurses."""
    rows = [row(at, f"s{at}", f"s{at - 1}", begins=at // 1000) for at in range(1, 10_001)]
    tree = tree_of(rows)
    assert max(tree.level) == 10_000
    assert len(visible_rows(tree, View(level=ALL_LEVELS, skip=9_900)).rows) == 100
    assert visible_rows(tree, View()).level == MAX_ROWS
    assert len(visible_rows(tree, View()).rows) == MAX_ROWS
