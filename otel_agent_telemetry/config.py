"""The configuration of a process, read from the environment once; no other module reads it.

`settings` has the table of what can be set. A value that cannot be read is a warning and the
default (contract, "Environment"); `TelemetryConfig.warnings` keeps these warnings for
`validate()` and `doctor`. Only `validate`, `from_env` and `default_base_dir` access the disk, to
check folders; nothing is created.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from otel_agent_telemetry.base_folder import folder_problem, own_folder, usable_folder
from otel_agent_telemetry.given_by_name import GivenByName
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.settings import BASE_DIR_VARIABLE, SETTINGS, Setting, expanded_path

DEFAULT_API_URL: Final = "http://localhost:8765"
WELL_KNOWN_FOLDERS: Final = (
    *(("D:/agent-metrics", "C:/agent-metrics") if sys.platform == "win32" else ()),
    *("/agent-metrics", "/opt/telemetry", "/data/telemetry"),
)
"""Checked in this order when no base folder is configured (contract, decision 8)."""
_log = logging.getLogger(__name__)


_NOT_COMPARED: Final = frozenset({"variables", "warnings"})
_BY_FIELD: Final = {setting.field: setting for setting in SETTINGS}


class TelemetryConfig(GivenByName):
    """Every setting of a process, from the environment (`from_env`) or by name, defaults for the rest.

    Paths left None follow `base_dir`. Two equal configurations share one recorder.
    The repr names every setting and masks the secret ones.
    """

    # Files.
    base_dir: Path = None  # type: ignore[assignment]  # filled with the first well-known folder
    db_path: Path = None  # type: ignore[assignment]  # filled from base_dir
    ndjson_dir: Path = None  # type: ignore[assignment]  # filled from base_dir
    buffer_dir: Path = None  # type: ignore[assignment]  # filled from base_dir
    capture_file: Path = None  # type: ignore[assignment]  # filled from base_dir
    capture_max_bytes: int = 64 << 20
    capture_lock_timeout_s: float = 2.0
    # Recording.
    skip_validation: bool = False
    agent_owner: str | None = None
    runs: str = "root"
    deliver: str = "all"
    fsync: str = "interval"
    exit_timeout_s: float = 2.0
    segment_bytes: int = 8 << 20
    max_event_bytes: int = 1 << 20
    # Connection of processes.
    propagate_runs: bool = True
    parent_run_id: str | None = None
    trace_parent: str | None = None
    command_run_id: str | None = None
    command_event_id: str | None = None
    commit_trailer: str = "Agent-Run"
    # Message content, prices and people.
    capture_content: bool = False
    capture_content_for: tuple[str, ...] = ()
    unknown_text_max: int = 64
    content_allow: tuple[str, ...] = ()
    prices: Path | None = None
    user_id: str = "off"
    user_id_key: str | None = None
    # Delivery.
    api_url: str | None = None
    api_timeout_s: float = 10.0
    # The service.
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    otlp_grpc_port: int | None = None
    api_workers: int = 1
    silence_s: float = 600.0
    page: bool = True
    trace_url: str | None = None
    api_write_timeout_s: float = 8.0
    api_max_body_bytes: int = 64 << 20
    # Limits of a client of the service.
    http_max_head_bytes: int = 16 << 10
    http_max_fields: int = 100
    http_head_timeout_s: float = 10.0
    http_min_body_rate: int = 1024
    http_idle_timeout_s: float = 60.0
    http_write_timeout_s: float = 30.0
    http_max_connections: int = 64
    trusted_proxies: str | None = None
    # Access to the service.
    api_auth_enabled: bool | None = None
    api_auth_token: str | None = None
    api_tokens_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    ca_file: Path | None = None
    rate_limit_enabled: bool = False
    rate_limit_rpm: int = 60
    # Logging of the command and of the service.
    log_level: str = "WARNING"
    # The database.
    database_url: str | None = None
    db_journal_mode: str = "DELETE"
    db_synchronous: str = "FULL"
    db_busy_timeout_ms: int = 30_000
    db_max_retries: int = 3
    db_retry_base_delay_s: float = 0.1
    retention_days: int = 30
    retention_parts_days: int | None = None
    journal_max_bytes: int | None = None
    rejected_max_bytes: int = 64 << 20
    # Webhooks, alerts, and links to commits.
    sheets_enabled: bool = False
    sheets_url: str | None = None
    sheets_token: str | None = None
    sheets_auth_required: bool = False
    alerts: Path = None  # type: ignore[assignment]  # filled from base_dir
    alerts_url: str | None = None
    alerts_token: str | None = None
    git_hosts: tuple[tuple[str, str], ...] = ()
    # OTLP, proxies and OpenTelemetry's switch.
    otlp_enabled: bool = False
    otlp_endpoint: str | None = None
    otlp_protocol: str = "http/protobuf"
    http_proxy: str | None = None
    https_proxy: str | None = None
    all_proxy: str | None = None
    no_proxy: str | None = None
    sdk_disabled: bool = False
    discover_service: bool = True
    """Whether a service at the default address is used when no URL is given."""
    # Where the values were read from; no part of the configuration itself.
    warnings: tuple[str, ...] = ()
    """One sentence for each variable whose value could not be read."""
    variables: Mapping[str, str] = {}
    """Setting → the variable that gave it, for those read from the environment."""

    def _complete(self, fields: dict[str, Any]) -> None:
        """Fill `base_dir` and the paths below it that were not given."""
        base = _absolute(default_base_dir() if fields["base_dir"] is None else fields["base_dir"])
        fields["base_dir"] = base
        for name, parts in _UNDER_BASE.items():
            given = fields[name]
            fields[name] = _absolute(given) if given is not None else base.joinpath(*parts)

    def __eq__(self, other: object) -> bool:
        """Return whether all settings are the same; where they were read from does not count."""
        return type(other) is TelemetryConfig and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def _settings(self) -> tuple[Any, ...]:
        """Return the values that make two configurations equal."""
        return tuple(value for name, value in vars(self).items() if name not in _NOT_COMPARED)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> TelemetryConfig:
        """Return the configuration in `environ` (default: `os.environ`). Never raises; logs what cannot be read.

        A variable that is empty or blank counts as not set. In a base folder that
        is shared and closed to this user, a folder `user-{uid}` below it is used.

            config = TelemetryConfig.from_env({"TELEMETRY_BASE_DIR": "/data/telemetry"})
        """
        values, warnings, variables = _read(os.environ if environ is None else environ)
        for warning in warnings:
            _log.warning("%s", warning)
        if "base_dir" in values:
            values["base_dir"] = usable_folder(_absolute(values["base_dir"]))
        return cls(**values, warnings=tuple(warnings), variables=variables)

    def variable_of(self, setting: str) -> str:
        """Return the variable that a setting was read from, or else the first that it can be read from."""
        return self.variables.get(setting) or _BY_FIELD[setting].variables[0]

    def with_(self, **changes: Any) -> TelemetryConfig:
        """Return a copy with some settings changed; paths that follow `base_dir` follow a new one.

        Raises TypeError for a name that is no setting.
        """
        if "base_dir" in changes:
            followers = (
                name for name, parts in _UNDER_BASE.items() if getattr(self, name) == self.base_dir.joinpath(*parts)
            )
            changes = {**dict.fromkeys(followers), **changes}
        return TelemetryConfig(**{**vars(self), **changes})

    def hand_down(self) -> None:
        """Set the base directory in the environment of processes that this one starts.

        A child process then finds the same files, whatever its working directory and its own defaults are.
        """
        os.environ[BASE_DIR_VARIABLE] = str(self.base_dir)

    @property
    def has_token(self) -> bool:
        """Return whether the service has a token to ask for."""
        return bool(self.api_auth_token or self.api_tokens_file)

    @property
    def auth_required(self) -> bool:
        """Return whether the service asks for a token: as set, else when there is one."""
        return self.has_token if self.api_auth_enabled is None else self.api_auth_enabled

    @property
    def backups_dir(self) -> Path:
        """Return `{base}/backups`."""
        return self.base_dir / "backups"

    def validate(self) -> tuple[bool, list[str]]:
        """Return `(ok, messages)`: whether runs can be kept, and every problem and warning (seed 001).

        Checks folders on disk unless `skip_validation`. Never raises.
        """
        messages = list(self.warnings)
        fatal = [] if self.skip_validation else self._folder_problems()
        if self.sheets_enabled and not self.sheets_url:
            messages.append("GOOGLE_SHEETS_API_ENABLED is true but GOOGLE_SHEETS_API_URL is not set: nothing is posted")
        if self.sheets_enabled and self.sheets_auth_required and not self.sheets_token:
            messages.append("METRICS_API_AUTH_REQUIRED is true but METRICS_API_TOKEN is not set: nothing is posted")
        if self.auth_required and not self.has_token:
            messages.append("TELEMETRY_API_AUTH_ENABLED is true but TELEMETRY_API_AUTH_TOKEN is not set")
        if self.api_workers > 1 and self.database_url is None:
            messages.append("TELEMETRY_API_WORKERS must be 1 on SQLite: one process writes it")
        return not fatal, [*fatal, *messages]

    def _folder_problems(self) -> list[str]:
        """Return a sentence for each folder that cannot be made or written."""
        folders = {"TELEMETRY_NDJSON_DIR": self.ndjson_dir, "TELEMETRY_BUFFER_DIR": self.buffer_dir}
        return [
            f"{variable}: {folder}: {problem}"
            for variable, folder in folders.items()
            if (problem := folder_problem(folder))
        ]

    def describe(self) -> dict[str, str]:
        """Return every setting as printable text, secrets masked; for `doctor` and the repr."""
        return {setting.field: _shown(setting, getattr(self, setting.field)) for setting in SETTINGS}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.describe().items())
        return f"TelemetryConfig({inside})"


def _absolute(path: Path | str) -> Path:
    """Return the absolute path: a relative one would follow the working directory and strand records."""
    try:
        return Path(path).absolute()
    except OSError:  # the working directory was removed
        return Path(path)


_UNDER_BASE: Final = {
    "db_path": ("db", "telemetry.sqlite"),
    "ndjson_dir": ("raw",),
    "buffer_dir": ("buffer",),
    "capture_file": ("registry", "telemetry.json"),
    "alerts": ("alerts.toml",),
}


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """Return the settings that an environment has, a sentence for each that cannot be read, and the variables used."""
    values: dict[str, Any] = {}
    warnings: list[str] = []
    variables: dict[str, str] = {}
    for setting in SETTINGS:
        for variable in setting.variables:
            given = environ.get(variable, "").strip()
            if not given:
                continue
            try:
                values[setting.field] = setting.parse(given)
                variables[setting.field] = variable
            except ValueError as problem:
                # The value is shown to help, but a secret never, nor a password within a URL; and bounded for the log.
                shown = "its value" if setting.secret or setting.host_only else repr(_public(given)[:80])
                warnings.append(f"{variable}: {shown} cannot be used ({problem}); using {setting.default!r}")
            break
    return values, warnings, variables


def _shown(setting: Setting, value: Any) -> str:
    """Return a value as `doctor` and the repr may show it."""
    if value is None:
        return "-"
    if setting.secret:
        return "***"
    if setting.host_only:
        return urlsplit(str(value)).hostname or "***"
    return _public(str(value)) if setting.unit == "URL" else str(value)


def _public(url: str) -> str:
    """Return a value, which may be a URL, without secrets; what that takes is loaded on first use."""
    with importing():
        from otel_agent_telemetry.secret_patterns import mask_text
        from otel_agent_telemetry.urls import without_credentials

    return mask_text(without_credentials(url))


@contextmanager
def hidden_variable(name: str) -> Iterator[None]:
    """Hide a variable of this process for a moment: for an import that fails over its value.

    Other threads see the variable missing meanwhile, so the block should be one import.
    """
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def set_default(name: str, value: str) -> None:
    """Set a variable that a library reads when it is imported, unless the operator has set it."""
    # Not overwritten: a value of the operator stands, also one that we would not choose.
    os.environ.setdefault(name, value)


def default_base_dir() -> Path:
    """Return the base folder when none is configured (contract, decision 8). Creates nothing."""
    own = map(own_folder, map(Path, WELL_KNOWN_FOLDERS))
    return next(filter(None, own), None) or expanded_path("~/.telemetry")


def process_environment() -> Mapping[str, str]:
    """Return the variables of this process, for checks that look for misspelt ones.

    The mapping is `os.environ` itself: it must not be changed.
    """
    return os.environ
