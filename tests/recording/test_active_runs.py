from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as some

from otel_agent_telemetry.columns import STATE_STEP_NS
from otel_agent_telemetry.recording.active_runs import ActiveRun, ActiveRuns


def run(number=1):
    return ActiveRun(f"event-{number}", "0" * 32, "0" * 16, 1_760_000_000 * 10**9, None)


@pytest.fixture
def active():
    return ActiveRuns()


def claim(active, wanted=None, *, agent="agent", token="abcd1234"):
    opened = run()
    active.claim(opened, wanted=wanted, agent_name=agent, token=token)
    return opened


def counts(active):
    return active.metrics.get_snapshot()["run_id_metrics"]


def test_custom_id_is_kept(active):
    """A usable custom id is the run's id, and found by it until the run ends."""
    opened = claim(active, "mine")

    assert opened.run_id == "mine"
    assert active.get("mine") is opened
    active.release(opened)
    assert active.get("mine") is None
    assert opened.ended


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("", "empty"), ("  ", "empty"), ("a" * 256, "too_long"), ("a/b", "invalid_chars"), (7, "invalid_chars")],
)
def test_unusable_custom_id_is_counted_and_replaced(active, caplog, wanted, reason):
    """Reason counted, generated id counted, one warning that does not quote the id."""
    opened = claim(active, wanted)

    assert opened.run_id == "20251009T085320Z-agent-abcd1234"
    assert counts(active)["rejected"][reason] == 1
    assert (counts(active)["generated"], counts(active)["custom_accepted"]) == (1, 0)
    assert reason in caplog.text


def test_no_id_given_is_no_rejection(active):
    """None means "not given"."""
    claim(active)

    assert counts(active)["rejected"]["total"] == 0
    assert counts(active)["generated"] == 1


def test_active_custom_id_gets_a_suffix(active, caplog):
    """The second of two open runs with one custom id is `{id}-duplicate-{8 hex}`, within 255 characters."""
    longest = "x" * 255
    first, second, third = (claim(active, longest) for _ in range(3))

    assert first.run_id == longest
    assert second.run_id != third.run_id
    assert all("-duplicate-" in other.run_id and len(other.run_id) == 255 for other in (second, third))
    assert counts(active)["duplicates_detected"] == 2
    assert "is already active" in caplog.text


def test_active_generated_id_is_generated_anew(active):
    """Two runs of one agent, second and token: the second gets another token."""
    first, second = claim(active), claim(active)

    assert first.run_id != second.run_id
    assert second.run_id.startswith("20251009T085320Z-agent-")
    assert counts(active)["duplicates_detected"] == 1


def test_id_may_be_used_again_after_the_end(active):
    """Only open runs collide."""
    active.release(claim(active, "mine"))

    assert claim(active, "mine").run_id == "mine"
    assert counts(active)["duplicates_detected"] == 0


def test_ending_twice_does_not_take_the_id_from_another(active):
    """A late second release of an ended run leaves the run that has the id now."""
    first = claim(active, "mine")
    active.release(first)
    second = claim(active, "mine")

    active.release(first)

    assert active.get("mine") is second


def test_threads_never_share_an_id(active):
    """Fifty threads ask for one id at once: one has it, the others have suffixes."""
    barrier = threading.Barrier(50)
    opened = []

    def begin():
        barrier.wait()
        opened.append(claim(active, "same"))

    threads = [threading.Thread(target=begin) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({each.run_id for each in opened}) == 50 == len(active)
    assert counts(active)["duplicates_detected"] == 49


def test_forked_child_leaves_the_runs_of_its_parent_alone(active):
    """After `begin_generation` inherited runs are found by id but are not ours to end; counters begin anew."""
    theirs = claim(active, "theirs")
    active.begin_generation()
    ours = claim(active, "ours")

    assert list(active.mine()) == [ours]
    assert active.get("theirs") is theirs
    assert counts(active)["total_runs"] == 1


def test_live_runs_are_remembered_within_bounds(active):
    """With an exporter the last 10,000 runs are known as recorded live, without one none: memory does not grow."""
    active.mark_recorded_live("before there was an exporter")
    assert not active.recorded_live("before there was an exporter")
    active.exporter_present = True
    for number in range(10_500):
        active.mark_recorded_live(f"event-{number}")

    assert active.recorded_live("event-10499")
    assert not active.recorded_live("event-0")
    assert len(active._seen) == 10_000


@given(some.lists(some.integers(0, 2**62), min_size=2, max_size=20))
def test_updates_of_a_run_always_go_forwards(instants):
    """Whatever the clock does, each state is later than the last by the step of the model."""
    opened = run()
    stamps = [opened.next_update_ns(instant) for instant in instants]

    assert all(later - earlier >= STATE_STEP_NS for earlier, later in itertools.pairwise(stamps))
    assert all(stamp >= instant for stamp, instant in zip(stamps, instants, strict=True))


def test_a_run_has_each_of_its_attributes_from_the_beginning():
    """None has a default on the class, which the interpreter would find slowly."""
    opened = run()
    assert not hasattr(opened, "__dict__")
    assert all(hasattr(opened, name) for name in type(opened).__slots__)
