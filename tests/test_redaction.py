"""Secrets masked at any depth, sizes bounded, everything else left alone."""

from array import array
from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import pytest
from costs import cost_s
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.redaction import clean, clean_members, is_secret_key
from otel_agent_telemetry.secret_patterns import REDACTED, mask_text
from otel_agent_telemetry.wire import encode_line

SECRET_KEYS = [
    *(
        "password",
        "Password",
        "db_password",
        "dbPassword",
        "PASSWORD",
        "passwd",
        "passphrase",
        "user.password",
    ),
    *(
        "token",
        "access_token",
        "accessToken",
        "X-Auth-Token",
        "refresh_token",
        "GITHUB_TOKEN",
        "access_tokens",
    ),
    *("api_key", "apiKey", "api-key", "APIKey", "OPENAI_API_KEY", "apikey", "x-api-key", "api_keys"),
    *("secret", "client_secret", "secrets", "authorization", "Authorization", "Proxy-Authorization"),
    *("accesstoken", "clientsecret", "PGPASSWORD", "signing_key", "encryptionKey", "ssh-key"),
    *("private_key", "cookie", "Set-Cookie", "cookies", "credentials", "jwt", "passwords"),
    *("pass", "db_pass", "auth", "openai_key", "stripeKey", "AccountKey", "SharedAccessKey", "_authToken"),
]
HARMLESS_KEYS = [
    *("max_tokens", "tokens", "input_tokens", "total_tokens", "token_count", "tokenCount", "token_usage"),
    *("token_limit", "token_type", "token_ids", "llm.token_count.prompt", "gen_ai.usage.output_tokens"),
    *(
        "time_to_first_token",
        "cost_per_token",
        "author",
        "authors",
        "authority",
        "authored_by",
        "key",
        "keys",
    ),
    *("sort_key", "cache_key", "idempotency_key", "public_key", "auth_type", "has_password", "password_changed_at"),
    *(
        "api_key_count",
        "primary_key",
        "keyboard",
        "monkey",
        "secretary",
        "tokenizer",
        "passed",
        "bypass",
        "compass",
        "",
        "🔑",
    ),
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_key_that_names_a_secret_is_known_in_any_spelling(key: str) -> None:
    """Snake, camel, kebab, dotted and shouted spellings are one word."""
    assert is_secret_key(key)
    assert clean({key: "v"}) == {key: REDACTED}


@pytest.mark.parametrize("key", HARMLESS_KEYS)
def test_a_key_that_only_resembles_one_passes(key: str) -> None:
    """Counts of tokens, authors and the like are no secrets."""
    assert not is_secret_key(key)
    assert clean({key: 7}) == {key: 7}


SECRET_TEXTS = [
    ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
    ("curl -H 'authorization: basic dXNlcjpwYXNzd29yZA=='", "dXNlcjpwYXNzd29yZA"),
    ("https://user:hunter2@example.com/x", "hunter2"),
    ("postgresql+psycopg://app:s3cr3t@db:5432/runs", "s3cr3t"),
    ("key sk-abcdefghijklmnop1234", "sk-abcdefghijklmnop1234"),
    ("ghp_abcdefghijklmnopqrst1234", "ghp_abcdefghijklmnopqrst1234"),
    ("github_pat_abcdefghijklmnopqrst1234", "abcdefghijklmnopqrst1234"),
    ("glpat-abcdefghijklmnop", "abcdefghijklmnop"),
    ("xoxb-123456789012-abc", "123456789012"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-def_123", "eyJzdWIi"),
    ("https://h/x?a=1&token=hunter2&b=2", "hunter2"),
    ("Settings(user='me', password='hunter2')", "hunter2"),
    ('Client(api_key="hunter2")', "hunter2"),
    ("GET / HTTP/1.1\r\nX-Api-Key: hunter2\r\nAccept: */*", "hunter2"),
    ("X-Amz-Security-Token:hunter2", "hunter2"),
    ("Private-Token: hunter2", "hunter2"),
    ("Ocp-Apim-Subscription-Key: hunter2", "hunter2"),
    ("curl -H 'Authorization: token hunter2' https://h", "hunter2"),
    ("Set-Cookie: session=hunter2; Path=/", "hunter2"),
    ('sent {"user": "me", "client_secret": "hunter2"}', "hunter2"),
    ("sent {'X-Api-Key': 'hunter2'}", "hunter2"),
    ('{"db_password":"hunt\\"er2"}', "er2"),
    ('"{\\"password\\": \\"hunter2\\"}"', "hunter2"),
    ('{"accessKey": "hunter2"}', "hunter2"),
    ('{"private_key": "hunter2", "jwt": 1}', "hunter2"),
    ('Authorization: Digest username="u", response="hunter2"', "hunter2"),
    ('{"raw": "GET /\\r\\nX-Api-Key: hunter2"}', "hunter2"),
    ("https://h/?client_secret=hunter2&x=1", "hunter2"),
    ("https://h/?X-Amz-Signature=hunter2", "hunter2"),
    ("https://h/#access_token=hunter2", "hunter2"),
    ("https://abcdefghij0123456789@h/x", "abcdefghij0123456789"),
    ("host=h user=u password=hunter2", "hunter2"),
    ("Server=h;Password=hunter2;", "hunter2"),
    ("run --password=hunter2 --verbose", "hunter2"),
    ("DB_PASSWORD=hunter2", "hunter2"),
    ("O(private_key='hunter2')", "hunter2"),
    ("O(password=b'hunter2')", "hunter2"),
    ("a " * 9000 + "https://bob:hunter2@h/", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRET_TEXTS)
def test_a_secret_in_a_text_is_masked_by_its_form(text: str, secret: str) -> None:
    """The secret goes, the mask shows, in a text alone and under a harmless key."""
    assert secret not in mask_text(text)
    assert REDACTED in mask_text(text)
    assert secret not in str(clean({"note": text}))
    assert secret not in str(clean({"long": "x" * 100 + " " + text}))


@pytest.mark.parametrize(
    "text",
    [
        "a basic understanding of the task",
        "Basic Understanding and basic functionality",
        "basic input/output",
        "the bearer of news",
        "mail me@example.com, see https://example.com/a:b?x=1&page=2",
        "task-list-with-a-long-hyphenated-name",
        "x = y; a == b; token count = 5",
        "tokens='many'",
        "12:30:45 ratio 1:2",
        "the key: a secret is a token of trust",
        '{"token_count": "5", "monkey": "x", "author": "me", "tokens": 7}',
        "primary-key: id",
        "monkey=hunter primary_key=12345 token=5 max_tokens=4096",
        "https://user@example.com/x?page=2&sort=key",
        "",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    """Nothing is masked in what merely sounds like a secret."""
    assert mask_text(text) is text


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner),
    max_leaves=10,
)
with_secrets = st.recursive(
    st.integers()
    | st.text()
    | st.sampled_from([text for text, _ in SECRET_TEXTS])
    | st.binary()
    | st.frozensets(st.text()),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(SECRET_KEYS + HARMLESS_KEYS), inner, max_size=4)
    ),
    max_leaves=10,
)
containers = st.sampled_from([lambda inner: {"a": inner}, lambda inner: [1, inner], lambda inner: (inner, "b")])


@given(st.lists(containers, max_size=40), st.sampled_from(SECRET_KEYS))
def test_a_secret_is_masked_at_any_depth(path: list, key: str) -> None:
    """Dicts, lists and tuples in any nesting hide nothing."""
    payload: object = {key: "hunter2", "beside": "kept"}
    for wrap in path:
        payload = wrap(payload)
    cleaned = str(clean(payload))
    assert "hunter2" not in cleaned
    assert REDACTED in cleaned
    assert "kept" in cleaned


@given(with_secrets)
def test_cleaning_twice_changes_nothing_more(payload: object) -> None:
    """What is clean stays as it is."""
    once = clean(payload)
    assert clean(once) == once


@given(with_secrets)
def test_what_is_clean_is_the_same_object(payload: object) -> None:
    """Where nothing has to change, nothing is copied."""
    once = clean(payload)
    assert clean(once) is once


@given(plain)
def test_what_has_no_secret_keeps_its_value(payload: object) -> None:
    """A payload that nothing is masked in equals what went in."""
    cleaned = clean(payload)
    if REDACTED not in str(cleaned):
        assert cleaned == payload
        assert cleaned is payload


def test_the_callers_payload_is_never_changed() -> None:
    """Masking copies; the application's own object keeps its secret."""
    payload = {"list": [{"password": "hunter2"}], "n": 1}
    assert clean(payload) == {"list": [{"password": REDACTED}], "n": 1}
    assert payload == {"list": [{"password": "hunter2"}], "n": 1}


def test_keys_named_by_the_caller_are_masked_besides() -> None:
    """`secret_keys` are compared without case, at any depth, and replace nothing."""
    payload = {"SSN": "123", "deep": [{"ssn": 4, "password": "p", "other": 5}]}
    assert clean(payload, secret_keys=["ssn"]) == {
        "SSN": REDACTED,
        "deep": [{"ssn": REDACTED, "password": REDACTED, "other": 5}],
    }


def test_what_stands_behind_a_secret_stays() -> None:
    """The next member of a JSON text, escaped once more or not, and the next header."""
    assert mask_text('{"api_key": "s", "n": 1}') == f'{{"api_key": "{REDACTED}", "n": 1}}'
    assert mask_text('"{\\"api_key\\": \\"s3\\", \\"n\\": 1}"') == f'"{{\\"api_key\\": \\"{REDACTED}\\", \\"n\\": 1}}"'
    assert mask_text("X-Api-Key: s\r\nAccept: y") == f"X-Api-Key: {REDACTED}\r\nAccept: y"


def test_headers_as_pairs_are_masked_by_their_names() -> None:
    """Lists of pairs, of bytes as servers have them, and a pair alone; what only looks like one passes."""
    assert clean([("Authorization", "x"), ("Accept", "y")]) == [["Authorization", REDACTED], ("Accept", "y")]
    assert clean({"h": [[b"cookie", b"x"]]}) == {"h": [["cookie", REDACTED]]}
    assert clean([["retries", 3], ["x-api-key", ["x"]]]) == [["retries", 3], ["x-api-key", REDACTED]]
    assert clean(("X-Api-Key", "x")) == ["X-Api-Key", REDACTED]
    assert clean({"password": "x"}.items()) == [["password", REDACTED]]
    assert clean(["password", "user"]) == ["password", "user"]


COMMANDS = [
    (["mysql", "--password", "x", "db"], ["mysql", "--password", REDACTED, "db"]),
    (["deploy", "--token", "x", "--yes"], ["deploy", "--token", REDACTED, "--yes"]),
    (["tool", "--api-key=x1", "-v"], ["tool", f"--api-key={REDACTED}", "-v"]),
    (["curl", "-u", "a:b", "https://h"], ["curl", "-u", f"a:{REDACTED}", "https://h"]),
    (["/usr/bin/curl", "--user", "a:b"], ["/usr/bin/curl", "--user", f"a:{REDACTED}"]),
    (["sudo", "mysql", "-uroot", "-phunter2"], ["sudo", "mysql", "-uroot", f"-p{REDACTED}"]),
    (["redis-cli", "-a", "x"], ["redis-cli", "-a", REDACTED]),
    (["docker", "login", "-u", "me", "-p", "x"], ["docker", "login", "-u", "me", "-p", REDACTED]),
    (["env", "PGPASSWORD=x", "psql"], ["env", f"PGPASSWORD={REDACTED}", "psql"]),
    (["sh", "-c", "curl -u a:b https://h"], ["sh", "-c", f"curl -u a:{REDACTED} https://h"]),
]


@pytest.mark.parametrize(("arguments", "kept"), COMMANDS)
def test_the_arguments_of_a_command_are_masked_by_their_flags(arguments: list[str], kept: list[str]) -> None:
    """As a list and as a tuple, which attributes have; cleaning twice changes nothing more."""
    assert clean({"process.command_args": arguments}) == {"process.command_args": kept}
    assert clean(tuple(arguments)) == kept
    assert clean(kept) is kept


@pytest.mark.parametrize(
    "arguments",
    [
        ["curl", "-u", "me", "https://h"],
        ["docker", "run", "-p", "80:80", "nginx"],
        ["mysql", "-p", "db"],
        ["python", "-u", "main.py"],
        ["mkdir", "-p", "/tmp/x"],
        ["tool", "--token", "--verbose"],
        ["tool", "--key", "name"],
    ],
)
def test_arguments_that_are_no_secrets_stay(arguments: list[str]) -> None:
    """A user without a password, a port, a flag without its value."""
    assert clean(arguments) is arguments


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"name": "Cookie", "value": "a=b"}, {"name": "Cookie", "value": REDACTED}),
        ({"name": "DB_PASSWORD", "value": 1}, {"name": "DB_PASSWORD", "value": REDACTED}),
        ({"value": "x", "key": "api_key", "n": 1}, {"value": REDACTED, "key": "api_key", "n": 1}),
        ({"key": "token", "value": {"stringValue": "x"}}, {"key": "token", "value": REDACTED}),
        ({"Name": "Authorization", "Value": "x"}, {"Name": "Authorization", "Value": REDACTED}),
        ({"env": [{"name": "TOKEN", "value": "x"}]}, {"env": [{"name": "TOKEN", "value": REDACTED}]}),
        (["Host", "h", "Cookie", "a=b"], ["Host", "h", "Cookie", REDACTED]),
        ([b"Host", b"h", b"X-Api-Key", b"x"], ["Host", "h", "X-Api-Key", REDACTED]),
    ],
)
def test_a_name_and_its_value_are_masked_as_a_member_is(given: object, kept: object) -> None:
    """Headers as objects, environments of containers, attributes of OTLP, headers in one flat list."""
    assert clean(given) == kept
    assert clean({"payload": given}) == {"payload": kept}


