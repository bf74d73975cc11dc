"""Writing settings into users' files and undoing it: to the byte, with later edits kept, never over settings of theirs."""

from __future__ import annotations

import json
import stat
import sys
import tomllib

import pytest
from user_files import CLAUDE, CODEX, GEMINI

from otel_agent_telemetry.connect.agents import AGENTS, BY_NAME
from otel_agent_telemetry.connect.json_text import JsonText
from otel_agent_telemetry.connect.place import MISSING, NotReadableError
from otel_agent_telemetry.connect.record import Records
from otel_agent_telemetry.connect.settings_file import standing, undo, write
from otel_agent_telemetry.errors import ConfigurationError

URL = "http://127.0.0.1:8765"
FILES = [
    pytest.param(agent, text, id=f"{agent}, {name}")
    for agent, texts in (("claude-code", CLAUDE), ("codex", CODEX), ("gemini-cli", GEMINI), ("qwen-code", GEMINI))
    for name, text in texts.items()
]


class Place:
    """One agent's settings file in a folder of the test's own."""

    def __init__(self, folder, agent, text=None):
        self.agent, self.records = BY_NAME[agent], Records(folder / "base")
        self.path = folder / "home" / self.agent.files[-1]
        if text is not None:
            self.path.parent.mkdir()
            self.path.write_bytes(text.encode())

    def write(self, url=URL, token=None, *, replace=False):
        wanted = self.agent.wanted(url, token)
        return write(self.agent, self.path, wanted, self.records, has_secret=token is not None, replace=replace)

    def undo(self):
        return undo(self.agent, self.path, self.records)

    def text(self):
        return self.path.read_bytes().decode()

    def values(self):
        text = self.text()
        return tomllib.loads(text) if self.agent.form == "toml" else JsonText(text).data


@pytest.fixture
def at(tmp_path):
    return lambda agent, text=None: Place(tmp_path, agent, text)


def has_ours(values, wanted):
    """Whether all wanted values stand among the values of a file."""
    for place, value in wanted.items():
        found = values
        for name in place:
            found = found.get(name, MISSING) if isinstance(found, dict) else MISSING
        if found is not value and found != value:
            return False
    return True


@pytest.mark.parametrize(("agent", "text"), FILES)
@pytest.mark.parametrize("edited", [False, True], ids=["as we left it", "edited since"])
def test_a_users_file_is_the_same_after_write_and_undo(at, agent, text, edited):
    """To the byte; every line of the user's is there meanwhile; a user's edit of another line stays."""
    place = at(agent, text)
    changed = place.write()
    assert changed
    assert has_ours(place.values(), place.agent.wanted(URL, None))
    kept = [line.strip().rstrip(",") for line in text.splitlines() if line.strip() not in ("{}", "")]
    assert all(line in place.text() for line in kept if not line.endswith("{}") and not line.startswith('{"'))
    assert place.write() == [], "the same again changes nothing"
    comment = "# edited\n" if place.agent.form == "toml" else "// edited\n"
    if edited:
        place.path.write_bytes((comment + place.text()).encode())
    undone = place.undo()
    assert (sorted(undone.restored), undone.kept) == (sorted(changed), [])
    if not edited:
        assert place.text() == text
    elif text:
        assert place.text().rstrip("\r\n") == (comment + text).rstrip("\r\n")
    assert place.undo() is None, "nothing is left to undo"


@pytest.mark.parametrize("agent", [agent.name for agent in AGENTS if agent.files])
def test_a_file_that_was_not_there_is_made_for_its_owner_alone_and_removed(at, agent):
    place = at(agent)
    place.write()
    assert has_ours(place.values(), place.agent.wanted(URL, None))
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    place.undo()
    assert not place.path.exists()


def test_a_new_address_takes_the_place_of_the_old_one(at):
    """A service that moved: ours are ours, and undo still leads to the file of before all of it."""
    place = at("codex", CODEX["an otel table with a comment"])
    place.path.chmod(0o600)
    place.write()
    place.write("http://10.0.0.7:9000", "a-token")
    values = place.values()["otel"]
    assert values["trace_exporter"]["otlp-http"] == {
        "endpoint": "http://10.0.0.7:9000/v1/traces", "protocol": "binary", "headers": {"Authorization": "Bearer a-token"},
    }  # fmt: skip
    place.undo()
    assert place.text() == CODEX["an otel table with a comment"]


THEIRS = {
    "claude-code": (
        '{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://mine.example", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://logs.example"}}',
        ["env.OTEL_EXPORTER_OTLP_ENDPOINT", "env.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"],
    ),
    "codex": (
        """model = "m"

[otel]
environment = "x"

[otel.exporter.otlp-http]
endpoint = "https://mine.example/v1/logs"
protocol = "json"

[otel.exporter.otlp-http.headers]
x-key = "k"

[tui]
notifications = true
""",
        ["otel.exporter"],
    ),
    "gemini-cli": (
        '{\n  "telemetry": {\n    "enabled": true,\n    "target": "gcp",\n    "outfile": "/tmp/t.log" // debugging\n  }\n}\n',
        ["telemetry.target", "telemetry.outfile"],
    ),
}


