"""Records, the order of a run's states, and what a caller's values become."""

import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.column_checks import clamp
from otel_agent_telemetry.columns import (
    COLUMNS,
    COUNT_COLUMNS,
    HEX_DIGITS,
    JSON_COLUMNS,
    MAX_COUNT,
    OBSERVED_BY_STORE,
    POSTING_COLUMNS,
    REQUIRED_COLUMNS,
    SETTABLE_COLUMNS,
    TIME_COLUMNS,
    TOTAL_COLUMNS,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state, order_key
from otel_agent_telemetry.run_id import is_derived, new_event_id, span_event_id
from otel_agent_telemetry.status import STATUSES

EVENT_ID = "0a0a0a0a-1b1b-4c4c-8d8d-2e2e2e2e2e2e"
NOW = "2025-12-10T12:05:30.000000+00:00"
REQUIRED = {
    "event_id": EVENT_ID,
    "run_id": "run-1",
    "created_at": NOW,
    "updated_at": NOW,
    "start_time": NOW,
    "agent_name": "agent",
    "job_type": "job",
}

times = st.integers(0, 4 * 10**18).map(iso_utc)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\x00"), min_size=1, max_size=8)
few_times = st.sampled_from([iso_utc(n * 10**9) for n in (1, 2, 3)])
few_words = st.sampled_from(["a", "b", "é"])


fixed: dict[str, st.SearchStrategy[object]] = {
    "event_id": st.just(EVENT_ID),
    "status": st.sampled_from(STATUSES),
    "api_posted": st.integers(0, 1),
    "plumbing": st.integers(0, 1),
    "cost_usd": st.floats(0, 1e6),
    "labels": st.just('{"team":"core"}'),
}


def _values_of(name: str, instants: st.SearchStrategy[str], texts: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    if name in fixed:
        return fixed[name]
    if name in ("run_id", "parent_run_id"):
        return texts.map(lambda text: f"run {text}")
    if name in HEX_DIGITS:
        return st.integers(0, 2).map(lambda number: f"{number:0{HEX_DIGITS[name]}x}")
    if name in COUNT_COLUMNS or name == "schema_version":
        most = MAX_COUNT if name in COUNT_COLUMNS else 2**31 - 1
        return st.integers(0, most) if texts is words else st.integers(0, 2)
    return instants if name in TIME_COLUMNS else texts


def _records(instants: st.SearchStrategy[str], texts: st.SearchStrategy[str]) -> st.SearchStrategy[RunRecord]:
    made = {name: _values_of(name, instants, texts) for name in COLUMNS}
    return st.fixed_dictionaries(
        {name: made[name] for name in REQUIRED_COLUMNS},
        optional={name: made[name] for name in COLUMNS if name not in REQUIRED_COLUMNS},
    ).map(RunRecord.from_fields)


any_record = _records(times, words)
near_records = _records(few_times, few_words)
"""States that often agree in many columns, so that ties are met."""


@given(any_record)
def test_fields_of_a_record_make_the_same_record(record: RunRecord) -> None:
    """from_fields undoes to_fields, whatever was left out as a default."""
    assert RunRecord.from_fields(record.to_fields()) == record


@given(any_record)
def test_fields_leave_out_what_is_at_its_default(record: RunRecord) -> None:
    """Neither None nor a zero count is written."""
    fields = record.to_fields()
    assert None not in fields.values()
    assert all(value != 0 for name, value in fields.items() if name not in ("schema_version", "cost_usd"))


def test_a_record_cannot_be_changed() -> None:
    """A state is a value."""
    record = RunRecord.from_fields(REQUIRED)
    with pytest.raises(FrozenInstanceError):
        record.status = "success"  # type: ignore[misc]


def _told(record: RunRecord) -> RunRecord:
    """The record without what stands outside the order."""
    none = RunRecord.from_fields(REQUIRED)
    return replace(record, **{name: getattr(none, name) for name in (*POSTING_COLUMNS, *OBSERVED_BY_STORE)})


def test_what_stands_outside_the_order_is_the_posting_and_what_the_store_observes() -> None:
    """`_told` removes exactly these."""
    assert set(POSTING_COLUMNS) == {"api_posted", "api_posted_at", "api_retry_count"}
    assert {*TOTAL_COLUMNS, "received_at", "plumbing"} == OBSERVED_BY_STORE


@given(near_records, near_records)
def test_two_states_are_equal_in_order_only_when_they_are_the_same(one: RunRecord, other: RunRecord) -> None:
    """The order is total: no two different states tie."""
    one, other = _told(one), _told(other)
    assert (order_key(one) == order_key(other)) == (one == other)


@given(near_records, near_records)
def test_which_state_stands_does_not_depend_on_their_order(one: RunRecord, other: RunRecord) -> None:
    """later_state is commutative and idempotent."""
    one, other = _told(one), _told(other)
    assert later_state(one, other) == later_state(other, one)
    assert later_state(one, one) == one


@given(st.lists(near_records.map(_told), min_size=3, max_size=4))
def test_any_arrival_order_ends_in_the_same_state(states: list[RunRecord]) -> None:
    """later_state is associative: every permutation, with repetitions, keeps one state."""
    kept = {order_key(reduce(later_state, order)) for order in permutations([*states, states[0]])}
    assert len(kept) == 1


@given(near_records, near_records)
def test_an_end_is_never_undone_by_running(one: RunRecord, other: RunRecord) -> None:
    """However late a running state is, the ended one stands; of two ended ones, the later."""
    kept = later_state(one, other)
    assert kept.ended == (one.ended or other.ended)
    if one.ended == other.ended:
        assert kept.updated_at == max(one.updated_at, other.updated_at)


@given(any_record)
def test_extra_keys_are_ignored(record: RunRecord) -> None:
    """A mapping from anywhere may hold more than columns."""
    assert RunRecord.from_fields({**record.to_fields(), "id": 7, "commit_url": "x", "future": {}}) == record


def test_missing_times_fall_back_to_earlier_ones() -> None:
    """`created_at` may be told by `start_time`, `updated_at` by either."""
    sparse = {name: value for name, value in REQUIRED.items() if name not in ("created_at", "updated_at")}
    record = RunRecord.from_fields({**sparse, "updated_at": None})
    assert (record.created_at, record.updated_at) == (NOW, NOW)
    assert record.status == "running"


@pytest.mark.parametrize("name", ["event_id", "run_id", "start_time", "agent_name", "job_type"])
@pytest.mark.parametrize("given_as", ["absent", "null"])
def test_a_required_column_is_asked_for_by_name(name: str, given_as: str) -> None:
    """Without a fallback a required column is a RecordError naming it."""
    values = {**REQUIRED, name: None}
    if given_as == "absent":
        del values[name]
    with pytest.raises(RecordError) as caught:
        RunRecord.from_fields(values)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_id", "nonsense"),
        ("event_id", "-" * 4 + "a" * 32),
        ("event_id", "g" * 8 + EVENT_ID[8:]),
        ("run_id", "a/b"),
        ("run_id", ""),
        ("status", "pending"),
        ("status", 1),
        ("duration_ms", -1),
        ("duration_ms", 1.5),
        ("duration_ms", float("nan")),
        ("duration_ms", float("inf")),
        ("duration_ms", "12"),
        ("duration_ms", True),
        ("items_failed", 2**63),
        pytest.param("items_failed", 10**5000, id="items_failed-huge"),
        ("schema_version", -1),
        ("start_time", "yesterday"),
        ("start_time", 0),
        ("agent_name", 5),
        ("metrics_json", {"a": 1}),
        ("product", ["x"]),
    ],
)
def test_a_broken_rule_is_a_record_error_naming_the_column(name: str, value: object) -> None:
    """The first rule that breaks is named; no other error escapes, whatever the value."""
    with pytest.raises(RecordError) as caught:
        RunRecord.from_fields({**REQUIRED, name: value})
    assert caught.value.field == name
    assert len(str(caught.value)) < 200


