"""Which names are of secrets: one rule for keys, settings, flags and headers."""

import pytest

from otel_agent_telemetry.secret_names import hides_secret, is_secret_key, lowered

VENDORS_KEYS = ["openai_key", "ANTHROPIC_KEY", "stripeKey", "aws_key", "google-maps-key", "datadog.key", "azureKey"]
COMPOUNDS = ["authtoken", "secretkey", "privatekey", "accesskey", "clientsecret", "userpassword", "sshkey", "storepass"]
OTHERS = ["pw", "db_pw", "smtp_pass", "basic_auth", "proxyAuth", "X-Auth", "auth_header", "secret_access_key"]
TOLD_ABOUT = [
    *("has_password", "is_secret", "password_changed_at", "passwordChangedAt", "api_key_count", "password_length"),
    *("token_type", "token_expires_in", "access_token_expires_at", "secret_name", "secret_key_ref", "cookie_domain"),
    *("password_policy", "password_reset_url", "requires_password", "no_auth", "use_token", "max_password_length"),
]
OTHER_KEYS = [
    *("primary_key", "sort_key", "cache_key", "idempotency_key", "public_key", "partition_key", "foreign_key", "key"),
    *("project_key", "dict_key", "key_id", "hotkey", "turkey", "keyboard", "issue_key", "routing_key"),
]
OTHER_WORDS = [
    *("auth_type", "authType", "oauth", "author", "pre_auth", "first_pass", "pass_rate", "bypass", "passenger"),
    *("tokenizer", "tokens", "secretary", "cookiecutter", "compass", "stop_token", "upward"),
]


@pytest.mark.parametrize("name", [*VENDORS_KEYS, *COMPOUNDS, *OTHERS])
def test_a_name_of_a_secret_is_known(name: str) -> None:
    """In snake, camel, kebab and dotted spelling, and written together."""
    assert is_secret_key(name)
    assert hides_secret(name, "x")


@pytest.mark.parametrize("name", [*TOLD_ABOUT, *OTHER_KEYS, *OTHER_WORDS])
def test_a_name_that_is_none_or_tells_about_one_is_left(name: str) -> None:
    """Keys of tables and caches, questions, counts, dates, words that merely begin alike."""
    assert not is_secret_key(name)


@pytest.mark.parametrize("text", ["", "ÄÖ", "İstanbul İ", "ẞ", "ﬁ", "Σς"])
def test_small_letters_stand_where_the_letters_of_the_text_do(text: str) -> None:
    """Of the same length, also where Unicode has two small letters for one."""
    assert len(lowered(text)) == len(text)