@pytest.mark.parametrize(
    "payload",
    [
        {"name": "region", "value": "eu"},
        {"name": "password", "type": "string"},
        {"properties": {"password": {"type": "string", "minLength": 8}}},
        {"secretKeyRef": {"name": "db", "key": "password"}},
        {"password": None, "token": False, "secret": "", "authorization": True},
        {"pass": 12, "fail": 0, "cookies": 3, "secrets": 2},
        {"auth": "basic", "auth_type": "oauth2", "auth_method": "oidc"},
        {"PWD": "/home/me", "GOOGLE_APPLICATION_CREDENTIALS": "/etc/key.json"},
        ["Authorization", "Cookie"],
        ["Authorization", "Cookie", "Set-Cookie", "X-Api-Key"],
    ],
)
def test_what_only_tells_about_a_secret_is_kept(payload: object) -> None:
    """Schemas, references, absent values, counts, schemes, paths, lists of names."""
    assert clean(payload) is payload


def test_members_of_an_auth_object_are_looked_at_one_by_one() -> None:
    """Its user stays, its password does not."""
    assert clean({"auth": {"user": "me", "password": "x"}}) == {"auth": {"user": "me", "password": REDACTED}}


def test_a_secret_in_a_key_is_masked() -> None:
    """A key is text too: a table of results by address, for example."""
    assert clean({"https://u:hunter2@h/": 200}) == {f"https://{REDACTED}@h/": 200}


