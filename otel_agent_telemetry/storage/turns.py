"""Write log records of coding agents: each to its turn, and of each turn one run (`turns`).

Of the stretches that new records are of, only the turns between the prompt before the first new record and the prompt
after the last are looked at. What a record adds is added to its turn's sums; they are summed anew only for a turn
that loses or gets records which were there, because a prompt has come late. So a record costs the same in a session of
ten and of ten thousand.

Turns, sums and rows end the same whatever the order, the partition into requests and the repetition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.storage.last_calls import decide_runs
from otel_agent_telemetry.storage.rollups import add_to_rollups
from otel_agent_telemetry.storage.rows import storable_state
from otel_agent_telemetry.storage.span_membership import run_ids_of
from otel_agent_telemetry.storage.traces import lock_traces, write_traces
from otel_agent_telemetry.storage.turn_records import (
    Placed,
    add_records,
    move_records,
    not_stored,
    records_after,
    records_of,
)
from otel_agent_telemetry.storage.turn_rows import NO_TURN, TurnRow, begins_around, save_turns, silent_turns, turns_with
from otel_agent_telemetry.storage.turn_states import put_states
from otel_agent_telemetry.storage.turn_steps import add_steps, move_steps, prefer_spans
from otel_agent_telemetry.storage.turn_traces import absorb, join_span, take_traces
from otel_agent_telemetry.turns import UNKNOWN, Begin, TurnRecord, figures_of, merged, turn_of, turn_state

_MAX_SILENT: Final = 200


def write_turns(
    connection: Connection, records: Sequence[TurnRecord], *, now_ns: int, received_at: str | None = None
) -> None:
    """Keep records that are new, and write the runs of the turns that they change.

    `received_at`: when a service got them. Within the connection's transaction, whose locks hold the records' traces
    and stretches. Raises the driver's errors.
    """
    of_stretch: defaultdict[str, list[TurnRecord]] = defaultdict(list)
    for record in not_stored(connection, records):
        of_stretch[record.stretch].append(record)
    if not of_stretch:
        return
    work = _Work(connection, now_ns=now_ns, received_at=received_at)
    for stretch, new in of_stretch.items():
        work.place(stretch, new)
    # All stretches first, then one write: the states of a batch are one statement.
    work.write()


def close_silent_turns(connection: Connection, *, now_ns: int) -> int:
    """End turns of which there has been no sign of life for long enough, at most 200; return how many."""
    found = silent_turns(connection, now_ns, limit=_MAX_SILENT)
    if not found:
        return 0
    lock_traces(connection, {row.stretch for row in found}, shared=False)
    work = _Work(connection, now_ns=now_ns)
    # Read again behind the lock: another service may have got records of them meanwhile.
    work.rows = {
        turn_id: row
        for turn_id, row in turns_with(connection, [row.turn_id for row in found]).items()
        if row.is_open and row.figures.silent_ns <= now_ns
    }
    work.write()
    return len(work.rows)


def sum_turns(connection: Connection, turn_ids: Iterable[str]) -> None:
    """Sum turns anew over the records that are kept of them, and write their runs: a copy has brought some."""
    work = _Work(connection, now_ns=SystemClock().now_ns())
    work.rows = turns_with(connection, turn_ids)
    parts: defaultdict[str, list[TurnRecord]] = defaultdict(list)
    for one in records_of(connection, work.rows):
        parts[one.turn_id].append(one.record)
    for turn_id, records in parts.items():
        work.rows[turn_id].figures = figures_of(records)
    work.write()


class _Work:
    """The turns that one transaction changes."""

    def __init__(self, connection: Connection, *, now_ns: int, received_at: str | None = None) -> None:
        self._connection = connection
        self._now_ns = now_ns
        self._received_at = received_at
        self.rows: dict[str, TurnRow] = {}
        """Turn id → a turn whose records, or whose end, may be others now."""
        self._begins: dict[str, list[Begin]] = {}
        """Stretch → the prompts that its new records are among, in order."""
        self._new: list[Placed] = []
        self._moved: list[tuple[Placed, str]] = []
        """Stored records of which the turn is another now, with that turn."""
        self._absorbed: list[tuple[str, str]] = []
        """Runs that were made of records before it was known of which span's run they are, and that run."""
        self._joins: dict[str, TurnRecord] = {}
        """Turn id → its prompt, which names the span that is the same run."""

    # --- which turn each record is of

    def place(self, stretch: str, records: Sequence[TurnRecord]) -> None:
        """Find the turns of new records of one stretch, and anew those of stored records after new prompts."""
        changed = self._take_own(records)
        times = [record.time_ns for record in records]
        prompts = {record.prompt for record in records if record.prompt and not record.own_turn}
        begins = begins_around(self._connection, stretch, min(times), max(times), prompts)
        begins |= {turn_id: begin for turn_id in changed if (begin := self.rows[turn_id].begin) is not None}
        ordered = self._begins[stretch] = sorted(begins.values())
        self._new += [Placed(record, turn_of(record, ordered)) for record in records]
        touched = {placed.turn_id for placed in self._new}
        for at, begin in enumerate(ordered):
            if begin.turn_id not in changed:
                continue
            touched |= self._place_again(stretch, begin, ordered[at + 1 : at + 2], ordered)
            touched |= {before.turn_id for before in ordered[max(at - 1, 0) : at]}  # another prompt ends it
        self._load(touched)

    def _take_own(self, records: Sequence[TurnRecord]) -> set[str]:
        """Make the turns that records name themselves; return those that have got a prompt, or an earlier one."""
        self._load(record.own_turn for record in records)
        changed = set()
        for record in records:
            if not record.own_turn:
                continue
            row = self.rows.setdefault(record.own_turn, TurnRow.of(record))
            if record.role == "begins" and row.begin_with(record):
                changed.add(row.turn_id)
                if record.span_is_run and record.trace_id and record.span_id:
                    self._joins[row.turn_id] = record
        return changed

    def _place_again(
        self, stretch: str, begin: Begin, following: Sequence[Begin], ordered: Sequence[Begin]
    ) -> set[str]:
        """Give stored records that a prompt may have their turn; return the turns that this concerns."""
        found = records_after(self._connection, stretch, begin, following[0] if following else None)
        prompts = {one.record.prompt for one in found} - {NO_TURN}
        if prompts:
            more = begins_around(self._connection, stretch, begin.order[0], begin.order[0], prompts)
            ordered = sorted({**more, **{one.turn_id: one for one in ordered}}.values())
        moved = [(one, now) for one in found if (now := turn_of(one.record, ordered)) != one.turn_id]
        self._moved += moved
        return {turn_id for one, now in moved for turn_id in (one.turn_id, now)}

    def _load(self, turn_ids: Iterable[str]) -> None:
        """Read those of the turns that were not read yet."""
        missing = set(turn_ids) - self.rows.keys() - {NO_TURN}
        self.rows |= turns_with(self._connection, missing)

    # --- what becomes of the turns

    def write(self) -> None:
        """Write the turns' runs, their figures and their events."""
        # A turn whose run was deleted: what is late for it is not kept.
        self._leave_out({row.event_id for row in self.rows.values() if row.is_deleted})
        # Before the states: a turn that is a span's run must not write a row of its own.
        for turn_id, record in self._joins.items():
            if turn_id in self.rows:
                self._join(self.rows[turn_id], record)
        self._sum()
        self._write_states()
        run_ids = run_ids_of(self._connection, {row.event_id for row in self.rows.values()})
        for before, event_id in self._absorbed:
            absorb(self._connection, before, event_id, run_ids.get(event_id, ""))
        usages = {row.event_id: row.figures.usage for row in self.rows.values()}
        add_to_rollups(self._connection, records=usages)
        self._write_records(run_ids)
        save_turns(self._connection, self.rows.values())
        # Behind the figures, of which the last call is one.
        decide_runs(self._connection, {row.event_id for row in self.rows.values() if row.has_root})
        self._take_traces(run_ids)
        prefer_spans(self._connection, {row.event_id: row.stretch for row in self.rows.values()})

    def _leave_out(self, event_ids: Collection[str]) -> None:
        """Forget the turns with these runs, and their records."""
        gone = {row.turn_id for row in self.rows.values() if row.event_id in event_ids}
        if not gone:
            return
        self.rows = {turn_id: row for turn_id, row in self.rows.items() if turn_id not in gone}
        self._new = [one for one in self._new if one.turn_id not in gone]
        self._moved = [(one, turn_id) for one, turn_id in self._moved if turn_id not in gone]

    def _join(self, row: TurnRow, record: TurnRecord) -> None:
        """Let a turn whose prompt has come be the run of the span that the prompt names."""
        before = row.event_id
        join_span(self._connection, row, (record.trace_id, record.span_id))
        if row.event_id != before and row.state is not None:
            self._absorbed.append((before, row.event_id))
            row.state = None

    def _sum(self) -> None:
        """Add new records to the sums of their turns; sum those anew that lose or get records which were there."""
        parts: defaultdict[str, list[TurnRecord]] = defaultdict(list)
        for one in self._new:
            parts[one.turn_id].append(one.record)
        anew = {turn_id for one, now in self._moved for turn_id in (one.turn_id, now)} - {NO_TURN}
        if anew:
            # A sum cannot give back what a record has added to it, the last of several texts least of all.
            moved = {one.record.identity: now for one, now in self._moved}
            for one in records_of(self._connection, anew):
                parts[moved.get(one.record.identity, one.turn_id)].append(one.record)
            for one, now in self._moved:
                if one.turn_id not in anew:
                    parts[now].append(one.record)
        for turn_id, row in self.rows.items():
            if added := parts.get(turn_id, []):
                row.figures = merged([*([] if turn_id in anew else [row.figures]), figures_of(added)])

    def _write_states(self) -> None:
        """Write the states of the turns whose run has no span of its own."""
        changes: list[tuple[TurnRow, Fields]] = []
        for row in self.rows.values():
            row.is_open = not (row.has_root or self._is_over(row))
            if row.has_root:  # the span's own state stands, which knows its end better
                continue
            state = turn_state(row.event_id, row.base, row.figures, began_ns=row.begin_ns, is_over=not row.is_open)
            if (state := storable_state(state)) != row.state:
                changes.append((row, state))
        if not changes:
            return
        received = {} if self._received_at is None else {"received_at": self._received_at}
        outcomes = put_states(self._connection, [(row.state, {**state, **received}) for row, state in changes])
        for (row, state), outcome in zip(changes, outcomes, strict=True):
            row.state = state
            if outcome == "deleted":  # older than what retention has deleted
                self._leave_out((row.event_id,))
        write_traces(self._connection, (), [state for row, state in changes if row.turn_id in self.rows])

    def _write_records(self, run_ids: Mapping[str, str]) -> None:
        """Write new records, and those that have another turn now, with their events and steps."""
        new = [self._in_run(one, one.turn_id, run_ids) for one in self._new]
        add_records(self._connection, new)
        add_steps(self._connection, new)
        moved = [self._in_run(one, turn_id, run_ids) for one, turn_id in self._moved]
        move_records(self._connection, moved)
        left = {self.rows[one.turn_id].event_id for one, _ in self._moved if one.turn_id in self.rows}
        move_steps(self._connection, moved, left)

    def _is_over(self, row: TurnRow) -> bool:
        """Return whether a turn is over: its agent says so, there is silence, or another prompt follows."""
        if row.figures.is_ended or row.figures.silent_ns <= self._now_ns:
            return True
        began = row.begin.order if row.begin is not None else (row.figures.first_ns, UNKNOWN, 0, "")
        if row.stretch not in self._begins:
            around = begins_around(self._connection, row.stretch, began[0], began[0], ())
            return any(begin.order > began for begin in around.values())
        return any(begin.order > began for begin in self._begins[row.stretch])

    def _in_run(self, placed: Placed, turn_id: str, run_ids: Mapping[str, str]) -> Placed:
        """Return a record with its turn and the run of that."""
        row = self.rows.get(turn_id)
        if row is None:
            return Placed(placed.record, NO_TURN)
        return Placed(placed.record, turn_id, row.event_id, run_ids.get(row.event_id, ""))

    def _take_traces(self, run_ids: Mapping[str, str]) -> None:
        """Let the traces that records name be parts of their turns, unless a span of theirs is the turn itself."""
        traces: defaultdict[str, set[str]] = defaultdict(set)
        placed = [(one.record, one.turn_id) for one in self._new]
        placed += [(one.record, turn_id) for one, turn_id in self._moved]
        for record, turn_id in placed:
            if record.trace_id and not record.span_is_run and record.role != "nothing" and turn_id in self.rows:
                traces[turn_id].add(record.trace_id)
        for turn_id, trace_ids in sorted(traces.items()):
            event_id = self.rows[turn_id].event_id
            take_traces(self._connection, event_id, run_ids.get(event_id, ""), trace_ids)
