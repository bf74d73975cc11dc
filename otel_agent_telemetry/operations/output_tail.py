"""What a command writes to standard error, passed on as it comes, and its last lines for the record of a failure.

The command writes into a pipe, and a thread of ours copies it to where our standard error goes: bytes, unchanged,
as soon as they are there. Where standard output goes to the same place (`2>&1`), both go through the one pipe,
so that their order is the command's. Kept are the last 64 KiB.

What outlives the command and still has the pipe (a daemon that it started) gets `cat` as its reader, so that
neither it nor whoever waits for our exit notices.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import threading
from collections.abc import Mapping
from typing import Final

from otel_agent_telemetry.secret_patterns import mask_text

MAX_LINES: Final = 20
_MAX_KEPT: Final = 64 << 10
_MAX_LINE: Final = 1_000
_CHUNK: Final = 64 << 10
# The most that a pipe holds. After the command's end the rest is from others, who may never stop: it is for `cat`.
_MAX_LEFT: Final = 1 << 20
_STDOUT: Final = 1
_STDERR: Final = 2
_GONE: Final = frozenset({errno.EPIPE, errno.EBADF})
# CSI sequences (colours, cursor), OSC sequences (titles, links), and what is left of two characters.
_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class OutputTail:
    """The pipe of one command's standard error. Made before the command starts, finished after it has ended."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._read, False)
        self._kept = bytearray()
        self._is_cut = False
        self._is_open = True
        self._has_ended = False
        self._thread = threading.Thread(target=self._relay, name="agent-telemetry-stderr", daemon=True)

    @property
    def outputs(self) -> Mapping[int, int]:
        """Return the descriptors of the command that are the pipe: 2, and 1 where both go to the same place."""
        both = (_STDERR, _STDOUT) if _is_same_file(_STDERR, _STDOUT) else (_STDERR,)
        return dict.fromkeys(both, self._write)

    def begin(self) -> None:
        """Copy from now on; called when the command has been started. Without it, what it writes has no reader."""
        os.close(self._write)  # else the pipe would never end
        self._thread.start()

    def finish(self) -> None:
        """Copy what the command has left, and stop. Blocks as long as whoever reads our standard error does."""
        self._has_ended = True
        os.write(self._waker, b"\0")
        self._thread.join()
        if self._is_open:
            self._leave_to_cat()
            os.close(self._read)
        os.close(self._wake)
        os.close(self._waker)

    def lines(self) -> list[str]:
        """Return the last lines as `last_lines` does."""
        return last_lines(bytes(self._kept), is_cut=self._is_cut)

    def _relay(self) -> None:
        """Copy until the pipe ends, or the command has ended and the pipe is empty."""
        watched = select.poll()
        for descriptor in (self._read, self._wake):
            watched.register(descriptor, select.POLLIN)
        is_last = False
        while self._copy() and not is_last:
            # What was written before the command ended is there by then, so one more look finds all of it.
            is_last = any(descriptor == self._wake for descriptor, _ in watched.poll())

    def _copy(self) -> bool:
        """Copy what is there; return whether more may come."""
        left = _MAX_LEFT
        while left > 0 and (chunk := self._next_chunk()) is not None:
            left -= len(chunk) if self._has_ended else 0
            self._keep(chunk)
            if not chunk or not _write_all(_STDERR, chunk):
                # Where nobody reads our standard error, the command's next write fails as it would without us.
                self._is_open = False
                os.close(self._read)
                return False
        return True

    def _next_chunk(self) -> bytes | None:
        """Return what has been written; b"" at the end of the pipe, None when there is nothing yet."""
        try:
            return os.read(self._read, _CHUNK)
        except BlockingIOError:
            return None

    def _keep(self, chunk: bytes) -> None:
        """Keep the end of what has been written."""
        self._kept += chunk
        if len(self._kept) > _MAX_KEPT:
            del self._kept[:-_MAX_KEPT]
            self._is_cut = True

    def _leave_to_cat(self) -> None:
        """Let `cat` copy what processes that outlive the command still write."""
        os.set_blocking(self._read, True)
        actions = [(os.POSIX_SPAWN_DUP2, self._read, 0), (os.POSIX_SPAWN_DUP2, _STDERR, _STDOUT)]
        # A session of its own: a Ctrl-C for what the terminal runs next is not for it.
        with contextlib.suppress(OSError, NotImplementedError):
            os.posix_spawnp("cat", ["cat"], {}, file_actions=actions, setsid=True, setsigmask=())


def last_lines(kept: bytes, *, is_cut: bool) -> list[str]:
    """Return the last lines of an output, 20 at most, with secrets masked and without terminal sequences.

    Of a line of more than 1,000 characters the end is kept. `is_cut`: whether `kept` begins in the middle of a line.
    """
    text = _ESCAPE.sub("", kept.decode("utf-8", "replace"))
    lines = [_as_shown(line) for line in text.strip("\n").split("\n")]
    if is_cut and len(lines) > 1:
        del lines[0]  # half a line, in which a secret could not be recognised
    # All that is kept is masked before it is cut: a private key's first line is above its last twenty.
    masked = mask_text("\n".join(lines)).split("\n")[-MAX_LINES:] if any(lines) else []
    return [line if len(line) <= _MAX_LINE else f"…{line[-_MAX_LINE:]}" for line in masked]


def is_worth_reading() -> bool:
    """Return whether standard error is open and no terminal: a terminal is the command's own."""
    try:
        os.fstat(_STDERR)
    except OSError:
        return False
    return not os.isatty(_STDERR)


def _is_same_file(one: int, other: int) -> bool:
    """Return whether two descriptors lead to the same place."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


def _write_all(descriptor: int, chunk: bytes) -> bool:
    """Write a chunk wholly; return False when nobody reads it any more. Blocks as the reader does."""
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            # A program that shares the pipe has made it non-blocking, as Node.js does.
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
        except OSError as problem:
            return problem.errno not in _GONE  # a full disk takes no more, and the command need not end for it
    return True


def _as_shown(line: str) -> str:
    """Return a line as a terminal would show it at last: of a progress bar the last state."""
    return line.rstrip("\r").rpartition("\r")[2].replace("\0", "")