class _Place(NamedTuple):
    name: str
    token: str


class _Name(Enum):
    PASSWORD = "p"


@dataclass
class _Card:
    owner: str
    pin: str = field(repr=False)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (_Place("a", "x"), {"name": "a", "token": REDACTED}),
        ({b"x-api-key": b"x"}, {b"x-api-key": REDACTED}),
        ({_Name.PASSWORD: "x"}, {_Name.PASSWORD: REDACTED}),
        (_Card("me", "x"), {"owner": "me", "pin": REDACTED}),
        (deque([{"secret": "x"}]), [{"secret": REDACTED}]),
        (UserList([{"secret": "x"}]), [{"secret": REDACTED}]),
        (SimpleNamespace(secret="x", a=1), {"secret": REDACTED, "a": 1}),
        (ValueError("bad", {"secret": "x"}), {"ValueError": ["bad", {"secret": REDACTED}]}),
        ({"a": {"secret": "x"}}.values(), [{"secret": REDACTED}]),
    ],
)
def test_containers_of_every_kind_are_looked_into(given: object, kept: object) -> None:
    """Named tuples, raw headers, names that are Enums, hidden fields, queues, views, namespaces, exceptions."""
    assert clean(given) == kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: deque([0] * 1_000_000),
        lambda: array("q", [0]) * 1_000_000,
        lambda: dict.fromkeys(range(1_000_000)).keys(),
        lambda: UserList([0] * 1_000_000),
        lambda: SimpleNamespace(items=[0] * 1_000_000),
        lambda: ValueError([0] * 1_000_000),
    ],
)
def test_the_cost_does_not_grow_with_the_container(make: Callable[[], object]) -> None:
    """A million items are looked at as far as they are kept: no `repr` of them all is made."""
    value = make()
    as_long = [0] * 1_000_000
    assert cost_s(lambda: clean({"value": value}, max_bytes=4096)) < 0.1 * cost_s(lambda: repr(as_long))


