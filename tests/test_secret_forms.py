"""Forms of secrets against what detect-secrets knows: each of its plugins is asked for what we mask."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from corpus import HARMLESS, SECRETS, filled, samples_of
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.keyword import KeywordDetector

from otel_agent_telemetry.secret_forms import TOKEN_FORMS
from otel_agent_telemetry.secret_patterns import mask_text

PLUGINS = {
    kind: plugin
    for kind, plugin in sorted(get_mapping_from_secret_type_to_class().items())
    if issubclass(plugin, RegexBasedDetector)
}
NOT_MASKED = {
    "Artifactory Credentials": "short words that begin with `AP` or `AKC`: as short as ordinary names",
    "Public IP (ipv4)": "an address is no secret",
    "Private Key": "the plugin reports the first line alone; keys are masked as a whole, see the corpus",
}
"""Plugins whose findings we leave, and why. High entropy alone is none: hashes and ids are kept."""
PARTLY_MASKED = {
    "AWS Access Key": '^(x = ")?awsx',
    "Cloudant Credentials": r"apipass|apipw|:: |\"\]? {2,}\"|\[\"[^\"]*\] ",
    "IBM COS HMAC Credentials": r":: |\"\]? {2,}\"|\[\"[^\"]*\] ",
    "IBM Cloud IAM Key": r"iamapi|:: |\"\]? {2,}\"|\[\"[^\"]*\] ",
    "SoftLayer Credentials": r"soap/v3|layerapi|:: |\"\]? {2,}\"|\[\"[^\"]*\] ",
}
"""Plugins of which we miss a part: 40 characters anywhere behind `aws`, a key in the path of SoftLayer's old address,
some spellings of names, and settings that no language writes (`["key"]   "value"`)."""


def findings(plugin: type[RegexBasedDetector]) -> list[tuple[str, str]]:
    """Texts that show each alternative of a plugin's patterns, each with the secret that the plugin finds in it."""
    found = []
    for pattern in plugin.denylist:
        for sample in samples_of(pattern.pattern, longer=12):
            for text in (sample, f'x = "{sample}"'):
                secrets = [secret for secret in plugin().analyze_string(text) if secret]
                found += [(text, secret) for secret in secrets[:1]]
    return found


@pytest.mark.parametrize("kind", sorted(PLUGINS.keys() - NOT_MASKED.keys()))
def test_what_a_plugin_finds_is_masked(kind: str) -> None:
    """Every alternative of its patterns, but for the stated spellings."""
    missed = [text for text, secret in findings(PLUGINS[kind]) if secret.strip() in mask_text(text)]
    unexpected = PARTLY_MASKED.get(kind)
    assert [text for text in missed if unexpected is None or re.search(unexpected, text) is None] == []


@pytest.mark.parametrize("kind", sorted(NOT_MASKED))
def test_what_is_stated_as_left_exists(kind: str) -> None:
    """A plugin that is gone needs no reason any more."""
    assert kind in PLUGINS


KEYWORD_LINES = [
    *('{} = "hunter2b"', "{} = 'hunter2b'", "{}: hunter2b", '{}: "hunter2b"', '"{}": "hunter2b"', "{}=hunter2b"),
    *('{} := "hunter2b"', "{} => 'hunter2b'", 'if {} == "hunter2b":', 'x["{}"] = "hunter2b"', "{} = hunter2b"),
]
KEYWORDS = [
    *("api_key", "apikey", "auth_key", "authkey", "service_key", "servicekey", "account_key", "accountkey"),
    *("db_key", "database_key", "priv_key", "private_key", "client_key", "db_pass", "dbpass", "database_pass"),
    *("key_pass", "keypass", "password", "passwd", "pwd", "secret", "my_password", "client_secret", "DB_PWD"),
]


@pytest.mark.parametrize("name", KEYWORDS)
def test_what_stands_behind_a_keyword_is_masked(name: str) -> None:
    """Its words for secrets, in settings, JSON, YAML and code."""
    lines = [line.format(name) for line in KEYWORD_LINES]
    assert list(KeywordDetector().analyze_string(lines[0]))
    assert [line for line in lines if "hunter2b" in mask_text(line)] == []


def test_the_oracle_finds_less_than_we_do() -> None:
    """How much of our corpus its plugins find, and what they report in harmless texts: a reason to own the patterns."""
    plugins = [plugin() for plugin in (*PLUGINS.values(), KeywordDetector)]

    def finds(text: str) -> bool:
        return any(list(plugin.analyze_string(line)) for line in text.splitlines() for plugin in plugins)

    counts = Counter(
        secrets=len(SECRETS),
        found=sum(finds(re.sub("[«»]", "", filled(line, 0))) for line in SECRETS),
        harmless=len(HARMLESS),
        reported=sum(map(finds, HARMLESS)),
    )
    print(dict(counts))
    assert counts["found"] < counts["secrets"]
    assert counts["reported"] > 0


def test_the_rows_of_the_table_are_sound() -> None:
    """Prefixes are unique, and long enough for their sign: two characters before a separator."""
    prefixes = [prefix for form in TOKEN_FORMS for prefix in form.prefixes]
    assert len(prefixes) == len(set(prefixes))
    assert all(form.least >= 10 for form in TOKEN_FORMS)
