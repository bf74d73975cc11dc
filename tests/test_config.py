"""Settings: every variable is read, nothing breaks on a bad one, no secret is shown."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry import config as config_module
from otel_agent_telemetry.base_folder import folder_problem
from otel_agent_telemetry.config import TelemetryConfig, default_base_dir
from otel_agent_telemetry.settings import SETTINGS, Setting

GOOD = {
    "base_dir": ("/srv/base", Path("/srv/base")),
    "db_path": ("/srv/x.sqlite", Path("/srv/x.sqlite")),
    "ndjson_dir": ("/srv/raw", Path("/srv/raw")),
    "buffer_dir": ("/srv/buffer", Path("/srv/buffer")),
    "capture_file": ("/srv/telemetry.json", Path("/srv/telemetry.json")),
    "skip_validation": ("TRUE", True),
    "agent_owner": (" team ", "team"),
    "runs": ("Agents", "agents"),
    "deliver": ("RUNS", "runs"),
    "fsync": ("ALWAYS", "always"),
    "exit_timeout_s": ("0.5", 0.5),
    "segment_bytes": ("4096", 4096),
    "capture_max_bytes": ("4096", 4096),
    "capture_lock_timeout_s": ("0.25", 0.25),
    "max_event_bytes": ("256", 256),
    "capture_content": ("true", True),
    "capture_content_for": ("Agent:Planner, project:website", ("agent:planner", "project:website")),
    "unknown_text_max": ("0", 0),
    "content_allow": (" db.query.text, gen_ai.tool.*,", ("db.query.text", "gen_ai.tool.*")),
    "prices": ("/etc/prices.json", Path("/etc/prices.json")),
    "user_id": ("Hash", "hash"),
    "user_id_key": ("k", "k"),
    "discover_service": ("false", False),
    "otlp_protocol": ("grpc", "grpc"),
    "api_url": ("https://h:8765/base/", "https://h:8765/base"),
    "api_timeout_s": ("3", 3.0),
    "api_host": ("0.0.0.0", "0.0.0.0"),
    "api_port": ("9000", 9000),
    "otlp_grpc_port": ("4317", 4317),
    "propagate_runs": ("off", False),
    "parent_run_id": ("a=1,agent_run.id=the%20run;p=q, b=2", "the run"),
    "trace_parent": (f"00-{1:032x}-{2:016x}-01", f"00-{1:032x}-{2:016x}-01"),
    "commit_trailer": ("Made-In", "Made-In"),
    "command_run_id": ("20260101T000000Z-make-a1b2c3d4", "20260101T000000Z-make-a1b2c3d4"),
    "command_event_id": ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "api_workers": ("2", 2),
    "api_write_timeout_s": ("3.5", 3.5),
    "silence_s": ("90", 90.0),
    "page": ("false", False),
    "trace_url": ("https://jaeger.example/trace/{trace_id}", "https://jaeger.example/trace/{trace_id}"),
    "api_max_body_bytes": ("4096", 4096),
    "http_max_head_bytes": ("2048", 2048),
    "http_max_fields": ("20", 20),
    "http_head_timeout_s": ("1.5", 1.5),
    "http_min_body_rate": ("0", 0),
    "http_idle_timeout_s": ("75", 75.0),
    "http_write_timeout_s": ("5", 5.0),
    "http_max_connections": ("1000", 1000),
    "api_tokens_file": ("/etc/tokens.toml", Path("/etc/tokens.toml")),
    "tls_certificate": ("/etc/cert.pem", Path("/etc/cert.pem")),
    "tls_key": ("/etc/key.pem", Path("/etc/key.pem")),
    "ca_file": ("/etc/ca.pem", Path("/etc/ca.pem")),
    "trusted_proxies": ("10.0.0.1,10.0.0.2", "10.0.0.1,10.0.0.2"),
    "api_auth_enabled": ("yes", True),
    "api_auth_token": ("hunter2", "hunter2"),
    "rate_limit_enabled": ("on", True),
    "rate_limit_rpm": ("120", 120),
    "log_level": ("debug", "DEBUG"),
    "database_url": ("postgresql://u:hunter2@h/db", "postgresql://u:hunter2@h/db"),
    "db_journal_mode": ("wal", "WAL"),
    "db_synchronous": ("normal", "NORMAL"),
    "db_busy_timeout_ms": ("5", 5),
    "db_max_retries": ("0", 0),
    "db_retry_base_delay_s": ("1.5", 1.5),
    "retention_days": ("7", 7),
    "retention_parts_days": ("7", 7),
    "journal_max_bytes": ("1000", 1000),
    "rejected_max_bytes": ("1000", 1000),
    "sheets_enabled": ("1", True),
    "sheets_url": ("https://hook.example.com/x", "https://hook.example.com/x"),
    "alerts": ("/srv/alerts.toml", Path("/srv/alerts.toml")),
    "alerts_url": ("https://alerts.example.com/x", "https://alerts.example.com/x"),
    "alerts_token": ("hunter3", "hunter3"),
    "sheets_token": ("hunter3", "hunter3"),
    "sheets_auth_required": ("true", True),
    "git_hosts": (
        "Git.Example.com=GitLab, code.example.org:8443=github,",
        (("git.example.com", "gitlab"), ("code.example.org:8443", "github")),
    ),
    "otlp_enabled": ("true", True),
    "otlp_endpoint": ("http://collector:4318", "http://collector:4318"),
    "http_proxy": ("http://proxy:3128", "http://proxy:3128"),
    "https_proxy": ("http://proxy:3128", "http://proxy:3128"),
    "all_proxy": ("socks5://proxy:1080", "socks5://proxy:1080"),
    "no_proxy": ("[::1], .example.com", "[::1], .example.com"),
    "sdk_disabled": ("TRUE", True),
}
"""Field → a text that a variable may hold, and what it means."""

BAD = {
    "command_run_id": "a/b",
    "commit_trailer": "a: b",
    "command_event_id": "7",
    "capture_content": "some",
    "capture_content_for": "planner",
    "unknown_text_max": "-1",
    "discover_service": "perhaps",
    "otlp_protocol": "carrier pigeon",
    "skip_validation": "maybe",
    "runs": "some",
    "deliver": "some",
    "fsync": "sometimes",
    "exit_timeout_s": "-1",
    "segment_bytes": "1",
    "capture_max_bytes": "1",
    "capture_lock_timeout_s": "for ever",
    "max_event_bytes": "many",
    "api_url": "ftp://host",
    "api_timeout_s": "nan",
    "api_port": "65536",
    "otlp_grpc_port": "0",
    "api_workers": "0",
    "api_write_timeout_s": "soon",
    "silence_s": "soon",
    "page": "perhaps",
    "trace_url": "https://jaeger.example/trace/",
    "api_max_body_bytes": "1",
    "http_max_head_bytes": "1",
    "http_max_fields": "1",
    "http_head_timeout_s": "-1",
    "http_min_body_rate": "-1",
    "http_idle_timeout_s": "never",
    "http_write_timeout_s": "nan",
    "http_max_connections": "0",
    "api_auth_enabled": "2",
    "rate_limit_enabled": "-",
    "rate_limit_rpm": "0",
    "log_level": "LOUD",
    "db_journal_mode": "MEMORY!",
    "db_synchronous": "MAYBE",
    "db_busy_timeout_ms": "1.5",
    "db_max_retries": "-1",
    "db_retry_base_delay_s": "inf",
    "retention_days": "0",
    "retention_parts_days": "0",
    "journal_max_bytes": "0",
    "rejected_max_bytes": "-1",
    "sheets_enabled": "si",
    "sheets_url": "hook.example.com",
    "alerts_url": "alerts.example.com",
    "sheets_auth_required": "?",
    "git_hosts": "git.example.com=gitea",
    "otlp_enabled": "x",
}
VARIABLES = [(setting, variable) for setting in SETTINGS for variable in setting.variables]


def _name(value: object) -> str:
    return value.field if isinstance(value, Setting) else str(value)


def test_the_table_and_the_fields_tell_the_same() -> None:
    """Each setting is a field with the same default, and has a help text; no variable stands twice."""
    defaults = {name: getattr(TelemetryConfig, name) for name in TelemetryConfig.__annotations__}
    assert {setting.field for setting in SETTINGS} == set(defaults) - {"warnings", "variables"}
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        if setting.field != "base_dir":
            assert defaults[setting.field] == setting.default
    names = [variable for _, variable in VARIABLES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("setting", "variable"), VARIABLES, ids=_name)
def test_every_variable_is_read(setting: Setting, variable: str) -> None:
    """A good text in any of a setting's variables, older names included, sets its field alone."""
    text, value = GOOD[setting.field]
    config = TelemetryConfig.from_env({variable: text, "TELEMETRY_BASE_DIR": "/srv/base"} | {variable: text})
    assert getattr(config, setting.field) == value
    assert config.warnings == ()
    untouched = TelemetryConfig(base_dir=Path("/srv/base"))
    changed = {name for name in config.describe() if config.describe()[name] != untouched.describe()[name]}
    assert changed <= {setting.field}


