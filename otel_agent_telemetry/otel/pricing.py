"""What model calls cost, by the price list that genai-prices carries: offline, nothing is fetched.

The list takes a good part of a second to import, so a live process imports it in the
background when the first model call begins; a service may wait for it. Without the extra
`cost` nothing has a price. A model that the list does not know has none either: unknown is
not zero.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import threading
from datetime import UTC, datetime
from types import ModuleType
from typing import Final

from otel_agent_telemetry.otel.usage import ModelCall

_log = logging.getLogger(__name__)
_KINDS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
}
"""Our name of a kind of tokens → the price list's. Reasoning tokens are output tokens to it, as they are to us."""
_NANO: Final = 1_000_000_000
_FORK_S: Final = 2.0
_ANY_CALL: Final = ModelCall({"input_tokens": 1}, "gpt-4o-mini", "openai", 0)


class PriceList:
    """The price list, once it is loaded. One for a process; safe under threads."""

    def __init__(self) -> None:
        self._module: ModuleType | None = None
        self._loaded = False
        self._guard = threading.Lock()
        self._held = False

    @property
    def is_loaded(self) -> bool:
        """Whether `cost_of` answers; true as well when there is no price list to load."""
        return self._loaded

    def load(self) -> None:
        """Import it, unless that is done. Blocks; for the background and for services. Never raises."""
        with self._guard:
            if not self._loaded:
                self._module = _imported()
                self.cost_of(_ANY_CALL)  # the list itself is read at the first question
                self._loaded = True

    def before_fork(self) -> None:
        """Let a load that has begun end: the child would get the module half-done, and the lock for ever held."""
        self._held = self._guard.acquire(timeout=_FORK_S)

    def after_fork(self, *, in_child: bool) -> None:
        """Go on as before."""
        if in_child:
            self._guard = threading.Lock()
        elif self._held:
            self._guard.release()

    def cost_of(self, call: ModelCall) -> int | None:
        """10^-9 US dollars of one model call; None when that is not known, or not yet loaded."""
        tokens = {theirs: call.usage[ours] for ours, theirs in _KINDS.items() if call.usage.get(ours)}
        if self._module is None or not tokens:
            return None
        for provider in (call.provider, None) if call.provider else (None,):  # a gateway's name, or a spelling
            with contextlib.suppress(Exception):  # not in the list; or foreign code, asked with anybody's values
                when = datetime.fromtimestamp(call.at_ns / 1e9, UTC)
                used = self._module.Usage(**tokens)
                price = self._module.calc_price(used, call.model, provider_id=provider, genai_request_timestamp=when)
                return int(price.total_price * _NANO)
        return None


def _imported() -> ModuleType | None:
    try:
        return importlib.import_module("genai_prices")
    except ImportError:
        return None  # the extra is not installed
    except Exception as problem:  # foreign code
        if threading.main_thread().is_alive():  # else the interpreter is ending, and refuses what modules ask of it
            _log.warning("model calls have no cost, the price list cannot be loaded: %s", type(problem).__name__)
        return None


PRICES: Final = PriceList()
"""This process's."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=PRICES.before_fork,
        after_in_parent=functools.partial(PRICES.after_fork, in_child=False),
        after_in_child=functools.partial(PRICES.after_fork, in_child=True),
    )