def test_a_large_member_spares_the_others() -> None:
    """Each member has a share of the bytes, what the small ones leave is the later ones', and trouble stays alone."""

    class Changing(dict):
        def items(self):
            raise RuntimeError("changed size during iteration")

    given = {"large": "x" * 10_000, "broken": Changing(a=1), "last": "y" * 600, "token": "t"}
    kept = clean_members(given, max_bytes=2000, secret_keys=["LAST2"])
    assert len(kept["large"]) < 600
    assert kept["broken"] == "<Changing whose items raise RuntimeError>"
    assert kept["last"] == "y" * 600
    assert kept["token"] == REDACTED


@dataclass
class _Login:
    user: str
    password: str


class _Client:
    def __repr__(self) -> str:
        return "Client(url='http://u:hunter2@h', api_key='hunter2')"


def test_objects_carry_no_secret_past_cleaning() -> None:
    """A dataclass is masked by its field names, any other object in its repr."""
    cleaned = clean({"login": _Login("me", "hunter2"), "client": _Client()})
    assert cleaned["login"] == {"user": "me", "password": REDACTED}
    assert b"hunter2" not in encode_line("event", {"payload": cleaned})


def test_values_with_a_form_of_their_own_pass() -> None:
    """Times, UUIDs and enumerations are left to the line format."""

    class Colour(Enum):
        RED = "red"

    payload = [datetime(2025, 1, 1, tzinfo=UTC), UUID(int=1), Colour.RED]
    assert clean(payload) is payload


