"""Names of secrets: of keys in payloads, of settings, flags, headers and members within texts.

One rule for all of them, so that `DB_PASSWORD=x`, `{"dbPassword": "x"}` and `--db-password x`
are masked alike, and `primary_key`, `token_count` and `has_password` nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from otel_agent_telemetry.patterns import lazy

REDACTED: Final = "***REDACTED***"
"""What stands in place of a secret."""
_MAX_NAME: Final = 256
_WORDS: Final = lazy(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NOUNS: Final = frozenset(
    {"password", "passwords", "passwd", "passphrase", "passcode", "pwd", "pw", "passwort", "kennwort", "secret"}
    | {"secrets", "token", "authorization", "credential", "credentials", "cookie", "cookies", "bearer", "jwt"}
    | {"authtokens", "storepass", "keypass", "dbpass", "userpass", "adminpass", "rootpass", "sshpass"}
)
"""Words that name a secret by themselves, unless a word about it follows."""
_ENDINGS: Final = ("password", "passwd", "passphrase", "secret", "apikey", "apikeys", "authtoken", "accesstoken")
"""Ends of words that are written together: `PGPASSWORD`, `clientsecret`."""
_TOGETHER: Final = frozenset(
    kind + "token"
    for kind in ("refresh", "session", "id", "bot", "user", "csrf", "xsrf", "github", "gitlab", "npm", "login", "api")
)
_KINDS_OF_KEY: Final = frozenset(
    {"api", "access", "private", "priv", "secret", "auth", "session", "signing", "encryption", "decryption", "ssh"}
    | {"subscription", "account", "shared", "storage", "master", "admin", "app", "application", "service", "client"}
    | {"consumer", "license", "licence", "deploy", "hmac", "aes", "rsa", "gpg", "pgp", "ecdsa", "crypto", "cipher"}
    | {"webhook", "ingest", "ingestion", "instrumentation", "integration", "db", "database", "role", "anon", "jwt"}
    | {"token", "security", "recovery", "wallet", "tls", "ssl", "cookie"}
)
_VENDORS: Final = frozenset(
    {"ibm", "iam", "cloudant", "softlayer", "openai", "anthropic", "claude", "gemini", "google", "gcp", "vertex"}
    | {"azure", "aws", "bedrock", "cohere", "mistral", "groq", "xai", "grok", "perplexity", "pplx", "together"}
    | {"fireworks", "deepseek", "replicate", "huggingface", "hf", "langsmith", "langchain", "langfuse", "helicone"}
    | {"portkey", "litellm", "openrouter", "nvidia", "cerebras", "stability", "elevenlabs", "assemblyai", "deepgram"}
    | {"tavily", "serp", "serpapi", "serper", "exa", "brave", "bing", "firecrawl", "jina", "voyage", "pinecone"}
    | {"weaviate", "qdrant", "supabase", "firebase", "stripe", "paypal", "square", "braintree", "adyen", "twilio"}
    | {"sendgrid", "mailgun", "mailchimp", "postmark", "resend", "brevo", "slack", "discord", "telegram", "github"}
    | {"gitlab", "bitbucket", "notion", "airtable", "hubspot", "salesforce", "zendesk", "shopify", "datadog", "dd"}
    | {"newrelic", "sentry", "honeycomb", "grafana", "splunk", "pagerduty", "opsgenie", "cloudflare", "fastly"}
    | {"digitalocean", "heroku", "vercel", "netlify", "linode", "algolia", "meili", "meilisearch", "typesense"}
    | {"elastic", "mapbox", "maps", "weather", "openweather", "wandb", "rapidapi", "alphavantage", "alchemy"}
    | {"infura", "etherscan", "binance", "coinbase", "runpod", "databricks", "snowflake", "segment", "mixpanel"}
    | {"amplitude", "posthog", "rollbar", "bugsnag", "launchdarkly", "ngrok", "tailscale", "doppler", "vault", "npm"}
    | {"pypi", "nuget", "docker", "sonar", "snyk"}
)
"""Before `key`: whose key it is."""
_KINDS_OF_TOKENS: Final = frozenset({"access", "api", "auth", "bearer", "refresh", "session"})
_KEYS_TOGETHER: Final = frozenset(kind + noun for kind in _KINDS_OF_KEY - {"app", "db"} for noun in ("key", "keys"))
_OWNERS_OF_PASS: Final = frozenset(
    {"db", "database", "user", "smtp", "imap", "mail", "email", "redis", "mysql", "pg", "postgres", "postgresql"}
    | {"mongo", "mongodb", "rabbitmq", "amqp", "ftp", "sftp", "ssh", "http", "https", "proxy", "ldap", "bind"}
    | {"admin", "root", "login", "auth", "basic", "api", "wifi", "sudo", "app", "my", "key", "keystore", "truststore"}
    | {"store", "jdbc", "es", "elastic", "kafka", "vnc", "rdp", "wp", "sql", "mssql", "oracle", "account", "service"}
    | {"master", "x", "vault", "jenkins", "git", "github", "gitlab", "nexus", "registry", "docker", "sa", "cert"}
    | {"new", "old"}
)
"""Before `pass` and `auth`, which are something else in `first_pass` and `pre_auth`."""
_AUTH_CONTENT: Final = frozenset({"header", "headers", "value", "string", "data", "b64", "base64", "blob"})
"""After `auth`, which alone is a secret only as the last word."""
_ABOUT: Final = frozenset(
    {"count", "counts", "counter", "usage", "used", "limit", "limits", "budget", "total", "type", "types", "length"}
    | {"size", "cost", "rate", "latency", "time", "ms", "s", "seconds", "changed", "change", "set", "at", "updated"}
    | {"created", "expires", "expired", "expiry", "expiration", "exp", "ttl", "age", "policy", "strength", "required"}
    | {"valid", "invalid", "validity", "validated", "status", "state", "enabled", "disabled", "name", "names", "file"}
    | {"files", "path", "paths", "dir", "url", "uri", "endpoint", "field", "fields", "label", "prompt", "present"}
    | {"exists", "missing", "provided", "configured", "rotated", "rotation", "version", "arn", "ref", "source"}
    | {"location", "provider", "manager", "scope", "scopes", "format", "algorithm", "alg", "method", "mode", "kind"}
    | {"index", "position", "last", "min", "max", "attempts", "failures", "errors", "error", "verified", "reset"}
    | {"found", "domain", "consent", "banner", "issuer", "audience", "bucket", "stats", "remaining", "left", "match"}
    | {"prefix", "suffix", "fingerprint", "requirements", "authentication", "revoked", "issued", "refreshed", "sent"}
)
"""After a noun: the name is about a secret, and its value is none."""
_PARTS: Final = frozenset({"key", "keys", "access", "token", "tokens"})
_IDS: Final = frozenset({"id", "ids"})
_QUESTIONS: Final = frozenset(
    {"has", "have", "is", "are", "was", "needs", "need", "requires", "require", "required", "use", "uses", "with"}
    | {"without", "no", "missing", "invalid", "wrong", "num", "n", "count", "allow", "allows", "enable", "enabled"}
    | {"disable", "supports", "support", "show", "hide", "total", "should", "can", "max", "min"}
)
"""Before everything else: the name asks whether, or how many."""
_MODEL_TOKENS: Final = frozenset({"first", "last", "per", "stop", "bos", "eos", "pad", "unk", "mask", "sep", "cls"})
"""Before `token`: a model's token, as in `time_to_first_token` and `cost_per_token`."""
_PLURALS: Final = ("passwords", "secrets", "tokens", "credentials", "cookies", "keys")
_SCHEMES: Final = frozenset(
    {"basic", "bearer", "digest", "none", "oauth", "oauth2", "oidc", "saml", "iam", "ntlm", "negotiate", "kerberos"}
    | {"jwt", "apikey", "api_key", "token", "mtls", "plain", "login", "anonymous", "yes", "no", "on", "off", "ok"}
    | {"true", "false", "required", "optional", "failed", "success", "disabled", "enabled", "error", "denied", "skip"}
)
"""What `auth` and `pass` may hold besides a secret."""
_TYPES_OF_A_SCHEMA: Final = ("string", "object", "array", "number", "integer", "boolean", "null")
_PATH: Final = lazy(r"(?:~|\.{1,2}|[A-Za-z]:)?[/\\][\w.@ /\\-]*")
_HOLDS_A_PATH: Final = ("pwd", "credential", "credentials")


