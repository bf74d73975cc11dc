"""Several tokens, each with what it may: from a file that may change while the service runs."""

from __future__ import annotations

import logging
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from on_disk import eventually
from service_cases import event_id, post_states, problem, state

from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service import tokens
from otel_agent_telemetry.service.tokens import ADMIN, READ, WRITE, TokensFileError, permission_for, read_tokens_file

READER, WRITER, ALL = "reader's token", "wrïter", "known-to-all"


def table(name, token, *may):
    return f'[{name}]\nsha256 = "{sha256(token.encode()).hexdigest()}"\nmay = {list(may)!r}\n'


def bearer(token):
    return {b"Authorization": b"Bearer " + token.encode()}


@pytest.fixture
def tokens_file(tmp_path):
    """A file of two tokens."""
    path = tmp_path / "tokens.toml"
    path.touch(mode=0o600)
    path.write_text(table("dashboard", READER, "read") + table("agents", WRITER, "write"))
    return path


@pytest.fixture
def service(sqlite_settings, serving, tokens_file, monkeypatch):
    """A service with the tokens of the file, and the single one of the variable."""
    monkeypatch.setattr(tokens, "_LOOK_EVERY_S", 0.0)
    return serving(sqlite_settings.with_(api_tokens_file=tokens_file, api_auth_token=ALL))


def statuses(service, token):
    """The statuses of a read and of a write with a token."""
    with service.new_client(headers=bearer(token)) as client:
        return client.get("/api/v1/runs").status_code, client.post("/api/v1/runs", json=state()).status_code


def test_each_token_may_what_it_may(service):
    """403 names what is missing; the variable's token may all; an unknown one nothing."""
    assert statuses(service, READER) == (200, 403)
    assert statuses(service, WRITER) == (403, 201)
    assert statuses(service, ALL) == (200, 201)
    assert statuses(service, "unknown") == (401, 401)
    with service.new_client(headers=bearer(READER)) as client:
        assert problem(client.post("/v1/traces", content=b""), 403) == "this token may not write"
        problem(client.patch(f"/api/v1/runs/{event_id(1)}", json={}), 403)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("GET", READ),
        ("HEAD", READ),
        ("OPTIONS", READ),
        ("POST", WRITE),
        ("PATCH", WRITE),
        ("PUT", WRITE),
        ("DELETE", ADMIN),
    ],
)
def test_what_a_method_needs(method, needed):
    """Reading, writing, deleting."""
    assert permission_for(method) == needed


def test_a_changed_file_counts_at_once(service, tokens_file):
    """A token that was taken out is refused, a new one is accepted."""
    assert statuses(service, READER) == (200, 403)
    tokens_file.write_text(table("new", "another", "read", "write"))
    assert eventually(lambda: statuses(service, READER) == (401, 401))
    assert statuses(service, "another") == (200, 201)


def test_a_file_that_is_mounted_by_links_is_read_again_when_they_move(sqlite_settings, serving, tmp_path, monkeypatch):
    """As Kubernetes mounts a secret: a link to a file below a link to a folder, and only the latter is replaced."""
    monkeypatch.setattr(tokens, "_LOOK_EVERY_S", 0.0)
    mount = tmp_path / "mount"
    for number, token in enumerate((READER, "another")):
        (mount / f"..{number}").mkdir(parents=True)
        (mount / f"..{number}" / "tokens.toml").touch(mode=0o600)
        (mount / f"..{number}" / "tokens.toml").write_text(table("same", token, "read"))
    (mount / "..data").symlink_to("..0")
    (mount / "tokens.toml").symlink_to("..data/tokens.toml")
    service = serving(sqlite_settings.with_(api_tokens_file=mount / "tokens.toml"))
    assert statuses(service, READER) == (200, 403)
    (mount / "..new").symlink_to("..1")
    (mount / "..new").replace(mount / "..data")
    assert (statuses(service, READER), statuses(service, "another")) == ((401, 401), (200, 403))


@pytest.mark.parametrize("change", [Path.unlink, partial(Path.chmod, mode=0o644)])
def test_a_file_that_is_taken_away_or_opened_to_others_keeps_the_old_tokens(service, tokens_file, change):
    """A rotation may remove it for a moment; what nobody else could read until then is valid."""
    assert statuses(service, READER) == (200, 403)
    change(tokens_file)
    assert [statuses(service, READER) for _ in range(2)] == [(200, 403)] * 2
    tokens_file.unlink(missing_ok=True)
    tokens_file.touch(mode=0o600)
    tokens_file.write_text(table("new", "another", "read"))
    assert (statuses(service, READER), statuses(service, "another")) == ((401, 401), (200, 403))


BROKEN = {
    "no TOML": ("[a\nsha256 = 'secret", "TOML"),
    "no UTF-8": (b"\xff\xfe", "UTF-8"),
    "a token instead of its digest": ('[a]\nsha256 = "secret"\nmay = ["read"]', "64 hexadecimal"),
    "an unknown permission": (table("a", "x", "read", "delete"), "may is not"),
    "no permission": (table("a", "x"), "may is not"),
    "a member too many": (table("a", "x", "read") + 'token = "secret"', "exactly"),
    "a member missing": ('[a]\nmay = ["read"]', "exactly"),
    "no table": ('a = "secret"', "exactly"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_keeps_the_old_tokens(service, tokens_file, caplog, name):
    """One line of the log names the file and the rule, and no secret; so does the error at a start."""
    content, rule = BROKEN[name]
    assert statuses(service, READER) == (200, 403)
    with caplog.at_level(logging.ERROR):
        tokens_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert [statuses(service, READER) for _ in range(3)] == [(200, 403)] * 3
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert str(tokens_file) in lines[0]
    assert rule in lines[0]
    assert "secret" not in lines[0]
    with pytest.raises(TokensFileError, match=rule):
        read_tokens_file(tokens_file)


def test_a_file_that_others_may_read_is_refused(sqlite_settings, serving, tokens_file):
    """At the start with an error that names mode 0600; a missing file too."""
    tokens_file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        serving(sqlite_settings.with_(api_tokens_file=tokens_file))
    tokens_file.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        serving(sqlite_settings.with_(api_tokens_file=tokens_file))


def test_a_token_turns_authentication_on(sqlite_settings, serving, tokens_file):
    """Unless it is switched off by name."""
    asking = serving(sqlite_settings.with_(api_tokens_file=tokens_file))
    with asking.new_client(headers={}) as client:
        assert client.get("/api/v1/runs").status_code == 401
    elsewhere = sqlite_settings.with_(base_dir=sqlite_settings.base_dir / "2")
    off = serving(elsewhere.with_(api_auth_token=ALL, api_auth_enabled=False))
    with off.new_client(headers={}) as client:
        assert client.get("/api/v1/runs").status_code == 200
    post_states(off, state())
