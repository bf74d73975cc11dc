"""Read files that were compressed with gzip or Zstandard, as far as they can be read.

An archive that ends too early, or is damaged, gives what comes before that place: of gzip every
byte, of Zstandard every whole block (128 KiB at most). It is decompressed in small steps, so that
neither a damaged place costs more than that nor a small archive of a huge content much memory.
Several archives in one file, one behind the other, are one content.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from otel_agent_telemetry.append import sync_dir
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.trusted_files import open_file, open_to_read

_STEP_BYTES: Final = {".gz": 512, ".zst": 64}
"""How much is decompressed at once: half a megabyte of content at most from gzip, two from Zstandard."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class _Decompressor(Protocol):
    """What `zlib`, `zstandard` and Python's `compression.zstd` agree on; used up at the end of one archive."""

    @property
    def eof(self) -> bool:
        """Return whether the archive has ended."""

    @property
    def unused_data(self) -> bytes:
        """Return what came behind its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return the content of the next bytes."""


class ArchiveReader(io.RawIOBase):
    """The content of an archive as a stream that can only be read on, through `io.BufferedReader`.

    Reading ends, instead of raising, where the archive cannot be read on; `damage` says then
    why, and is "" else. Raises ConfigurationError from the constructor where no decompressor
    is installed, OSError where the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.damage = ""
        self._source: BinaryIO | None = None  # Python closes the object even when what follows raises
        new, error = _zstandard(path) if path.suffix == ".zst" else _gzip()
        self._source = source = open_to_read(path)
        self._step_bytes = _STEP_BYTES[path.suffix]
        self._pieces = self._decompress(source, new, error)
        self._held = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer with the next bytes and return their number; 0 at the end. Raises OSError."""
        if not self._held:
            self._held = next(self._pieces, b"")
        count = min(len(self._held), len(buffer))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count

    def close(self) -> None:
        """Close the file."""
        if self._source is not None:
            self._source.close()
        super().close()

    def _decompress(
        self, source: BinaryIO, new: Callable[[], _Decompressor], error: type[Exception]
    ) -> Iterator[bytes]:
        """Yield pieces of the content, none of them empty."""
        archive, ended = new(), True
        for step in iter(lambda: source.read(self._step_bytes), b""):
            data = step
            # Zeros are what pads an archive on a tape, and what a power cut leaves.
            while rest := data.lstrip(b"\0") if ended else data:
                ended = False
                before = archive.copy() if hasattr(archive, "copy") else None
                try:
                    content = archive.decompress(rest)
                except error as problem:
                    yield from filter(None, _until_damage(before, rest, error))
                    self.damage = f"damaged at byte {source.tell() - len(rest)} or soon after ({problem})"
                    return
                if content:
                    yield content
                data = archive.unused_data
                if archive.eof:
                    archive, ended = new(), True
        if not ended:
            self.damage = "ends too early"


def _until_damage(archive: Any, data: bytes, error: type[Exception]) -> Iterator[bytes]:
    """Yield the content of the bytes before the damaged one, from a copy of the state before them, if there is one."""
    for at in range(len(data) if archive is not None else 0):
        try:
            yield archive.decompress(data[at : at + 1])
        except error:
            return


def _gzip() -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """Return what decompresses gzip, and what it raises for damage."""
    return lambda: zlib.decompressobj(_GZIP), zlib.error


def _zstandard_compressor(path: Path) -> Any:
    """Return a compressor whose archives have a checksum. Raises ConfigurationError where there is none."""
    library = _zstandard_library(path)
    if library.__name__ == "zstandard":
        return library.ZstdCompressor(write_checksum=True).compressobj()
    return library.ZstdCompressor(options={library.CompressionParameter.checksum_flag: 1})


def _zstandard(path: Path) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """Return what makes a decompressor, and its error. Raises ConfigurationError where there is none."""
    library = _zstandard_library(path)
    if library.__name__ == "zstandard":
        return lambda: library.ZstdDecompressor().decompressobj(), library.ZstdError
    return library.ZstdDecompressor, library.ZstdError


def _zstandard_library(path: Path) -> Any:
    """Return Python's own module, since 3.14, else the package. Raises ConfigurationError where there is neither."""
    for name in ("compression.zstd", "zstandard"):
        with importing(), contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ConfigurationError(
        f"reading {path}: nothing that decompresses Zstandard is installed",
        hint="pip install 'otel-agent-telemetry[zstd]', or decompress the file: zstd -d --rm.",
    )


def replace_archive(path: Path, content: Iterable[bytes]) -> None:
    """Replace an archive by one of other content, under its name once it is on the disk. Raises OSError."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)  # left by a killed process
    with os.fdopen(open_file(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        compressor: Any = zlib.compressobj(wbits=_GZIP) if path.suffix == ".gz" else _zstandard_compressor(path)
        for piece in content:
            file.write(compressor.compress(piece))
        file.write(compressor.flush())
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    sync_dir(path.parent)


def open_archive(path: Path) -> tuple[BinaryIO, ArchiveReader]:
    """Return an archive's content as a buffered stream, and the reader that knows of its damage."""
    reader = ArchiveReader(path)
    return io.BufferedReader(reader, 1 << 16), reader
