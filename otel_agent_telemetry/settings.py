"""The table of settings: name, variables, type, default, unit and help of each.

The documentation's table is checked against it. A type is a function from the text of a
variable to the setting's value; it raises ValueError with the rule that the text breaks, and
never quotes the text, which may be a secret. `config` reads the variables.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import UUID

from otel_agent_telemetry.run_id import check_custom_run_id

BASE_DIR_VARIABLE: Final = "TELEMETRY_BASE_DIR"
RUN_ID_VARIABLE: Final = "TELEMETRY_RUN_ID"
EVENT_ID_VARIABLE: Final = "TELEMETRY_RUN_EVENT_ID"
_HEX: Final = frozenset("0123456789abcdef")
_RUN_IN_BAGGAGE: Final = "agent_run.id"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


class Setting(NamedTuple):
    """One row of the settings table."""

    field: str
    """Name of the setting in `TelemetryConfig`."""
    variables: tuple[str, ...]
    """Environment variables, the first that is set counts."""
    parse: Callable[[str], Any]
    """The type: returns the value of a variable's text; raises ValueError with the rule that it breaks."""
    default: Any
    unit: str
    """Unit of a number, `path` or `URL`, else ""."""
    help: str
    """One sentence for the documentation and `doctor`."""
    secret: bool = False
    """Whether the value is masked wherever it is shown."""
    host_only: bool = False
    """Whether only the host of a URL is shown: whoever knows the rest may post to it."""


def _text(value: str) -> str:
    """Return printable text. Raises ValueError for control characters and undecodable bytes."""
    if any(sign < " " or "\x7f" <= sign <= "\x9f" or "\ud800" <= sign <= "\udfff" for sign in value):
        raise ValueError("has a control character, or bytes that are not UTF-8")
    return value


