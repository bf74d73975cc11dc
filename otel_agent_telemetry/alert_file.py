"""The file of alert rules, read again when it changes: `{base}/alerts.toml`, or what `TELEMETRY_ALERTS` names.

`alert_rules` describes what is in it. It is opened as every file below the base directory is
(`trusted_files`): no link of another user, no pipe, no folder. A file that cannot be used leaves the
rules as they were. No file at the place of `TELEMETRY_ALERTS` is a fault, at the other it is no rule.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, Final

from otel_agent_telemetry.alert_rules import AlertRulesError, Problem, Rules, read_rules
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.trusted_files import followed, open_to_read

_MAX_BYTES: Final = 1 << 20
_Version = tuple[int, ...]


class AlertFile:
    """The rules that count now. Not shared between threads."""

    def __init__(self, settings: TelemetryConfig) -> None:
        self._settings = settings
        self.path = settings.alerts
        self._version: _Version | None = None
        self.rules = Rules()
        self.problems: tuple[Problem, ...] = ()
        """Why the file as it is now is not used; empty when it is."""

    def look(self) -> bool:
        """Read the file if it has changed since the last look; return whether it had. Blocks on the disk; never raises.

        Afterwards `rules` are those of the file, or the former ones where `problems` say why it cannot be used.
        """
        try:
            # A link of our own is followed: a ConfigMap of Kubernetes is mounted as links.
            with open_to_read(followed(self.path)) as stream:
                version = _version_of(stream)
                if version == self._version:
                    return False
                content = stream.read(_MAX_BYTES + 1)
        except OSError as found:
            problem = found
            return self._use((-(problem.errno or 1),), lambda: self._without_file(problem))
        return self._use(version, lambda: read_rules(_text_of(content), self._settings))

    def _use(self, version: _Version, read: Callable[[], Rules]) -> bool:
        """Take the rules that `read` returns, or note why there are none; return whether this version is a new one."""
        is_new, self._version = version != self._version, version
        if is_new:
            try:
                self.rules, self.problems = read(), ()
            except AlertRulesError as faults:
                self.problems = faults.problems
        return is_new

    def _without_file(self, problem: OSError) -> Rules:
        """Return the rules where no file can be opened. Raises AlertRulesError unless none need be there."""
        if not isinstance(problem, FileNotFoundError):
            raise AlertRulesError(Problem(1, "", problem.strerror or str(problem), "Let this user read the file."))
        if self.path != self._settings.base_dir / "alerts.toml":
            raise AlertRulesError(Problem(1, "", "the file is not there", "Write it, or unset TELEMETRY_ALERTS."))
        return Rules()


def _version_of(stream: BinaryIO) -> _Version:
    """Return what changes with the content of an open file."""
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _text_of(content: bytes) -> str:
    """Return the text of a file. Raises AlertRulesError."""
    if len(content) > _MAX_BYTES:
        raise AlertRulesError(Problem(1, "", f"the file is larger than {_MAX_BYTES} bytes", "Shorten it."))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise AlertRulesError(Problem(line, "", "this is not UTF-8", "Save the file as UTF-8.")) from None


def read_alert_file(settings: TelemetryConfig) -> AlertFile:
    """Return the file of a configuration after a first look. Blocks on the disk; never raises."""
    file = AlertFile(settings)
    file.look()
    return file
