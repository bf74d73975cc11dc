"""Doctor's look at the settings, OpenTelemetry, and the folders. Makes nothing, writes nothing.

What `doctor` says: one finding for each thing looked at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from otel_agent_telemetry.config import TelemetryConfig, folder_problem

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at: how it is, and when it is not well how to mend it."""

    level: Level
    about: str
    text: str
    mend: str = ""


def ok(about: str, text: str) -> Finding:
    """It is well."""
    return Finding("ok", about, text)


def warn(about: str, text: str, mend: str) -> Finding:
    """Runs are kept, but something is not as it should be."""
    return Finding("warn", about, text, mend)


def error(about: str, text: str, mend: str) -> Finding:
    """Runs are, or will be, lost or not delivered."""
    return Finding("error", about, text, mend)


_OLDEST: Final = (1, 39)
_LITTLE_BYTES: Final = 500 << 20
_NO_BYTES: Final = 20 << 20
_MIB: Final = 1 << 20


def check_settings(config: TelemetryConfig) -> Iterator[Finding]:
    """Values that cannot be read, settings that contradict each other, and recording switched off."""
    messages = [*config.with_(skip_validation=True).validate()[1]]
    for message in messages:
        yield warn("settings", message, "Correct or unset the variable.")
    if config.sdk_disabled:
        yield warn("settings", "OTEL_SDK_DISABLED is true: no run is recorded", "Unset OTEL_SDK_DISABLED.")
    if not messages and not config.sdk_disabled:
        yield ok("settings", "every variable that is set can be used")


def check_opentelemetry() -> Iterator[Finding]:
    """Which API and SDK are installed, and whether they are recent enough."""
    for name in ("opentelemetry-api", "opentelemetry-sdk"):
        try:
            known = version(name)
        except PackageNotFoundError:
            yield error("opentelemetry", f"{name} is not installed", f"pip install '{name}>={_dotted(_OLDEST)}'")
            continue
        if tuple(map(int, re.findall(r"\d+", known)[:2])) < _OLDEST:
            mend = f"pip install --upgrade '{name}>={_dotted(_OLDEST)}'"
            yield warn("opentelemetry", f"{name} {known} is older than {_dotted(_OLDEST)}", mend)
        else:
            yield ok("opentelemetry", f"{name} {known}")


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def check_folders(config: TelemetryConfig) -> Iterator[Finding]:
    """Whether journal, buffer and database can be written, and how much room there is."""
    folders = {"journal": config.ndjson_dir, "buffer": config.buffer_dir}
    if config.database_url is None:
        folders["database"] = config.db_path.parent
    for name, folder in folders.items():
        problem = folder_problem(folder)
        if problem:
            yield error("folders", f"{name}: {problem}", "Give this user write access, or set another folder.")
        else:
            state = "can be written" if folder.is_dir() else "will be made by the first run"
            yield ok("folders", f"{name}: {folder} {state}")
    yield from _check_space({_existing(folder) for folder in folders.values()})


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _check_space(folders: set[Path]) -> Iterator[Finding]:
    seen: set[int] = set()
    for folder in sorted(folders):
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        text = f"{free // _MIB} MiB free on the disk of {folder}"
        if free < _NO_BYTES:
            yield error("space", text, "Free some space: runs that cannot be written are lost.")
        elif free < _LITTLE_BYTES:
            yield warn("space", text, "Free some space soon.")
        else:
            yield ok("space", text)
