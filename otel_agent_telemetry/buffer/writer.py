"""The writing side of the buffer: this process's segments, held by its lock.

Opened by the first record. The lock comes before the first segment, so whoever finds a
segment whose lock is free knows that its writer is gone.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from otel_agent_telemetry.append import LostDescriptorError, sync_dir
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import lock_path
from otel_agent_telemetry.buffer.segment import SegmentFile
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.trusted_files import make_private_dir

_LOCK_FILE_BYTES = 4096


class BufferWriter:
    """Appends run states to this process's segments. `append` is safe under threads, without a lock.

    Raises OSError from the constructor when the folder or the lock cannot be made.
    """

    def __init__(self, folder: Path, identity: WriterIdentity, *, segment_bytes: int) -> None:
        self.folder = folder
        self.identity = identity
        self._segment_bytes = segment_bytes
        make_private_dir(folder)
        self._lock = FileLock(lock_path(folder, identity.writer))
        if not self._lock.try_acquire():
            raise FileExistsError(17, "another process holds this writer's lock", str(self._lock.path))
        self._retired: deque[tuple[SegmentFile, int]] = deque()
        self._segment: SegmentFile | None = None
        self._numbers = itertools.count()
        self.note({})
        self._rotate(None)

    def append(self, line: bytes) -> None:
        """Write one line; on return it survives the death of the process. Raises OSError.

        Never waits: a file that another thread is rotating is still written to.
        """
        segment = self._segment
        if segment is None or segment.size >= self._segment_bytes:
            # No lock: two threads that both see a full segment begin two, see `_rotate`.
            segment = self._rotate(segment)
        try:
            segment.write(line)
        except LostDescriptorError:
            self.recover().write(line)

    def recover(self) -> SegmentFile:
        """Open what other code of the process closed: take the lock, go on in the segment, and return that.

        Raises LostDescriptorError when another process took the lock meanwhile, which has
        delivered the segments as a dead process's then; OSError.
        """
        # The lock first: only its holder may add to the segments, a deliverer that has it removes them.
        if not self._lock.try_acquire():
            raise LostDescriptorError(errno.EBADF, "the lock was closed by other code and is taken", str(self.folder))
        segment = self._segment
        if segment is None or not segment.path.exists():
            return self._rotate(segment)
        if not segment.is_open():
            # The old object would seal the segment when it is collected; `abandon` leaves that to the new one.
            again = SegmentFile(self.folder, self.identity, segment.number, resumed=True)
            segment.abandon()
            self._segment = segment = again
        return segment

    def _rotate(self, full: SegmentFile | None) -> SegmentFile:
        """Begin the next segment; of two threads that meet here one's stays empty, which is harmless."""
        following = SegmentFile(self.folder, self.identity, next(self._numbers))
        if self._segment is full:
            self._segment = following
            if full is not None:
                # Two rounds, because a thread that took the old segment before the change may still write to it
                # after the first sync.
                self._retired.append((full, 2))
        return following

    def sync(self) -> None:
        """Force everything to the disk and leave segments that someone removed. Blocks. Raises OSError."""
        for _ in range(len(self._retired)):
            segment, rounds = self._retired.popleft()
            with contextlib.suppress(LostDescriptorError):
                segment.sync()
            if rounds > 1:
                self._retired.append((segment, rounds - 1))
        current = self._segment
        if current is not None and current.dirty:
            try:
                current.sync()
            except LostDescriptorError:
                self.recover().sync()
            # A new file's name is durable only when its folder is synced too (fsync(2)).
            sync_dir(self.folder)

    def lost(self) -> bool:
        """Return whether the folder, the lock or the segment was taken away under us; then open a new writer."""
        current = self._segment
        return self._lock.taken_away() or (current is not None and current.replaced())

    def touch(self) -> None:
        """Leave a sign of life that a deliverer can read after our death. Raises OSError.

        Also opens anew what other code of the process closed since.
        """
        self.recover()
        self._lock.touch()

    def note(self, counters: Mapping[str, Any]) -> None:
        """Write identity and counters into the lock file, in place (works on a full disk). Raises OSError.

        The file is one JSON object padded with spaces to 4096 bytes.
        """
        text = orjson.dumps({**self.identity._asdict(), "counters": counters}, default=str)
        self._lock.write(text.ljust(_LOCK_FILE_BYTES)[:_LOCK_FILE_BYTES])

    def close(self) -> None:
        """Seal the segment and give the writer up: what was written is anyone's to deliver."""
        self._segment = None
        self._retired.clear()
        self._lock.release()

    def abandon(self) -> None:
        """In a forked child: let go of everything without a trace in the parent's files."""
        for segment in (self._segment, *(segment for segment, _ in self._retired)):
            if segment is not None:
                segment.abandon()
        self._segment = None
        self._retired.clear()
        self._lock.close_after_fork()
