"""The check of `doctor` on what other users may have put into the folders, or could put there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.layout import rejected_path
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.operations.check_environment import Finding, error, ok, warn
from otel_agent_telemetry.trusted_files import followed, is_shared, may_be_written_by_others, untrusted_entries

_NAMED: Final = 3


def check_trust(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield the entries that are not opened, and the folders that other users may write. Raises OSError."""
    found = False
    # An operator's links to another disk, which are followed.
    links = {path for path in (config.db_path, config.capture_file) if path.is_symlink() and followed(path) != path}
    for folder in _folders(config):
        for finding in _findings(folder, links):
            found = True
            yield finding
    if not found:
        yield ok("trust", "no other user can write the folders, and every file in them is a regular one")


def _folders(config: TelemetryConfig) -> list[Path]:
    """Return the folders that are there, each once."""
    folders = [config.ndjson_dir, config.buffer_dir, rejected_path(config.buffer_dir, "").parent]
    folders += [config.capture_file.parent, config.backups_dir]
    folders += [config.db_path.parent] if config.database_url is None else []
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _findings(folder: Path, links: set[Path]) -> Iterator[Finding]:
    """Yield what is wrong with a folder, and with its entries other than `links`."""
    status = folder.stat()
    if may_be_written_by_others(status):
        yield warn(
            "trust",
            f"{folder} can be written by others (mode {status.st_mode & 0o7777:o}): they can remove what is in it",
            f"chmod go-w {folder}; each user of a shared folder has one of its own, see docs/files.md.",
        )
    elif is_shared(status):
        yield warn("trust", f"{folder} belongs to another user (uid {status.st_uid})", "Use a folder of your own.")
    entries = [(name, reason) for name, reason in untrusted_entries(folder) if folder / name not in links]
    if entries:
        more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
        names = ", ".join(f"{name!r} ({reason})" for name, reason in sorted(entries)[:_NAMED])
        yield error(
            "trust", f"{folder} has entries that are not opened: {names}{more}", "Look at them and remove them."
        )