@pytest.mark.parametrize("agent", THEIRS)
def test_telemetry_of_the_users_own_is_named_and_left(at, agent):
    """Complaint of users of such installers: their own collector no longer got anything, and nothing said so."""
    text, named = THEIRS[agent]
    place = at(agent, text)
    with pytest.raises(ConfigurationError) as refused:
        place.write()
    assert all(name in str(refused.value) for name in named)
    assert "mine.example" not in str(refused.value), "values may be secrets"
    assert place.text() == text


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("agent", THEIRS)
def test_replaced_settings_come_back(at, agent, edited):
    text, _ = THEIRS[agent]
    place = at(agent, text)
    before = place.values()
    place.write(replace=True)
    assert has_ours(place.values(), place.agent.wanted(URL, None))
    if edited:
        place.path.write_text(place.text() + "\n")
    place.undo()
    assert place.values() == before
    assert edited or place.text() == text


def test_a_header_for_another_service_is_not_sent_to_ours(at):
    """Its token would be: in the variable, by a helper program, or for one signal alone."""
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=theirs", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-key=theirs"}
    before = {"env": headers, "otelHeadersHelper": "/bin/headers"}
    place = at("claude-code", json.dumps(before))
    with pytest.raises(ConfigurationError, match="otelHeadersHelper"):
        place.write()
    place.write(replace=True)
    assert "theirs" not in place.text()
    assert "otelHeadersHelper" not in place.values()
    place.undo()
    assert place.values() == before


def test_what_the_user_changed_of_ours_since_stays(at):
    place = at("claude-code", '{"env": {"A": "1"}}')
    place.write()
    place.path.write_text(place.text().replace('"OTEL_LOGS_EXPORTER": "otlp"', '"OTEL_LOGS_EXPORTER": "console"'))
    undone = place.undo()
    assert undone.kept == [("env", "OTEL_LOGS_EXPORTER")]
    assert place.values() == {"env": {"A": "1", "OTEL_LOGS_EXPORTER": "console"}}


def test_what_the_user_added_beside_ours_stays(at):
    """Also in an object, or a table, that we made."""
    place = at("gemini-cli", "{}")
    place.write()
    place.path.write_text(place.text().replace('"target"', '"mine": 1, "target"'))
    place.undo()
    assert place.values() == {"telemetry": {"mine": 1}}
    place = at("codex", None)
    place.write()
    place.path.write_text(place.text() + "\n[tui]\nx = 1\n")
    place.undo()
    assert place.values() == {"tui": {"x": 1}}


def test_what_was_undone_by_hand_is_written_anew(at):
    """The record of it is no longer in force: the file as it is now is what the next undo leads to."""
    place = at("claude-code", '{"a": 1}')
    place.write()
    place.path.write_text('{"b": 2}')
    assert place.write()
    place.undo()
    assert place.text() == '{"b": 2}'


def test_a_token_goes_only_into_a_file_of_its_owner(at):
    place = at("claude-code", "{}")
    place.path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        place.write(token="a-token")
    assert place.text() == "{}"
    place.path.chmod(0o600)
    place.write(token="a-token")
    assert place.values()["env"]["OTEL_EXPORTER_OTLP_HEADERS"] == "Authorization=Bearer a-token"
    kept = "".join(path.read_text() for path in (place.path.parents[1] / "base" / "connections").iterdir())
    assert "a-token" not in kept


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_links_are_followed_and_permissions_kept(at, tmp_path):
    """Dotfiles: the settings file is a link into a repository."""
    place = at("gemini-cli", "{}")
    real = tmp_path / "dotfiles.json"
    place.path.replace(real)
    real.chmod(0o640)
    place.path.symlink_to(real)
    place.write()
    assert place.path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert json.loads(real.read_text())["telemetry"]["enabled"] is True
    assert [path.name for path in place.path.parent.iterdir()] == ["settings.json"], "nothing is left beside it"
    place.undo()
    assert real.read_text() == "{}"


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("claude-code", '{"env": "text"}'),
        ("claude-code", "[]"),
        ("claude-code", '{"secret": "hunter2'),
        ("claude-code", "[" * 5000),
        ("codex", "otel = { environment = 'x' }\n"),
        ("codex", "otel = 1\n"),
        ("codex", "secret = hunter2\n"),
        ("codex", "[[otel]]\na = 1\n"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_left(at, agent, text):
    """Refused with the file's name and a line, and without its content."""
    place = at(agent, text)
    with pytest.raises(NotReadableError) as refused:
        place.write(replace=True)
    assert str(place.path) in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert place.text() == text


def test_a_link_that_leads_to_itself_is_refused(at):
    place = at("claude-code", "{}")
    place.path.unlink()
    place.path.symlink_to(place.path)
    with pytest.raises((ConfigurationError, OSError)):
        place.write()


def test_a_damaged_record_names_the_file_as_it_was(at, tmp_path):
    place = at("claude-code", "{}")
    place.write()
    (record,) = (tmp_path / "base" / "connections").glob("*.json")
    record.write_text("{}")
    with pytest.raises(ConfigurationError) as refused:
        place.undo()
    assert place.records.original("claude-code", place.path).read_text() == "{}"
    assert ".original" in refused.value.hint


def test_what_is_no_text_or_no_file_is_refused(at):
    place = at("claude-code", "{}")
    place.path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(NotReadableError, match="UTF-8"):
        place.write()
    place.path.unlink()
    place.path.mkdir()
    with pytest.raises(ConfigurationError, match="no file of settings"):
        standing(place.path)
