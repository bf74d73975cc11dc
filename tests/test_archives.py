"""Compressed files: what can be read of whole, truncated and damaged ones."""

import gzip
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from otel_agent_telemetry.archives import ArchiveReader, open_archive
from otel_agent_telemetry.errors import ConfigurationError

CONTENT = b"".join(b"line %d of some text\n" % number for number in range(20_000))
COMPRESS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}


def read(path: Path) -> tuple[bytes, str]:
    stream, archive = open_archive(path)
    with stream:
        return stream.read(), archive.damage


@pytest.fixture(params=COMPRESS)
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_content_of_all_archives_in_a_file_is_read(tmp_path: Path, ending: str, pieces: int) -> None:
    """`cat a.gz b.gz` is an archive too; zeros behind one mean nothing."""
    path = tmp_path / f"file{ending}"
    path.write_bytes(COMPRESS[ending](CONTENT) * pieces + bytes(2000))
    assert read(path) == (CONTENT * pieces, "")


def test_a_truncated_archive_is_read_up_to_its_end(tmp_path: Path, ending: str) -> None:
    """Wherever it was cut; the damage is named."""
    path, whole = tmp_path / f"file{ending}", COMPRESS[ending](CONTENT)
    for size in (0, 1, 9, 10, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:size])
        content, damage = read(path)
        assert CONTENT.startswith(content)
        assert damage == ("ends too early" if size else "")
    assert len(content) > 0.5 * len(CONTENT)


def test_a_damaged_archive_is_read_up_to_the_damage(tmp_path: Path, ending: str) -> None:
    """A byte in the middle was changed: what comes before is read."""
    path, whole = tmp_path / f"file{ending}", bytearray(COMPRESS[ending](CONTENT) * 3)
    at = len(whole) // 2
    whole[at : at + 40] = bytes(range(200, 240))
    path.write_bytes(whole)
    content, damage = read(path)
    assert content[: len(CONTENT)] == CONTENT
    assert damage
    path.write_bytes(b"no archive at all\n" * 100)
    assert read(path)[0] == b""
    assert read(path)[1].startswith("damaged at byte 0")


def test_only_the_damaged_byte_of_gzip_costs_content(tmp_path: Path) -> None:
    """Everything is read where only the checksum is wrong."""
    path, whole = tmp_path / "file.gz", bytearray(gzip.compress(CONTENT))
    whole[-6] ^= 1
    path.write_bytes(whole)
    content, damage = read(path)
    assert content == CONTENT
    assert "incorrect data check" in damage


@pytest.mark.parametrize("program", ["gzip", "zstd"])
def test_what_the_programs_write_is_read(tmp_path: Path, program: str) -> None:
    """`gzip` and `zstd` themselves, as operators and logrotate call them."""
    plain = tmp_path / "file"
    plain.write_bytes(CONTENT)
    try:
        subprocess.run([program, "-q", plain], check=True)
    except FileNotFoundError:
        return  # the archives of the libraries stand for it
    (archive,) = tmp_path.glob("file.*")
    assert read(archive) == (CONTENT, "")


def test_a_huge_content_takes_little_memory(tmp_path: Path, ending: str) -> None:
    """A small archive of 64 MiB is read in pieces."""
    path = tmp_path / f"file{ending}"
    path.write_bytes(COMPRESS[ending](bytes(16 << 20)) * 4)
    tracemalloc.start()
    stream, archive = open_archive(path)
    with stream:
        size = sum(map(len, iter(lambda: stream.read(1 << 16), b"")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (size, archive.damage) == (64 << 20, "")
    assert peak < 8 << 20


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, or to do instead."""
    path = tmp_path / "file.zst"
    path.write_bytes(COMPRESS[".zst"](CONTENT))
    for name in ("zstandard", "compression"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="Zstandard") as caught:
        open_archive(path)
    assert "otel-agent-telemetry[zstd]" in caught.value.hint


def test_an_archive_that_cannot_be_opened_leaves_nothing_to_complain_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python closes the half-made reader when it collects it, and since 3.13 reports what that raises."""
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with pytest.raises(OSError, match="missing"):
        open_archive(tmp_path / "missing.gz")
    half_made = ArchiveReader.__new__(ArchiveReader)
    with pytest.raises(OSError, match="missing"):
        ArchiveReader.__init__(half_made, tmp_path / "missing.gz")
    half_made.close()

    assert reported == []
