"""What calls cost in CPU time of the calling thread, for tests that compare costs.

Only ratios of two costs measured in one test are asserted: other programs and the machine's
speed change neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def cost_s(call: Callable[[], object], *, times: int = 3) -> float:
    """Return the least CPU time of this thread that one of some calls took."""
    return min(_once(call) for _ in range(times))


def growth(call: Callable[[int], Callable[[], object]], *, small: int, large: int) -> float:
    """Return how many times as much `call(large)` costs as `call(small)`; both are prepared before they are timed."""
    first, second = call(small), call(large)
    first()  # imports and caches are not part of the cost
    return cost_s(second) / cost_s(first)


def _once(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began
