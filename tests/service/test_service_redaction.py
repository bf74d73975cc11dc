"""The service masks what it is posted, as our own clients do before they send it."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from corpus import SECRETS

from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS
from otel_agent_telemetry.columns import PATCHABLE_COLUMNS
from otel_agent_telemetry.secret_patterns import REDACTED, may_hide
from otel_agent_telemetry.service.run_bodies import commit_link_from_body, patch_from_body, run_from_body

SECRET = "hunter2"
TEXTS = sorted(FREE_TEXT_COLUMNS - {"metrics_json", "context_json", "labels", "git_commit_source"})
TIME = "2026-11-28T02:15:00Z"


def body(**more):
    return {"event_id": str(uuid4()), "run_id": "r", "start_time": TIME, "agent_name": "a", "job_type": "j", **more}


def test_every_text_column_of_a_posted_run_is_masked():
    """One by one: the row's other columns stay."""
    for name in TEXTS:
        state = json.dumps(run_from_body(body(**{name: f"at https://u:{SECRET}@h/ it was"})))
        assert SECRET not in state
        assert f"at https://{REDACTED}@h/ it was" in state


JSON_VALUES = [
    {"api_key": SECRET},
    {"kennwort": SECRET},
    {"deep": [{"argv": ["curl", "-u", f"a:{SECRET}"]}]},
    {"env": [{"name": "DB_PASSWORD", "value": SECRET}]},
    {"note": f"TOKEN={SECRET}"},
    {"list": [["Cookie", f"a={SECRET}"]]},
]


@pytest.mark.parametrize("value", JSON_VALUES)
@pytest.mark.parametrize("name", ["context_json", "metrics_json"])
def test_objects_of_a_posted_run_are_masked(name, value):
    """As objects, as their JSON text, and as fields that are no columns."""
    for given in (value, json.dumps(value)):
        kept = run_from_body(body(**{name: {"n": 1, **value} if given is value else given}))[name]
        assert SECRET not in kept
        assert REDACTED in kept
    assert SECRET not in run_from_body(body(**value))["context_json"]


def test_what_is_no_secret_is_stored_as_it_is_sent():
    """Deep, large, and with names that merely sound like secrets."""
    deep: dict = {"n": 1}
    for _ in range(200):
        deep = {"a": deep}
    value = {"deep": deep, "large": "x" * 2_000_000, "token_count": 5, "auth_type": "basic"}
    assert json.loads(run_from_body(body(context_json=value))["context_json"]) == value


def test_a_patch_is_masked():
    """Each text that it may set, and its objects."""
    texts = sorted(PATCHABLE_COLUMNS & set(TEXTS) - {"git_commit_hash"})
    patch = patch_from_body({**dict.fromkeys(texts, f"password={SECRET}"), "context_json": {"token": SECRET}}).fields
    assert {patch[name] for name in texts} == {f"password={REDACTED}"}
    assert json.loads(patch["context_json"]) == {"token": REDACTED}


def test_the_author_of_a_commit_is_masked():
    """A remote's address with a password may stand there."""
    given = {"commit_hash": "a" * 40, "commit_source": "ci", "commit_author": f"https://u:{SECRET}@h"}
    link = commit_link_from_body(given, run_id="r", now_iso="2026-11-28T02:15:00.000000+00:00")
    assert link.commit_author == f"https://{REDACTED}@h"


@pytest.mark.parametrize("line", [line for line in SECRETS if "{" not in line])
def test_a_sign_is_seen_in_the_json_of_a_value(line):
    """Only what has one is looked into."""
    assert may_hide(json.dumps({"note": line.replace("«", "").replace("»", "")}))