def test_a_huge_text_is_cut_in_bounded_time() -> None:
    """100 MB cost no more than what is kept, and the remark says how much is missing."""
    size = 100_000_000
    text = "x" * size
    cleaned = clean({"log": text}, max_bytes=1000)
    assert clean(text.encode(), max_bytes=1000).endswith("x")
    assert cost_s(lambda: clean({"log": text}, max_bytes=1000)) < 0.1 * cost_s(text.encode)
    kept, _, remark = cleaned["log"].partition("… ")
    assert 900 < len(kept) <= 1000
    assert remark == f"[{size - len(kept)} more characters]"


def _cycle() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["self"] = [inner, inner]
    return inner


def _unfolding() -> object:
    items: object = "x"
    for _ in range(60):
        items = [items, items]
    return items


class _Endless(Mapping):  # type: ignore[type-arg]
    def __getitem__(self, key: object) -> object:
        return "v"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "k"


@pytest.mark.parametrize(
    "payload",
    [
        _cycle(),
        _unfolding(),
        [""] * 5_000_000,
        [None] * 5_000_000,
        _Endless(),
        {str(n): n for n in range(500_000)},
    ],
    ids=["cycle", "unfolding", "empty texts", "nones", "endless", "wide dict"],
)
def test_what_is_too_large_is_closed_in_bounded_time(payload: object) -> None:
    """The budget ends cycles, floods and what never ends; the line is of bounded size."""
    line = encode_line("event", {"payload": clean(payload, max_bytes=100_000)})  # does not return without a bound
    assert len(line) < 3_000_000
    assert b" more " in line


def test_a_huge_key_is_not_remembered() -> None:
    """Only the head of a key is looked at, so the cache holds no megabytes."""
    assert is_secret_key("password" + "x" * 10_000_000) is is_secret_key("password" + "x" * 248)