def test_values_are_stored_in_their_one_form() -> None:
    """Spellings, zones, whole floats and booleans become what the column holds."""
    record = RunRecord.from_fields(
        {
            **REQUIRED,
            "status": "Completed",
            "end_time": "2025-12-10T14:05:30+02:00",
            "items_failed": 3.0,
            "api_posted": True,
        }
    )
    assert (record.status, record.end_time, record.items_failed, record.api_posted) == ("success", NOW, 3, 1)
    assert type(record.items_failed) is type(record.api_posted) is int


class _IndexOnly:
    """A count type of a numeric library: no `int`, but one by `__index__`."""

    def __index__(self) -> int:
        return 5


class _Hostile:
    """An object none of whose methods works, its claimed class included."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("outside of a request")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


class _HostileInt(int):
    def __index__(self) -> int:
        raise RuntimeError("no")


HOSTILE = {
    "huge": 10**5000,
    "huge negative": -(10**5000),
    "decimal": Decimal(1),
    "hostile integer": _HostileInt(3),
    "type": int,
    "complex": 2j,
}
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.binary(),
        st.sampled_from(sorted(HOSTILE)).map(lambda name: HOSTILE[name]),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(SETTABLE_COLUMNS)), anything))
@example({"agent_name": ""})
@example({"job_type": "", "metrics_json": ""})
def test_clamp_never_raises_and_keeps_only_what_a_record_takes(values: Mapping[str, object]) -> None:
    """Every value is kept in its column's form, or left out with one sentence."""
    problems: list[str] = []
    kept = clamp(values, problems)
    given_values = {
        name for name, value in values.items() if value is not None and not (type(value) is str and not value)
    }
    assert len(kept) + len(problems) == len(given_values)
    plain = {name: value for name, value in kept.items() if name not in JSON_COLUMNS}
    RunRecord.from_fields({**REQUIRED, **plain})


