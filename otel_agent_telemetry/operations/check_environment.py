"""Findings of `doctor`, and its checks on settings, OpenTelemetry and folders. They write nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from otel_agent_telemetry.base_folder import folder_problem
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import is_loopback

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: the state of `about`, and how to fix it unless the level is "ok"."""

    level: Level
    about: str
    text: str
    fix: str = ""


def ok(about: str, text: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding("ok", about, text)


def warn(about: str, text: str, fix: str) -> Finding:
    """Return a finding that runs are kept, but something needs attention."""
    return Finding("warn", about, text, fix)


def error(about: str, text: str, fix: str) -> Finding:
    """Return a finding that runs are, or will be, lost or not delivered."""
    return Finding("error", about, text, fix)


_OLDEST: Final = (1, 39)
_LOW_SPACE_BYTES: Final = 500 << 20
_NO_SPACE_BYTES: Final = 20 << 20
_MIB: Final = 1 << 20


def check_settings(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield values that cannot be read, settings that contradict each other, and recording switched off.

    Touches no file and no network.
    """
    # The checks of folders that validation would make are findings of their own.
    messages = [*config.with_(skip_validation=True).validate()[1]]
    for message in messages:
        yield warn("settings", message, "Correct or unset the variable.")
    if config.sdk_disabled:
        yield warn("settings", "OTEL_SDK_DISABLED is true: no run is recorded", "Unset OTEL_SDK_DISABLED.")
    if config.api_auth_enabled is False and not is_loopback(config.api_host):
        yield warn(
            "settings",
            f"TELEMETRY_API_AUTH_ENABLED is false: everybody who reaches {config.api_host} reads and writes the runs",
            "Set TELEMETRY_API_AUTH_TOKEN, and unset TELEMETRY_API_AUTH_ENABLED.",
        )
    if not messages and not config.sdk_disabled:
        yield ok("settings", "every variable that is set is valid")


def check_content(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield whether message content is stored, and the settings that decide it."""
    names = {field: config.variable_of(field) for field in ("capture_content", "content_allow", "unknown_text_max")}
    if config.capture_content:
        text = f"prompts, answers, arguments and results of tools are stored: {names['capture_content']} is true"
        yield ok("content", text)
        return
    if config.capture_content_for:
        chosen = ", ".join(config.capture_content_for)
        yield ok("content", f"{config.variable_of('capture_content_for')} keeps all of it for {chosen}")
    allowed = f"; {names['content_allow']} keeps {', '.join(config.content_allow)}" if config.content_allow else ""
    yield ok(
        "content",
        f"prompts, answers, arguments and results of tools are left out{allowed} - "
        f"{names['capture_content']}=true stores them, {names['content_allow']} some names, "
        f"{names['unknown_text_max']} ({config.unknown_text_max}) is the longest text under an unknown name",
    )


def check_opentelemetry() -> Iterator[Finding]:
    """Yield which API and SDK versions are installed, and whether they are recent enough.

    Reads the metadata of the installed packages; imports neither.
    """
    for name in ("opentelemetry-api", "opentelemetry-sdk"):
        try:
            # Asked of the metadata, because the module of a broken installation may not be importable.
            installed = version(name)
        except PackageNotFoundError:
            yield error("opentelemetry", f"{name} is not installed", f"pip install '{name}>={_dotted(_OLDEST)}'")
            continue
        # Digits only: a pre-release such as 1.40.0rc1 counts as the version that it becomes.
        if tuple(map(int, re.findall(r"\d+", installed)[:2])) < _OLDEST:
            fix = f"pip install --upgrade '{name}>={_dotted(_OLDEST)}'"
            yield warn("opentelemetry", f"{name} {installed} is older than {_dotted(_OLDEST)}", fix)
        else:
            yield ok("opentelemetry", f"{name} {installed}")


def _dotted(numbers: tuple[int, ...]) -> str:
    """Return `1.39` of (1, 39)."""
    return ".".join(map(str, numbers))


def check_folders(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield whether the folders of journal, buffer and database can be written, and the free space."""
    folders = {"journal": config.ndjson_dir, "buffer": config.buffer_dir}
    if config.database_url is None:
        folders["database"] = config.db_path.parent
    for name, folder in folders.items():
        problem = folder_problem(folder)
        if problem:
            yield error("folders", f"{name}: {problem}", "Give this user write access, or set another folder.")
        else:
            state = "can be written" if folder.is_dir() else "will be created by the first run"
            yield ok("folders", f"{name}: {folder} {state}")
    yield from _check_space({_nearest_existing(folder) for folder in folders.values()})


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _check_space(folders: set[Path]) -> Iterator[Finding]:
    """Yield the free space of each disk once, whatever number of folders it has.

    Raises OSError.
    """
    seen: set[int] = set()
    for folder in sorted(folders):
        device = folder.stat().st_dev
        # Journal, buffer and database are usually on one disk.
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        text = f"{free // _MIB} MiB free on the disk of {folder}"
        if free < _NO_SPACE_BYTES:
            yield error("space", text, "Free some space: runs that cannot be written are lost.")
        elif free < _LOW_SPACE_BYTES:
            yield warn("space", text, "Free some space soon.")
        else:
            yield ok("space", text)