@pytest.mark.parametrize("field", BAD)
def test_a_text_that_cannot_be_read_is_a_warning_and_the_default(field: str, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the variable and is logged and kept; nothing is raised."""
    setting = next(setting for setting in SETTINGS if setting.field == field)
    with caplog.at_level(logging.WARNING, logger="otel_agent_telemetry"):
        config = TelemetryConfig.from_env({setting.variables[0]: BAD[field]})
    assert getattr(config, field) == setting.default
    assert len(config.warnings) == 1
    assert config.warnings[0].startswith(f"{setting.variables[0]}: ")
    assert [record.getMessage() for record in caplog.records] == list(config.warnings)
    assert config.warnings[0] in config.validate()[1]


@given(st.fixed_dictionaries({}, optional={variable: st.text(max_size=30) for _, variable in VARIABLES}))
def test_no_environment_raises(environ: dict[str, str]) -> None:
    """Whatever the variables hold, there is a configuration that describes and validates itself."""
    config = TelemetryConfig.from_env(environ)
    ok, messages = config.validate()
    assert isinstance(ok, bool)
    assert all(isinstance(message, str) for message in messages)
    assert str(config)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_variable_is_not_given(blank: str) -> None:
    """Blank means unset: the default without a warning, and an older name still counts."""
    config = TelemetryConfig.from_env({"TELEMETRY_API_PORT": blank, "GOOGLE_SHEETS_API_URL": blank})
    assert (config.api_port, config.sheets_url, config.warnings) == (8765, None, ())
    older = {"TELEMETRY_BASE_DIR": blank, "AGENT_METRICS_DIR": "/srv/older"}
    assert TelemetryConfig.from_env(older).base_dir == Path("/srv/older")


@pytest.mark.parametrize("sign", ["\n", "\r\nX-Other: 1", "\t", "\x00", "\x1b", "\x7f", "\x85", "\udcff"])
@pytest.mark.parametrize(("setting", "variable"), [row for row in VARIABLES if row[0].secret], ids=_name)
def test_a_secret_that_no_header_can_carry_is_a_warning_without_it(setting: Setting, variable: str, sign: str) -> None:
    """A line break, a byte that is not UTF-8: the default is used, and no part of the value is told."""
    config = TelemetryConfig.from_env({variable: f"hunter2{sign}hunter3"})
    assert ascii(getattr(config, setting.field)) == "None"
    (warning,) = config.warnings
    assert warning.startswith(f"{variable}: its value cannot be used (has a control character")
    assert "hunter" not in f"{warning} {config!r} {config.validate()}"


@pytest.mark.parametrize("sign", ["\n", "\x00", "\x7f", "\udcff"])
@pytest.mark.parametrize("variable", ["AGENT_OWNER", "TELEMETRY_API_HOST", "TELEMETRY_API_URL", "METRICS_API_URL"])
def test_a_text_or_url_with_a_control_character_is_not_used(variable: str, sign: str) -> None:
    """The default, and a warning that can be printed on one line of any terminal."""
    setting = next(setting for setting, name in VARIABLES if name == variable)
    config = TelemetryConfig.from_env({variable: f"http://host{sign}x/"})
    assert ascii(getattr(config, setting.field)) == ascii(setting.default)
    (warning,) = config.warnings
    assert warning.startswith(f"{variable}: ")
    assert sign not in warning


def test_a_token_in_any_script_is_used_as_it_is() -> None:
    """Letters beyond ASCII are no control characters; blanks around the token are not part of it."""
    config = TelemetryConfig.from_env({"TELEMETRY_API_AUTH_TOKEN": " pässwörd ключ 鍵\n"})
    assert (config.api_auth_token, config.warnings) == ("pässwörd ключ 鍵", ())


def test_a_newer_name_comes_before_an_older_one() -> None:
    """With both names given the newer one stands."""
    environ = {"AGENT_METRICS_DIR": "/srv/older", "TELEMETRY_BASE_DIR": "/srv/newer"}
    environ |= {"METRICS_API_URL": "https://older", "GOOGLE_SHEETS_API_URL": "https://newer"}
    config = TelemetryConfig.from_env(environ)
    assert (config.base_dir, config.sheets_url) == (Path("/srv/newer"), "https://newer")


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """from_env() means os.environ."""
    monkeypatch.setenv("TELEMETRY_API_PORT", "9999")
    assert TelemetryConfig.from_env().api_port == 9999


def test_no_secret_is_shown_anywhere() -> None:
    """Tokens and passwords appear in no repr, description, warning or message."""
    config = TelemetryConfig.from_env(
        {
            "TELEMETRY_API_AUTH_TOKEN": "hunter2",
            "METRICS_API_TOKEN": "hunter2",
            "TELEMETRY_DATABASE_URL": "postgresql://u:hunter2@h/db",
            "TELEMETRY_API_URL": "https://u:hunter2@h/x?token=hunter2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:hunter2@h",
            "GOOGLE_SHEETS_API_URL": "https://u:hunter2@hooks.example.com/services/hunter2?key=hunter2",
            "METRICS_API_AUTH_REQUIRED": "token=hunter2",
        }
    )
    shown = f"{config!r} {config} {config.describe()} {config.validate()} {config.warnings}"
    assert "hunter2" not in shown
    assert config.api_auth_token == "hunter2"
    assert config.describe()["api_auth_token"] == "***"
    assert config.describe()["sheets_url"] == "hooks.example.com"
    assert TelemetryConfig(base_dir=Path("/srv")).describe()["api_auth_token"] == "-"


def test_a_webhook_that_cannot_be_used_is_not_quoted() -> None:
    """Whoever knows the address may post to it."""
    config = TelemetryConfig.from_env({"GOOGLE_SHEETS_API_URL": "hooks.example.com/services/hunter2"})
    assert config.sheets_url is None
    assert "hunter2" not in str(config.warnings)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://u:hunter2@h",
        "http://u:hunter2@h:port",
        "http://u:hunter2@[::1",
        "http://u:hun/ter2@h",
        "http://u:hunter2@ℂ",  # noqa: RUF001 - a letter that urlsplit refuses, quoting all
    ],
)
def test_a_warning_about_a_url_shows_no_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A URL that cannot be used is shown without its credentials."""
    config = TelemetryConfig.from_env({"TELEMETRY_API_URL": url, "METRICS_API_URL": url})
    assert "hun" not in " ".join(config.warnings) + caplog.text


@pytest.mark.parametrize("name", ["db_path", "ndjson_dir", "buffer_dir"])
def test_paths_follow_the_base_folder_unless_given(name: str) -> None:
    """A path left out lies under the base; one given lies where it was said."""
    assert getattr(TelemetryConfig(base_dir=Path("/b")), name).is_relative_to("/b")
    assert getattr(TelemetryConfig(base_dir=Path("/b"), **{name: Path("/other/x")}), name) == Path("/other/x")


def test_the_folders_are_those_of_the_contract() -> None:
    """`{base}/db/telemetry.sqlite`, raw, buffer, backups."""
    config = TelemetryConfig(base_dir=Path("/b"))
    assert config.db_path == Path("/b/db/telemetry.sqlite")
    assert (config.ndjson_dir, config.buffer_dir) == (Path("/b/raw"), Path("/b/buffer"))
    assert config.backups_dir == Path("/b/backups")


def test_a_relative_folder_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is meant from where the process was when it was configured (decision 5)."""
    monkeypatch.chdir(tmp_path)
    config = TelemetryConfig.from_env({"TELEMETRY_BASE_DIR": "data", "TELEMETRY_DB_PATH": "x.sqlite"})
    monkeypatch.chdir("/")
    assert (config.base_dir, config.db_path) == (tmp_path / "data", tmp_path / "x.sqlite")
    assert config.buffer_dir == tmp_path / "data" / "buffer"


def test_a_changed_copy_keeps_given_paths_and_moves_the_others() -> None:
    """with_(base_dir=…) takes along what followed the old base, and nothing else."""
    config = TelemetryConfig(base_dir=Path("/old"), db_path=Path("/db.sqlite"), api_port=1)
    moved = config.with_(base_dir=Path("/new"))
    assert (moved.buffer_dir, moved.db_path, moved.api_port) == (Path("/new/buffer"), Path("/db.sqlite"), 1)
    assert config.base_dir == Path("/old")
    assert config.with_(base_dir=Path("/new"), buffer_dir=Path("/b")).buffer_dir == Path("/b")
    assert config.with_(api_port=2).buffer_dir == config.buffer_dir


def test_equal_settings_are_equal_configurations() -> None:
    """Two configurations are equal, and hash alike, when every setting is; warnings do not count."""
    environ = {"TELEMETRY_BASE_DIR": "/b"}
    one, other = TelemetryConfig.from_env(environ), TelemetryConfig(base_dir=Path("/b"))
    warned = TelemetryConfig.from_env({**environ, "TELEMETRY_API_PORT": "x"})
    assert one == other == warned
    assert hash(one) == hash(other) == hash(warned)
    assert one != one.with_(api_auth_token="t")
    assert one != one.with_(discover_service=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_first_usable_well_known_folder_is_the_base(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the contract's order; what is missing or a file is passed over; nothing is created."""
    one, two, three = home / "one", home / "two", home / "three"
    monkeypatch.setattr(config_module, "WELL_KNOWN_FOLDERS", (str(one), str(two), str(three)))
    assert default_base_dir() == home / ".telemetry"
    assert not (home / ".telemetry").exists()
    one.touch()
    three.mkdir()
    assert default_base_dir() == three
    two.mkdir()
    assert default_base_dir() == two
    assert TelemetryConfig.from_env({}).base_dir == two


@pytest.mark.requires("POSIX")
def test_the_well_known_folders_are_those_of_the_contract() -> None:
    """Decision 8."""
    assert config_module.WELL_KNOWN_FOLDERS == ("/agent-metrics", "/opt/telemetry", "/data/telemetry")


@pytest.mark.parametrize("odd", ["file/telemetry", "x" * 5000, "nul\x00"])
def test_a_folder_that_cannot_be_looked_at_is_passed_over(
    home: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """A well-known folder that cannot even be asked for never raises."""
    (home / "file").touch()
    monkeypatch.setattr(config_module, "WELL_KNOWN_FOLDERS", (str(home / odd),))
    assert default_base_dir() == home / ".telemetry"


def test_folders_that_can_be_made_are_no_problem(tmp_path: Path) -> None:
    """Nothing has to exist yet; nothing is created by asking."""
    config = TelemetryConfig(base_dir=tmp_path / "a" / "b")
    assert config.validate() == (True, [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_fails_validation(tmp_path: Path) -> None:
    """A file in the way is named with its variable; TELEMETRY_SKIP_VALIDATION looks at nothing."""
    (tmp_path / "file").touch()
    config = TelemetryConfig(base_dir=tmp_path / "file")
    ok, messages = config.validate()
    assert not ok
    assert messages[0] == f"TELEMETRY_NDJSON_DIR: {tmp_path}/file/raw: {tmp_path}/file is not a folder"
    assert config.with_(skip_validation=True).validate() == (True, [])


@pytest.mark.parametrize("path", ["x" * 5000, "nul\x00x", "dangling"])
def test_no_path_makes_validation_raise(tmp_path: Path, path: str) -> None:
    """Too long a name, an impossible one, a link to nowhere."""
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    assert isinstance(folder_problem(tmp_path / path / "deep"), str)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sheets_enabled": True}, "GOOGLE_SHEETS_API_URL"),
        (
            {"sheets_enabled": True, "sheets_url": "https://h", "sheets_auth_required": True},
            "METRICS_API_TOKEN",
        ),
        ({"api_auth_enabled": True}, "TELEMETRY_API_AUTH_TOKEN"),
        ({"api_workers": 2}, "TELEMETRY_API_WORKERS"),
    ],
)
def test_settings_that_do_not_go_together_are_told(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    """Each contradiction is one message, and runs are kept all the same."""
    ok, messages = TelemetryConfig(base_dir=tmp_path, **changes).validate()  # type: ignore[arg-type]
    assert ok
    assert len(messages) == 1
    assert word in messages[0]


def test_many_workers_are_right_on_another_database(tmp_path: Path) -> None:
    """The limit of one worker is SQLite's."""
    config = TelemetryConfig(base_dir=tmp_path, api_workers=4, database_url="postgresql://h/db")
    assert config.validate() == (True, [])