def test_clamp_survives_an_object_that_answers_nothing() -> None:
    """A proxy whose every access raises is left out like any wrong type."""
    problems: list[str] = []
    assert clamp({"product": _Hostile(), "items_failed": _Hostile(), "platform": "web"}, problems) == {
        "platform": "web"
    }
    assert len(problems) == 2


def test_clamp_says_which_value_was_left_out() -> None:
    """A negative count and a text of a wrong type each add a sentence; their neighbours stay."""
    problems: list[str] = []
    kept = clamp({"items_failed": -2, "product": 7, "platform": "web", "items_succeeded": 4}, problems)
    assert kept == {"platform": "web", "items_succeeded": 4}
    assert [problem.partition(":")[0] for problem in problems] == ["items_failed", "product"]


def test_a_count_of_a_numeric_library_is_a_count() -> None:
    """What is an integer by `__index__` (numpy's) is stored, not clamped."""
    problems: list[str] = []
    assert clamp({"items_discovered": _IndexOnly()}, problems) == {"items_discovered": 5}
    assert problems == []


def test_a_problem_does_not_quote_a_long_value() -> None:
    """A sentence about a value stays short and shows no containers."""
    problems: list[str] = []
    clamp({"git_commit_timestamp": "x" * 10_000, "items_failed": ["secret"]}, problems)
    assert all(len(problem) < 150 for problem in problems)
    assert "secret" not in "".join(problems)


@given(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.from_regex(r"[0-9a-f]{16}", fullmatch=True))
def test_a_span_is_the_same_run_wherever_it_is_read(trace_id: str, span_id: str) -> None:
    """The id is a function of trace, span and start, a UUID of version 8 and the RFC's variant."""
    event_id = span_event_id(trace_id, span_id, 1)
    assert event_id == span_event_id(trace_id, span_id, 1)
    assert is_derived(event_id)
    parsed = uuid.UUID(event_id)
    assert (parsed.version, parsed.variant, str(parsed)) == (8, uuid.RFC_4122, event_id)
    assert event_id != span_event_id(trace_id, "0" * 15 + ("1" if span_id[-1] != "1" else "2"), 1)
    assert event_id != span_event_id(trace_id, span_id, 2)


def test_new_event_ids_differ_and_are_taken() -> None:
    """A fresh id is a UUID that a record accepts."""
    one, other = new_event_id(), new_event_id()
    assert one != other
    assert not is_derived(one)
    assert RunRecord.from_fields({**REQUIRED, "event_id": one}).event_id == one


def _link(**changes: object) -> CommitLink:
    values = {"run_id": "r", "commit_hash": "a" * 7, "commit_source": "ci", "associated_at": NOW}
    return CommitLink(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("commit", ["a" * 7, "0123456789abcdefABCDEF0123456789abcdef01"])
@pytest.mark.parametrize("source", ["manual", "llm", "ci"])
def test_a_commit_link_takes_7_to_40_hex_digits_and_three_sources(commit: str, source: str) -> None:
    """The contract's rules for a commit."""
    link = _link(commit_hash=commit, commit_source=source, commit_timestamp="2025-12-10T13:05:30+01:00")
    assert (link.commit_hash, link.commit_source, link.commit_timestamp) == (commit, source, NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "a/b"),
        ("run_id", ""),
        ("commit_hash", "a" * 6),
        ("commit_hash", "a" * 65),
        ("commit_hash", "zzzzzzz"),
        ("commit_hash", 1234567),
        ("commit_source", "robot"),
        ("commit_source", []),
        ("commit_author", 3),
        ("commit_timestamp", "soon"),
    ],
)
def test_a_broken_commit_link_names_its_field(field: str, value: object) -> None:
    """What breaks a rule is a RecordError naming the field."""
    with pytest.raises(RecordError) as caught:
        _link(**{field: value})
    assert caught.value.field == field


def test_importing_the_client_creates_no_record_class() -> None:
    """The application's thread needs `columns` alone; the records take milliseconds to create."""
    program = "import sys, otel_agent_telemetry.client; print('otel_agent_telemetry.model' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"