def is_secret_key(key: str) -> bool:
    """Return whether a key names a secret: `api_key`, `X-Auth-Token`, `dbPassword`; not `token_count`.

    Only its first 256 characters are looked at (and remembered).
    """
    return _names_secret(key if len(key) <= _MAX_NAME else key[:_MAX_NAME])


@lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: `dbPassword` has two."""
    return tuple(word.lower() for word in _WORDS.findall(name))


@lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    """Return whether one of the words of a key names a secret between its neighbours."""
    words = ("", *words_of(key), "")
    if len(words) > 3 and words[1] in _QUESTIONS:  # noqa: PLR2004 - a question and what it is about
        return False
    return any(_is_noun_of_secret(words[at - 1], words[at], _word_behind(words, at)) for at in range(1, len(words) - 1))


def _word_behind(words: tuple[str, ...], at: int) -> str:
    """Return the word that follows a noun and what belongs to it: `ref` in `secret_key_ref`."""
    behind = at + 1
    while words[behind] in _PARTS and words[at] not in ("key", "keys"):
        behind += 1
    return words[behind]


def _is_noun_of_secret(before: str, word: str, following: str) -> bool:
    """Return whether a word names a secret between its neighbours, each empty at an end of the name."""
    if following in _ABOUT:
        is_secret = False
    elif word in ("key", "keys"):
        is_secret = before in _KINDS_OF_KEY or (before in _VENDORS and following not in _IDS)
    elif word == "tokens":
        is_secret = before in _KINDS_OF_TOKENS
    elif following in _IDS:
        is_secret = word in _KEYS_TOGETHER
    elif word == "pass":
        is_secret = not following and (not before or before in _OWNERS_OF_PASS)
    elif word == "auth":
        is_secret = (not before or before in _OWNERS_OF_PASS) and (not following or following in _AUTH_CONTENT)
    elif word == "token":
        is_secret = before not in _MODEL_TOKENS
    else:
        is_secret = word in _NOUNS or word in _TOGETHER or word in _KEYS_TOGETHER or word.endswith(_ENDINGS)
    return is_secret


def hides_secret(key: str, value: Any) -> bool:
    """Return whether the value under a key is a secret: its name says so, and the value can be one.

    None, truth values and empty texts are none; nor are numbers under names of several things
    (`passwords`), a scheme under `auth`, a folder under `PWD`. Members of an `auth` object are
    looked at one by one.
    """
    if not is_secret_key(key):
        return False
    kind = type(value)
    if value is None or kind is bool:
        return False
    if kind is int or kind is float:
        last = words_of(key)[-1:]
        return last != ("pass",) and not key.lower().endswith(_PLURALS)
    if isinstance(value, Mapping):
        return words_of(key)[-1:] != ("auth",) and value.get("type") not in _TYPES_OF_A_SCHEMA
    return kind is not str or not is_plain_value(key, value)


def is_plain_value(name: str, text: str) -> bool:
    """Return whether a text under a secret's name is none: empty, a scheme of `auth`, a path."""
    if not text or text.isspace():
        return True
    last = words_of(name)[-1:]
    if last in (("auth",), ("pass",)):
        return text.lower() in _SCHEMES
    return last != () and last[0] in _HOLDS_A_PATH and _PATH.fullmatch(text) is not None


def lowered(text: str) -> str:
    """Return the text in lower case, of the same length: one letter of Unicode (U+0130) would become two."""
    low = text.lower()
    return low if len(low) == len(text) else text.replace("\u0130", "i").lower()
