"""Secrets masked at any depth, sizes bounded, everything else left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.redaction import clean, is_secret_key
from otel_agent_telemetry.secret_patterns import REDACTED, mask_text

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