def _host_platforms(value: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of `host=platform,…`, in lower case."""
    pairs = [item.strip().lower().partition("=") for item in value.split(",") if item.strip()]
    from otel_agent_telemetry.urls import PLATFORMS

    if any(not host.strip() or platform.strip() not in PLATFORMS for host, _, platform in pairs):
        raise ValueError(f"is not host=platform,… with platforms {', '.join(PLATFORMS)}")
    return tuple((host.strip(), platform.strip()) for host, _, platform in pairs)


def _names(value: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas."""
    return tuple(name.strip() for name in _text(value).split(",") if name.strip())


def _chosen(value: str) -> tuple[str, ...]:
    """Return the choices of `agent:NAME,project:NAME,…`, in lower case."""
    chosen = tuple(name.lower() for name in _names(value))
    if any(not name.startswith(("agent:", "project:")) or name.endswith(":") for name in chosen):
        raise ValueError("is not agent:NAME or project:NAME, separated by commas")
    return chosen


def expanded_path(value: str) -> Path:
    """Return a path with `~` expanded."""
    return Path(os.path.expanduser(value))  # noqa: PTH111 - a "~" that cannot be expanded stays, it does not raise


def _flag(value: str) -> bool:
    """Return a truth value; its words are accepted in any case."""
    word = value.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("is not one of true, false, 1, 0, yes, no, on, off")


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return the type of integers within bounds, both included."""

    def parse(value: str) -> int:
        number = int(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"is not from {minimum} to {maximum}")
        return number

    return parse


def _seconds(value: str) -> float:
    """Return seconds, a day at most."""
    number = float(value)
    if not 0 <= number <= 86_400:  # noqa: PLR2004 - a day
        raise ValueError("is not from 0 to 86400")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    """Return the type of these words, accepted in any case."""

    def parse(value: str) -> str:
        for word in words:
            if value.lower() == word.lower():
                return word
        raise ValueError(f"is not one of {', '.join(words)}")

    return parse


def _http_url(value: str) -> str:
    """Return an HTTP URL without a trailing slash."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the message of urlsplit may quote a password
        usable = False
    if not usable:
        raise ValueError("is not an http:// or https:// URL with a host")
    return _text(value).rstrip("/")


def _trace_url(value: str) -> str:
    """Return the template of an HTTP URL that holds `{trace_id}`."""
    if "{trace_id}" not in value:
        raise ValueError("has no {trace_id}, where the id of a trace goes")
    return _http_url(value)


def _run_in_baggage(value: str) -> str | None:
    """Return the run id of a W3C baggage header; None when it has none, or an invalid one."""
    members = (member.partition(";")[0].partition("=") for member in value.split(","))
    ids = [unquote(text.strip()) for key, _, text in members if key.strip() == _RUN_IN_BAGGAGE]
    return ids[0] if ids and check_custom_run_id(ids[0]) is None else None


def _run_id(value: str) -> str:
    """Return a run id. Raises ValueError for one that no run can have."""
    problem = check_custom_run_id(value)
    if problem is not None:
        raise ValueError(f"is not a run id: {problem}")
    return _text(value)


def _uuid(value: str) -> str:
    """Return a UUID in its usual form, in lower case."""
    return str(UUID(value))


def _trailer(value: str) -> str:
    """Return the name of a trailer of git (git-interpret-trailers(1)), or `off`."""
    if value.lower() in _FALSE:
        return "off"
    if not value.isascii() or not value.replace("-", "").isalnum():
        raise ValueError("is not a name of letters, digits and hyphens, nor `off`")
    return value


def _trace_parent(value: str) -> str | None:
    """Return a W3C `traceparent` (`00-{trace id}-{span id}-{flags}`); None for any other text."""
    parts = value.split("-")
    well_formed = [len(part) for part in parts] == [2, 32, 16, 2] and all(_HEX.issuperset(part) for part in parts)
    return value if well_formed and parts[0] == "00" and parts[1].strip("0") and parts[2].strip("0") else None


SETTINGS: Final = (
    # Where files are kept.
    Setting("base_dir", (BASE_DIR_VARIABLE, "AGENT_METRICS_DIR"), expanded_path, None, "path",
            "Where everything is kept; else the first writable of the well-known folders."),
    Setting("db_path", ("TELEMETRY_DB_PATH",), expanded_path, None, "path",
            "SQLite file; else {base}/db/telemetry.sqlite."),
    Setting("ndjson_dir", ("TELEMETRY_NDJSON_DIR",), expanded_path, None, "path", "Journal folder; else {base}/raw."),
    Setting("buffer_dir", ("TELEMETRY_BUFFER_DIR",), expanded_path, None, "path", "Buffer folder; else {base}/buffer."),
    Setting("capture_file", ("BETTY_TELEMETRY_FILE",), expanded_path, None, "path",
            "JSON file of captured entries; else {base}/registry/telemetry.json."),
    Setting("capture_max_bytes", ("TELEMETRY_CAPTURE_MAX_BYTES",), _whole(4096, 1 << 30), 64 << 20, "bytes",
            "Past this size that file gets a dated name, and a new one begins."),
    Setting("capture_lock_timeout_s", ("TELEMETRY_CAPTURE_LOCK_TIMEOUT_S",), _seconds, 2.0, "s",
            "How long an entry waits for that file's lock before it is set aside for the next capture or query."),
    # What is recorded, and how it is written.
    Setting("skip_validation", ("TELEMETRY_SKIP_VALIDATION",), _flag, False, "", "Do not check folders at start."),
    Setting("agent_owner", ("AGENT_OWNER",), _text, None, "", "`agent_owner` of runs that do not name one."),
    Setting("runs", ("TELEMETRY_RUNS",), _one_of("root", "agents", "marked"), "root", "",
            "Which spans are runs: every root, agent invocations and marked spans, or marked spans only."),
    Setting("deliver", ("TELEMETRY_DELIVER",), _one_of("all", "runs"), "all", "",
            "What goes to a service: states of runs, events and steps, or the states alone."),
    Setting("fsync", ("TELEMETRY_FSYNC",), _one_of("interval", "always", "off"), "interval", "",
            "When written lines are forced to disk: within a second, before returning, or by the system alone."),
    Setting("exit_timeout_s", ("TELEMETRY_EXIT_TIMEOUT_S",), _seconds, 2.0, "s",
            "At most this long is spent delivering at exit; the rest waits in the buffer."),
    Setting("segment_bytes", ("TELEMETRY_SEGMENT_BYTES",), _whole(4096, 1 << 30), 8 << 20, "bytes",
            "A buffer segment past this size is closed and a new one begun."),
    Setting("max_event_bytes", ("TELEMETRY_MAX_EVENT_BYTES",), _whole(256, 1 << 26), 1 << 20, "bytes",
            "Text kept of one event's payload, or of one run's attributes."),
    # How runs of several processes are connected.
    Setting("propagate_runs", ("TELEMETRY_PROPAGATE_RUNS",), _flag, True, "",
            "Send the current run's id along as baggage, wherever the application sends baggage."),
    Setting("parent_run_id", ("BAGGAGE",), _run_in_baggage, None, "",
            "The run that this process belongs to: `agent_run.id` in the baggage it was started with."),
    Setting("trace_parent", ("TRACEPARENT", "OTEL_TRACEPARENT"), _trace_parent, None, "",
            "The span that this process was started in; a client's runs without a parent continue its trace."),
    Setting("command_run_id", (RUN_ID_VARIABLE,), _run_id, None, "",
            "`run_id` of the run that this process works for, set by `agent-telemetry run` and `run_environment()`."),
    Setting("command_event_id", (EVENT_ID_VARIABLE,), _uuid, None, "",
            "`event_id` of that run, set beside it."),
    Setting("commit_trailer", ("TELEMETRY_COMMIT_TRAILER",), _trailer, "Agent-Run", "",
            "Name of the line that a commit made in a run gets at the end of its message; `off` adds none."),
    # Message content, prices and people.
    Setting("capture_content", ("TELEMETRY_CAPTURE_CONTENT",), _flag, False, "",
            "Keep attributes that hold prompts, completions, tool arguments and results."),
    Setting("capture_content_for", ("TELEMETRY_CAPTURE_CONTENT_FOR",), _chosen, (), "",
            "Keep them for some alone: `agent:NAME` and `project:NAME`, separated by commas."),
    Setting("unknown_text_max", ("TELEMETRY_UNKNOWN_TEXT_MAX",), _whole(0, 1 << 20), 64, "characters",
            "Without that, longest text that is kept under an attribute's name that no convention knows."),
    Setting("content_allow", ("TELEMETRY_CONTENT_ALLOW",), _names, (), "",
            "Names of attributes to keep all the same, separated by commas; `a.b` keeps those below it too."),
    Setting("prices", ("TELEMETRY_PRICES",), expanded_path, None, "",
            "File of prices of one's own, which count before the price list."),
    Setting("user_id", ("TELEMETRY_USER_ID",), _one_of("off", "hash", "keep"), "off", "",
            "Whether attributes that name a person give `user_id`: not, as a keyed digest, or as they are."),
    Setting("user_id_key", ("TELEMETRY_USER_ID_KEY",), _text, None, "", "Key of those digests.", secret=True),
    # Where a recording process delivers to.
    Setting("api_url", ("TELEMETRY_API_URL",), _http_url, None, "URL",
            "The service that runs are sent to; without it a local one is used when there is one, else SQLite."),
    Setting("discover_service", ("TELEMETRY_DISCOVER_SERVICE",), _flag, True, "",
            "Look for our service at the default address when no URL is given."),
    Setting("api_timeout_s", ("TELEMETRY_API_TIMEOUT_S",), _seconds, 10.0, "s",
            "Timeout of one request to the service."),
    # The service.
    Setting("api_host", ("TELEMETRY_API_HOST",), _text, "127.0.0.1", "", "Address that the service binds."),
    Setting("api_port", ("TELEMETRY_API_PORT",), _whole(1, 65_535), 8765, "", "Port that the service binds."),
    Setting("silence_s", ("TELEMETRY_SILENCE_S",), _seconds, 600.0, "s",
            "After so long without a span of a trace, spans whose root span has not arrived become a failed run."),
    Setting("otlp_grpc_port", ("TELEMETRY_OTLP_GRPC_PORT",), _whole(1, 65_535), None, "",
            "Port on which the service receives OTLP over gRPC, by convention 4317; unset, it does not."),
    Setting("page", ("TELEMETRY_PAGE",), _flag, True, "",
            "The service shows its runs to browsers, at `/`."),
    Setting("trace_url", ("TELEMETRY_TRACE_URL",), _trace_url, None, "URL",
            "Address of a trace in another tool, with `{trace_id}` where its id goes; the page of a run links to it."),
    Setting("api_workers", ("TELEMETRY_API_WORKERS",), _whole(1, 1024), 1, "", "Service processes; 1 on SQLite."),
    Setting("api_write_timeout_s", ("TELEMETRY_API_WRITE_TIMEOUT_S",), _seconds, 8.0, "s",
            "How long the service lets a write wait for its commit before it answers 503."),
    Setting("api_max_body_bytes", ("TELEMETRY_API_MAX_BODY_BYTES",), _whole(1024, 1 << 30), 64 << 20, "bytes",
            "Largest request body that the service takes, after decompression."),
    # What the service bears of a client; each is a limit that an attacker would try.
    Setting("http_max_head_bytes", ("TELEMETRY_HTTP_MAX_HEAD_BYTES",), _whole(1024, 1 << 20), 16 << 10, "bytes",
            "Largest head of a request to the service; a larger one is answered with 431."),
    Setting("http_max_fields", ("TELEMETRY_HTTP_MAX_FIELDS",), _whole(10, 10_000), 100, "",
            "Most header fields of a request to the service."),
    Setting("http_head_timeout_s", ("TELEMETRY_HTTP_HEAD_TIMEOUT_S",), _seconds, 10.0, "s",
            "How long the head of a request may take to arrive."),
    Setting("http_min_body_rate", ("TELEMETRY_HTTP_MIN_BODY_RATE",), _whole(0, 1 << 30), 1024, "bytes/s",
            "Slowest body, over 10 s; a slower one is answered with 408."),
    Setting("http_idle_timeout_s", ("TELEMETRY_HTTP_IDLE_TIMEOUT_S",), _seconds, 60.0, "s",
            "How long a connection may wait for its next request; longer than a load balancer in front keeps it."),
    Setting("http_write_timeout_s", ("TELEMETRY_HTTP_WRITE_TIMEOUT_S",), _seconds, 30.0, "s",
            "How long a client may take none of a response before its connection is cut."),
    Setting("http_max_connections", ("TELEMETRY_HTTP_MAX_CONNECTIONS",), _whole(1, 100_000), 64, "",
            "Connections, and requests at the same time, of one client address; trusted proxies open any number."),
    Setting("trusted_proxies", ("TELEMETRY_TRUSTED_PROXIES",), _text, None, "",
            "Addresses of proxies whose X-Forwarded-For the service believes, separated by commas."),
    # Who may use the service, and how its traffic is protected.
    Setting("api_auth_enabled", ("TELEMETRY_API_AUTH_ENABLED",), _flag, None, "",
            "The service asks for a token; unset, it does when it has one, and serves this machine alone without."),
    Setting("api_auth_token", ("TELEMETRY_API_AUTH_TOKEN",), _text, None, "",
            "Bearer token of the service; sent to it and to no other host.", secret=True),
    Setting("api_tokens_file", ("TELEMETRY_API_TOKENS_FILE",), expanded_path, None, "path",
            "TOML file of further tokens and what each may do; read again when it changes."),
    Setting("tls_certificate", ("TELEMETRY_TLS_CERTIFICATE",), expanded_path, None, "path",
            "Certificate chain (PEM) that the service shows; with it it serves HTTPS. Read again on SIGHUP."),
    Setting("tls_key", ("TELEMETRY_TLS_KEY",), expanded_path, None, "path", "Private key (PEM) of that certificate."),
    Setting("ca_file", ("TELEMETRY_CA_FILE",), expanded_path, None, "path",
            "Certificate authorities (PEM) that the service's certificate is checked against; else the system's."),
    Setting("rate_limit_enabled", ("TELEMETRY_RATE_LIMIT_ENABLED",), _flag, False, "", "The service limits rates."),
    Setting("rate_limit_rpm", ("TELEMETRY_RATE_LIMIT_RPM",), _whole(1, 1_000_000), 60, "1/min",
            "Requests a minute for each client address (IPv6: network of 64 bits)."),
    # Logging of the command and of the service.
    Setting("log_level", ("TELEMETRY_LOG_LEVEL",), _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            "WARNING", "", "Level of the `otel_agent_telemetry` logger in the command and the service."),
    # The database.
    Setting("database_url", ("TELEMETRY_DATABASE_URL",), _text, None, "URL",
            "Any SQLAlchemy URL instead of the SQLite file.", secret=True),
    Setting("db_journal_mode", ("TELEMETRY_DB_JOURNAL_MODE",), _one_of("DELETE", "WAL", "TRUNCATE", "PERSIST"),
            "DELETE", "", "SQLite journal mode."),
    Setting("db_synchronous", ("TELEMETRY_DB_SYNCHRONOUS",), _one_of("FULL", "NORMAL", "EXTRA", "OFF"), "FULL", "",
            "SQLite synchronous level."),
    Setting("db_busy_timeout_ms", ("TELEMETRY_DB_BUSY_TIMEOUT_MS",), _whole(0, 3_600_000), 30_000, "ms",
            "How long a write waits for a locked database."),
    Setting("db_max_retries", ("TELEMETRY_DB_MAX_RETRIES",), _whole(0, 1000), 3, "",
            "Attempts after a database error that may pass."),
    Setting("db_retry_base_delay_s", ("TELEMETRY_DB_RETRY_BASE_DELAY_SECONDS",), _seconds, 0.1, "s",
            "First wait between those attempts; doubled each time."),
    Setting("retention_days", ("TELEMETRY_RETENTION_DAYS",), _whole(1, 36_500), 30, "days", "What `retention` keeps."),
    Setting("retention_parts_days", ("TELEMETRY_RETENTION_PARTS_DAYS",), _whole(1, 36_500), None, "days",
            "What `retention` keeps of events and steps; else they go with their run."),
    Setting("journal_max_bytes", ("TELEMETRY_JOURNAL_MAX_BYTES",), _whole(1, 1 << 60), None, "bytes",
            "Past this size `retention --journal` deletes the oldest days too, however young."),
    Setting("rejected_max_bytes", ("TELEMETRY_REJECTED_MAX_BYTES",), _whole(1, 1 << 60), 64 << 20, "bytes",
            "Past this size `retention --rejected` deletes the oldest files of refused records too."),
    # Webhooks, alerts, and links to commits.
    Setting("sheets_enabled", ("GOOGLE_SHEETS_API_ENABLED", "METRICS_API_ENABLED"), _flag, False, "",
            "Post each ended run to a webhook."),
    Setting("sheets_url", ("GOOGLE_SHEETS_API_URL", "METRICS_API_URL"), _http_url, None, "URL",
            "That webhook; only its host is shown.", host_only=True),
    Setting("sheets_token", ("METRICS_API_TOKEN",), _text, None, "", "Its bearer token.", secret=True),
    Setting("sheets_auth_required", ("METRICS_API_AUTH_REQUIRED",), _flag, False, "",
            "Do not post without a token."),
    Setting("alerts", ("TELEMETRY_ALERTS",), expanded_path, None, "path",
            "TOML file of the rules of budgets and alerts, read again when it changes; else {base}/alerts.toml."),
    Setting("alerts_url", ("TELEMETRY_ALERTS_URL",), _http_url, None, "URL",
            "Webhook that gets a notice when an alert opens and when it is resolved; only its host is shown.",
            host_only=True),
    Setting("alerts_token", ("TELEMETRY_ALERTS_TOKEN",), _text, None, "", "Its bearer token.", secret=True),
    Setting("git_hosts", ("TELEMETRY_GIT_HOSTS",), _host_platforms, (), "",
            "Self-hosted git platforms, `git.example.com=gitlab,code.example.org=github`, for commit links."),
    # The path over OTLP, and variables that others define: OpenTelemetry's and the usual ones of proxies.
    Setting("otlp_enabled", ("TELEMETRY_OTLP_ENABLED",), _flag, False, "",
            "Our own tracer provider also exports over OTLP, configured by OTEL_EXPORTER_OTLP_*."),
    Setting("otlp_endpoint", ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"), _text, None,
            "URL", "OpenTelemetry's own variable: set, it turns that path on."),
    Setting("otlp_protocol", ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
            _one_of("http/protobuf", "grpc", "http/json"), "http/protobuf", "", "OpenTelemetry's own variable."),
    Setting("http_proxy", ("http_proxy", "HTTP_PROXY"), _text, None, "URL",
            "HTTP proxy for requests to http:// addresses; loopback is always reached without."),
    Setting("https_proxy", ("https_proxy", "HTTPS_PROXY"), _text, None, "URL",
            "HTTP proxy for requests to https:// addresses, by CONNECT; SOCKS is not supported."),
    Setting("all_proxy", ("all_proxy", "ALL_PROXY"), _text, None, "URL", "The proxy where neither of these is set."),
    Setting("no_proxy", ("no_proxy", "NO_PROXY"), _text, None, "",
            "Hosts that are reached without a proxy, separated by commas; `*` for all."),
    Setting("sdk_disabled", ("OTEL_SDK_DISABLED",), lambda value: value.lower() == "true", False, "",
            "OpenTelemetry's own switch: true records nothing."),
)  # fmt: skip
