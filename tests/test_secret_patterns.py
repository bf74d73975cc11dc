"""Secrets in texts: which are masked, which harmless texts stay as they are, and what it costs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

import pytest
from corpus import HARMLESS, SECRETS, filled, samples_of
from costs import growth

from otel_agent_telemetry import secret_patterns
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.secret_forms import TOKEN_FORMS
from otel_agent_telemetry.secret_patterns import REDACTED, is_harmless, mask_text

_QUOTES = r"[\\\"']*"


def marked(line: str) -> tuple[str, str, list[str]]:
    """Return the text of a line of the corpus, the text as it is to be kept, and the secrets in it."""
    kept = re.sub("«.*?»", REDACTED, line, flags=re.DOTALL)
    return line.replace("«", "").replace("»", ""), kept, re.findall("«(.*?)»", line, re.DOTALL)


def without_quotes(text: str) -> str:
    """The text without quotes around masks: a number or an array is masked as a text."""
    return re.sub(_QUOTES + re.escape(REDACTED) + _QUOTES, REDACTED, text)


@pytest.mark.parametrize("line", SECRETS)
def test_a_secret_is_masked_and_what_stands_around_it_is_kept(line: str) -> None:
    """Tokens of vendors, addresses, headers, settings, JSON, code, command lines, keys: alone and in a payload."""
    for seed in range(3 if "{" in line else 1):
        text, kept, secrets = marked(filled(line, seed))
        masked = mask_text(text)
        assert without_quotes(masked) == without_quotes(kept)
        assert mask_text(masked) is masked
        assert not is_harmless(f"x\n{text}\ny")
        assert not [secret for secret in secrets if secret in str(clean({"note": text}))]


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    """Ordinary words, hashes, ids, code, addresses, log lines: alone, in a payload, and by the quick way."""
    assert mask_text(text) is text
    assert is_harmless(text)
    payload = {"note": text, "list": [text]}
    assert clean(payload) is payload


def test_the_figures_of_the_corpora() -> None:
    """At least 200 harmless texts without a false alarm, and no secret missed."""
    texts = [marked(filled(line, 0)) for line in SECRETS]
    missed = [text for text, _, secrets in texts if any(secret in mask_text(text) for secret in secrets)]
    false_alarms = [text for text in HARMLESS if mask_text(text) != text]
    print(f"{len(texts)} secrets, {len(missed)} missed; {len(HARMLESS)} harmless, {len(false_alarms)} false alarms")
    assert (len(missed), len(false_alarms)) == (0, 0)
    assert len(texts) >= 250
    assert len(HARMLESS) >= 200


TOKEN_SAMPLES = samples_of(secret_patterns._TOKENS.pattern)
PREFIXES = [prefix for form in TOKEN_FORMS for prefix in form.prefixes]


def test_there_is_a_sample_of_every_prefix() -> None:
    """Prefixes that continue another one of the table are matched as that one."""
    missing = [
        prefix
        for prefix in PREFIXES
        if not any(sample.lower().startswith(prefix.lower()) for sample in TOKEN_SAMPLES)
        and not any(prefix != other and prefix.startswith(other) for other in PREFIXES)
    ]
    assert missing == []


@pytest.mark.parametrize("token", TOKEN_SAMPLES)
def test_a_sample_of_every_token_has_the_sign_that_is_looked_for_first(token: str) -> None:
    """Each alternative of the pattern is found, wherever it stands: no sign hides it from its pattern."""
    for text in (token, f"with {token} now", f"\n{token}\n", f'{{"raw": "a\\n{token}"}}', f"id={token}"):
        assert mask_text(text) == text.replace(token, REDACTED)


@pytest.mark.parametrize("token", [sample for sample in TOKEN_SAMPLES if sample.lower() in sample])
def test_tokens_in_small_letters_are_known_in_capitals_too(token: str) -> None:
    """Programs that write messages in capitals hide nothing."""
    assert mask_text(token.upper()) == REDACTED


CONTEXTS: tuple[Callable[[str], str], ...] = (
    lambda sample: sample,
    lambda sample: f"https://{sample}@host/x",
    lambda sample: f"https://{sample}",
    lambda sample: f"https://x{sample}",
)
FORMS = [
    (form, sample)
    for sign, form, _ in secret_patterns._OTHER_FORMS
    for sample in samples_of(form.pattern)
    if form is not secret_patterns._BASIC
]


@pytest.mark.parametrize(("form", "sample"), FORMS, ids=[sample for _, sample in FORMS])
def test_a_sample_of_every_form_has_its_sign(form: re.Pattern[str], sample: str) -> None:
    """A sample of each alternative, in the first context that its form finds it in, is masked."""
    texts = [text for context in CONTEXTS if form.search(text := context(sample)) is not None]
    assert texts
    assert REDACTED in mask_text(texts[0])


@pytest.mark.parametrize("blank", [" ", "   ", "%20"])
def test_basic_credentials_are_known_by_a_digit_or_a_capital_inside(blank: str) -> None:
    """Words that follow `basic` in a sentence have neither."""
    assert mask_text(f"Basic{blank}dXNlcjpwYXNzd29yZA==") == REDACTED


def test_a_private_key_is_masked_to_its_end() -> None:
    """Of any length, in JSON too; the text behind it stays, and of a key that is cut nothing does."""
    body = "\n".join("A1b2C3d4" * 8 for _ in range(3000))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert mask_text(f"a {key} b {key} c") == f"a {REDACTED} b {REDACTED} c"
    assert mask_text(f"a {key[:100_000]}") == f"a {REDACTED}"
    assert json.loads(mask_text(json.dumps({"pem": key, "n": 1}))) == {"pem": REDACTED, "n": 1}


def test_a_secret_is_found_wherever_it_stands_in_a_long_text() -> None:
    """Behind a megabyte as at the begin, and across the windows that a text is taken in."""
    words = "lorem ipsum dolor sit amet " * 2_600
    for length in (0, 65_530, 65_536, len(words)):
        text = f"{words[:length]} ghp_{'a1' * 18} end"
        assert mask_text(text) == f"{words[:length]} {REDACTED} end"
    assert "hunter2" not in mask_text(words * 10 + "password=hunter2")


def test_a_text_changes_nothing_in_its_neighbours() -> None:
    """What is harmless alone is harmless beside others."""
    chosen = random.Random(1)
    for _ in range(200):
        assert is_harmless("\n".join(chosen.choices(HARMLESS, k=4)))


UNITS = [
    *("eyJ-", "eyJa.", "://a:b", "://a:b@c/", "Bearer ", "Basic ", "Basic aa", "sk-a ", "sk-", "password='", "x@"),
    *("?token=", "AKIA", "x-", "cookie:", "'token': '", "x-key: ", "token", "token.", "password: a1 ", "pass=,"),
    *('{"key":', '"token"}', '{"value":"', '"key", "', '["--token", ', "--token ", "curl -u ", "mysql -p", "key="),
    *("-----begin private key-----", "login a password ", "a:5432:b:c:", "hooks.slack.com/services/", "secret>"),
    *("aA", "a.", "1", "\\", "\\n", "set key ", '"a":"b",', "password=$(", "API key: ", "-u"),
]


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_makes_the_patterns_crawl(unit: str) -> None:
    """Text made to match almost, over and over, is scanned in linear time."""

    def masking(size: int) -> Callable[[], str]:
        text = unit * (size // len(unit))
        return lambda: mask_text(text)

    assert growth(masking, small=4_000, large=32_000) < 30  # 8 when it is linear, 64 when it is quadratic
