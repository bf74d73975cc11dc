"""The settings: one table, read from the environment once; nothing else reads it.

`SETTINGS` is the reference that the documentation is checked against. A value that cannot
be read is a warning and the default (contract, "Environment"); `TelemetryConfig.warnings`
keeps those sentences for `validate()` and `doctor`. Nothing here touches a disk but
`default_base_dir`, which looks whether a folder exists.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote_plus, urlsplit

from otel_agent_telemetry.run_id import check_custom_run_id

DEFAULT_API_URL: Final = "http://localhost:8765"
_RUN_IN_BAGGAGE: Final = "agent_run.id"
_BASE_DIR: Final = "TELEMETRY_BASE_DIR"
WELL_KNOWN_FOLDERS: Final = (
    *(("D:/agent-metrics", "C:/agent-metrics") if sys.platform == "win32" else ()),
    *("/agent-metrics", "/opt/telemetry", "/data/telemetry"),
)
"""Looked for in this order when no base folder is configured (contract, decision 8)."""
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Setting(NamedTuple):
    """One row of the settings table."""

    field: str
    variables: tuple[str, ...]
    parse: Callable[[str], Any]
    default: Any
    unit: str
    help: str
    secret: bool = False


def _text(value: str) -> str:
    if any(sign < " " or "\x7f" <= sign <= "\x9f" or "\ud800" <= sign <= "\udfff" for sign in value):
        raise ValueError("has a control character, or bytes that are not UTF-8")
    return value


def _host_platforms(value: str) -> tuple[tuple[str, str], ...]:
    pairs = [item.strip().lower().partition("=") for item in value.split(",") if item.strip()]
    from otel_agent_telemetry.urls import PLATFORMS

    if any(not host.strip() or platform.strip() not in PLATFORMS for host, _, platform in pairs):
        raise ValueError(f"is not host=platform,… with platforms {', '.join(PLATFORMS)}")
    return tuple((host.strip(), platform.strip()) for host, _, platform in pairs)


def _path(value: str) -> Path:
    return Path(os.path.expanduser(value))  # noqa: PTH111 - a "~" that cannot be expanded stays, it does not raise


def _flag(value: str) -> bool:
    word = value.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("is not one of true, false, 1, 0, yes, no, on, off")


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"is not from {minimum} to {maximum}")
        return number

    return parse


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 86_400:  # noqa: PLR2004 - a day
        raise ValueError("is not from 0 to 86400")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        for word in words:
            if value.lower() == word.lower():
                return word
        raise ValueError(f"is not one of {', '.join(words)}")

    return parse


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may quote a password
        usable = False
    if not usable:
        raise ValueError("is not an http:// or https:// URL with a host")
    return _text(value).rstrip("/")


def _run_in_baggage(value: str) -> str | None:
    """`agent.run.id` of a W3C baggage header; None when it names none that can be one."""
    members = (member.partition(";")[0].partition("=") for member in value.split(","))
    told = [unquote_plus(text.strip()) for key, _, text in members if key.strip() == _RUN_IN_BAGGAGE]
    return told[0] if told and check_custom_run_id(told[0]) is None else None


SETTINGS: Final = (
    Setting("base_dir", (_BASE_DIR, "AGENT_METRICS_DIR"), _path, None, "path",
            "Where everything is kept; else the first writable of the well-known folders."),
    Setting("db_path", ("TELEMETRY_DB_PATH",), _path, None, "path", "SQLite file; else {base}/db/telemetry.sqlite."),
    Setting("ndjson_dir", ("TELEMETRY_NDJSON_DIR",), _path, None, "path", "Journal folder; else {base}/raw."),
    Setting("buffer_dir", ("TELEMETRY_BUFFER_DIR",), _path, None, "path", "Buffer folder; else {base}/buffer."),
    Setting("capture_file", ("BETTY_TELEMETRY_FILE",), _path, None, "path",
            "JSON file of captured entries; else {base}/registry/telemetry.json."),
    Setting("capture_max_bytes", ("TELEMETRY_CAPTURE_MAX_BYTES",), _whole(4096, 1 << 30), 64 << 20, "bytes",
            "Past this size that file gets a dated name, and a new one begins."),
    Setting("capture_lock_timeout_s", ("TELEMETRY_CAPTURE_LOCK_TIMEOUT_S",), _seconds, 2.0, "s",
            "How long an entry waits for that file's lock before it is set aside for the next capture or query."),
    Setting("skip_validation", ("TELEMETRY_SKIP_VALIDATION",), _flag, False, "", "Do not check folders at start."),
    Setting("agent_owner", ("AGENT_OWNER",), _text, None, "", "`agent_owner` of runs that do not name one."),
    Setting("runs", ("TELEMETRY_RUNS",), _one_of("root", "agents", "marked"), "root", "",
            "Which spans are runs: every root, agent invocations and marked spans, or marked spans only."),
    Setting("fsync", ("TELEMETRY_FSYNC",), _one_of("interval", "always", "off"), "interval", "",
            "When written lines are forced to disk: within a second, before returning, or by the system alone."),
    Setting("exit_timeout_s", ("TELEMETRY_EXIT_TIMEOUT_S",), _seconds, 2.0, "s",
            "At most this long is spent delivering at exit; the rest waits in the buffer."),
    Setting("segment_bytes", ("TELEMETRY_SEGMENT_BYTES",), _whole(4096, 1 << 30), 8 << 20, "bytes",
            "A buffer segment past this size is closed and a new one begun."),
    Setting("max_event_bytes", ("TELEMETRY_MAX_EVENT_BYTES",), _whole(256, 1 << 26), 1 << 20, "bytes",
            "Text kept of one event's payload, or of one run's attributes."),
    Setting("propagate_runs", ("TELEMETRY_PROPAGATE_RUNS",), _flag, True, "",
            "Send the current run's id along as baggage, wherever the application sends baggage."),
    Setting("parent_run_id", ("BAGGAGE",), _run_in_baggage, None, "",
            "The run that this process belongs to: `agent_run.id` in the baggage it was started with."),
    Setting("capture_content", ("TELEMETRY_CAPTURE_CONTENT",), _flag, False, "",
            "Keep attributes that hold prompts, completions, tool arguments and results."),
    Setting("api_url", ("TELEMETRY_API_URL",), _http_url, None, "URL",
            "The service that runs are sent to; without it a local one is used when there is one, else SQLite."),
    Setting("discover_service", ("TELEMETRY_DISCOVER_SERVICE",), _flag, True, "",
            "Look for our service at the default address when no URL is given."),
    Setting("api_timeout_s", ("TELEMETRY_API_TIMEOUT_S",), _seconds, 10.0, "s", "Patience with one request."),
    Setting("api_host", ("TELEMETRY_API_HOST",), _text, "127.0.0.1", "", "Address that the service binds."),
    Setting("api_port", ("TELEMETRY_API_PORT",), _whole(1, 65_535), 8765, "", "Port that the service binds."),
    Setting("otlp_grpc_port", ("TELEMETRY_OTLP_GRPC_PORT",), _whole(1, 65_535), None, "",
            "Port on which the service receives OTLP over gRPC, by convention 4317; unset, it does not."),
    Setting("api_workers", ("TELEMETRY_API_WORKERS",), _whole(1, 1024), 1, "", "Service processes; 1 on SQLite."),
    Setting("api_write_timeout_s", ("TELEMETRY_API_WRITE_TIMEOUT_S",), _seconds, 8.0, "s",
            "How long the service lets a write wait for its commit before it answers 503."),
    Setting("api_max_body_bytes", ("TELEMETRY_API_MAX_BODY_BYTES",), _whole(1024, 1 << 30), 64 << 20, "bytes",
            "Largest request body that the service takes, after decompression."),
    Setting("trusted_proxies", ("TELEMETRY_TRUSTED_PROXIES",), _text, None, "",
            "Addresses of proxies whose X-Forwarded-For the service believes, separated by commas."),
    Setting("api_auth_enabled", ("TELEMETRY_API_AUTH_ENABLED",), _flag, False, "", "The service asks for the token."),
    Setting("api_auth_token", ("TELEMETRY_API_AUTH_TOKEN",), _text, None, "",
            "Bearer token of the service; sent to it and to no other host.", secret=True),
    Setting("rate_limit_enabled", ("TELEMETRY_RATE_LIMIT_ENABLED",), _flag, False, "", "The service limits rates."),
    Setting("rate_limit_rpm", ("TELEMETRY_RATE_LIMIT_RPM",), _whole(1, 1_000_000), 60, "1/min",
            "Requests a minute for each client address."),
    Setting("log_level", ("TELEMETRY_LOG_LEVEL",), _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            "WARNING", "", "Level of the `otel_agent_telemetry` logger in the command and the service."),
    Setting("database_url", ("TELEMETRY_DATABASE_URL",), _text, None, "URL",
            "Any SQLAlchemy URL instead of the SQLite file.", secret=True),
    Setting("db_journal_mode", ("TELEMETRY_DB_JOURNAL_MODE",), _one_of("DELETE", "WAL", "TRUNCATE", "PERSIST"),
            "DELETE", "", "SQLite journal mode."),
    Setting("db_synchronous", ("TELEMETRY_DB_SYNCHRONOUS",), _one_of("FULL", "NORMAL", "EXTRA", "OFF"), "FULL", "",
            "SQLite synchronous level."),
    Setting("db_busy_timeout_ms", ("TELEMETRY_DB_BUSY_TIMEOUT_MS",), _whole(0, 3_600_000), 30_000, "ms",
            "How long a locked database is waited for."),
    Setting("db_max_retries", ("TELEMETRY_DB_MAX_RETRIES",), _whole(0, 1000), 3, "",
            "Attempts after a database error that may pass."),
    Setting("db_retry_base_delay_s", ("TELEMETRY_DB_RETRY_BASE_DELAY_SECONDS",), _seconds, 0.1, "s",
            "First wait between those attempts; doubled each time."),
    Setting("retention_days", ("TELEMETRY_RETENTION_DAYS",), _whole(1, 36_500), 30, "days", "What `retention` keeps."),
    Setting("sheets_enabled", ("GOOGLE_SHEETS_API_ENABLED", "METRICS_API_ENABLED"), _flag, False, "",
            "Post each ended run to a webhook."),
    Setting("sheets_url", ("GOOGLE_SHEETS_API_URL", "METRICS_API_URL"), _http_url, None, "URL", "That webhook."),
    Setting("sheets_token", ("METRICS_API_TOKEN",), _text, None, "", "Its bearer token.", secret=True),
    Setting("sheets_auth_required", ("METRICS_API_AUTH_REQUIRED",), _flag, False, "",
            "Do not post without a token."),
    Setting("git_hosts", ("TELEMETRY_GIT_HOSTS",), _host_platforms, (), "",
            "Self-hosted git platforms, `git.example.com=gitlab,code.example.org=github`, for commit links."),
    Setting("otlp_enabled", ("TELEMETRY_OTLP_ENABLED",), _flag, False, "",
            "Our own tracer provider also exports over OTLP, as OTEL_EXPORTER_OTLP_* say."),
    Setting("otlp_endpoint", ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"), _text, None,
            "URL", "OpenTelemetry's own variable: set, it turns that path on."),
    Setting("otlp_protocol", ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
            _one_of("http/protobuf", "grpc", "http/json"), "http/protobuf", "", "OpenTelemetry's own variable."),
    Setting("sdk_disabled", ("OTEL_SDK_DISABLED",), lambda value: value.lower() == "true", False, "",
            "OpenTelemetry's own switch: true records nothing."),
)  # fmt: skip
_BY_FIELD: Final = {setting.field: setting for setting in SETTINGS}


@dataclass(frozen=True)
class TelemetryConfig:
    """Every setting of a process. Build one with `from_env`, or by name for what differs.

    Paths left None follow `base_dir`. Two equal configurations share one recorder.
    The repr names every setting and masks the secret ones.
    """

    base_dir: Path = field(default_factory=lambda: default_base_dir())  # noqa: PLW0108 - defined below
    db_path: Path = None  # type: ignore[assignment]  # filled from base_dir
    ndjson_dir: Path = None  # type: ignore[assignment]  # filled from base_dir
    buffer_dir: Path = None  # type: ignore[assignment]  # filled from base_dir
    capture_file: Path = None  # type: ignore[assignment]  # filled from base_dir
    capture_max_bytes: int = 64 << 20
    capture_lock_timeout_s: float = 2.0
    skip_validation: bool = False
    agent_owner: str | None = None
    runs: str = "root"
    fsync: str = "interval"
    exit_timeout_s: float = 2.0
    segment_bytes: int = 8 << 20
    max_event_bytes: int = 1 << 20
    propagate_runs: bool = True
    parent_run_id: str | None = None
    capture_content: bool = False
    api_url: str | None = None
    api_timeout_s: float = 10.0
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    otlp_grpc_port: int | None = None
    api_workers: int = 1
    api_write_timeout_s: float = 8.0
    api_max_body_bytes: int = 64 << 20
    trusted_proxies: str | None = None
    api_auth_enabled: bool = False
    api_auth_token: str | None = None
    rate_limit_enabled: bool = False
    rate_limit_rpm: int = 60
    log_level: str = "WARNING"
    database_url: str | None = None
    db_journal_mode: str = "DELETE"
    db_synchronous: str = "FULL"
    db_busy_timeout_ms: int = 30_000
    db_max_retries: int = 3
    db_retry_base_delay_s: float = 0.1
    retention_days: int = 30
    sheets_enabled: bool = False
    sheets_url: str | None = None
    sheets_token: str | None = None
    sheets_auth_required: bool = False
    git_hosts: tuple[tuple[str, str], ...] = ()
    otlp_enabled: bool = False
    otlp_endpoint: str | None = None
    otlp_protocol: str = "http/protobuf"
    sdk_disabled: bool = False
    discover_service: bool = True
    """Whether a service at the default address is looked for when no URL is given."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """One sentence for each variable whose value could not be read."""

    def __post_init__(self) -> None:
        base = _absolute(self.base_dir)
        object.__setattr__(self, "base_dir", base)
        for name, parts in _UNDER_BASE.items():
            given = getattr(self, name)
            object.__setattr__(self, name, _absolute(given) if given is not None else base.joinpath(*parts))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> TelemetryConfig:
        """The configuration that the environment asks for. Never raises; logs what it could not read."""
        values, warnings = _read(os.environ if environ is None else environ)
        for warning in warnings:
            _log.warning("%s", warning)
        return cls(**values, warnings=tuple(warnings))

    def with_(self, **changes: Any) -> TelemetryConfig:
        """A copy with some settings changed; paths given stay, others follow a new `base_dir`."""
        if "base_dir" in changes:
            followers = (
                name for name, parts in _UNDER_BASE.items() if getattr(self, name) == self.base_dir.joinpath(*parts)
            )
            changes = {**dict.fromkeys(followers), **changes}
        return replace(self, **changes)

    def hand_down(self) -> None:
        """Give the base directory to processes that this one will start: they read their own environment."""
        os.environ[_BASE_DIR] = str(self.base_dir)

    @property
    def backups_dir(self) -> Path:
        """`{base}/backups`."""
        return self.base_dir / "backups"

    def validate(self) -> tuple[bool, list[str]]:
        """`(ok, messages)`: whether runs can be kept, and all that is odd (seed 001).

        Looks at folders on disk unless `skip_validation`. Never raises.
        """
        messages = list(self.warnings)
        fatal = [] if self.skip_validation else self._folder_problems()
        if self.sheets_enabled and not self.sheets_url:
            messages.append("GOOGLE_SHEETS_API_ENABLED is true but GOOGLE_SHEETS_API_URL is not set: nothing is posted")
        if self.sheets_enabled and self.sheets_auth_required and not self.sheets_token:
            messages.append("METRICS_API_AUTH_REQUIRED is true but METRICS_API_TOKEN is not set: nothing is posted")
        if self.api_auth_enabled and not self.api_auth_token:
            messages.append("TELEMETRY_API_AUTH_ENABLED is true but TELEMETRY_API_AUTH_TOKEN is not set")
        if self.api_workers > 1 and self.database_url is None:
            messages.append("TELEMETRY_API_WORKERS must be 1 on SQLite: one process writes it")
        return not fatal, [*fatal, *messages]

    def _folder_problems(self) -> list[str]:
        folders = {"TELEMETRY_NDJSON_DIR": self.ndjson_dir, "TELEMETRY_BUFFER_DIR": self.buffer_dir}
        return [
            f"{variable}: {folder}: {problem}"
            for variable, folder in folders.items()
            if (problem := folder_problem(folder))
        ]

    def describe(self) -> dict[str, str]:
        """Every setting as printable text, secrets masked; for `doctor` and the repr."""
        return {setting.field: _shown(setting, getattr(self, setting.field)) for setting in SETTINGS}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.describe().items())
        return f"TelemetryConfig({inside})"


def _absolute(path: Path | str) -> Path:
    """The path as it is meant now: one that moved with the working directory would strand records."""
    try:
        return Path(path).absolute()
    except OSError:  # the working directory is gone
        return Path(path)


_UNDER_BASE: Final = {
    "db_path": ("db", "telemetry.sqlite"),
    "ndjson_dir": ("raw",),
    "buffer_dir": ("buffer",),
    "capture_file": ("registry", "telemetry.json"),
}


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for setting in SETTINGS:
        for variable in setting.variables:
            given = environ.get(variable, "").strip()
            if not given:
                continue
            try:
                values[setting.field] = setting.parse(given)
            except ValueError as problem:
                shown = "its value" if setting.secret else repr(_public(given)[:80])
                warnings.append(f"{variable}: {shown} cannot be used ({problem}); using {setting.default!r}")
            break
    return values, warnings


def _shown(setting: Setting, value: Any) -> str:
    if value is None:
        return "-"
    if setting.secret:
        return "***"
    return _public(str(value)) if setting.unit == "URL" else str(value)


def _public(url: str) -> str:
    """A URL as it may be shown; the builder is loaded when something is shown."""
    from otel_agent_telemetry.urls import without_credentials

    return without_credentials(url)


def default_base_dir() -> Path:
    """The base folder when none is configured (contract, decision 8). Creates nothing."""
    home = _path("~/.telemetry")
    for folder in (*map(Path, WELL_KNOWN_FOLDERS), home):
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112 - never raises
            return folder
    return home


def folder_problem(folder: Path) -> str:
    """Why nothing can be written into a folder that exists or can be made; "" when it can."""
    at = folder
    while not os.path.lexists(at) and at != at.parent:  # Path.exists raises where it may not look
        at = at.parent
    if not os.path.isdir(at):  # noqa: PTH112 - the same
        return f"{at} is not a folder"
    if not os.access(at, os.W_OK | os.X_OK):
        return f"{at} cannot be written"
    return ""
