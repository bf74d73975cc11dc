"""Keeping many things of which the database may refuse some: their neighbours are kept all the same.

PostgreSQL refuses values that no rule of ours names, such as a text that is too long for an
index. Which of a batch that is, only trying its halves tells (design, invariant 5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.runs import WriteOutcome
from otel_agent_telemetry.storage.store import WriteBatch, WriteResult

T = TypeVar("T")


async def keep(
    write: Callable[[WriteBatch], Awaitable[WriteResult]],
    items: Sequence[T],
    batch_of: Callable[[Sequence[T]], WriteBatch],
) -> tuple[WriteResult, list[tuple[T, str]]]:
    """The result for the items that are kept now, in order, and those that are refused for good, each with the reason.

    Raises StoreUnavailableError, SchemaError, OverloadedError: then some may be kept already,
    and all of them should be told again.
    """
    bisection = Bisection(items)
    outcomes: list[WriteOutcome] = []
    linked: list[bool] = []
    for part in bisection:
        try:
            result = await write(batch_of(part))
        except (StoreUnavailableError, SchemaError):
            raise
        except StorageError as problem:
            bisection.refuse(str(problem))
        else:
            outcomes += result.outcomes
            linked += result.linked
    refused = [(items[position], reason) for position, reason in bisection.refused]
    return WriteResult(tuple(outcomes), tuple(linked)), refused
