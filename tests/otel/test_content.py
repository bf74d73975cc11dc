"""The rule for message content: by name, kind of value and length."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
import warnings

import openinference.semconv.trace
import opentelemetry.semconv._incubating.attributes as incubating
import opentelemetry.semconv_ai
import pytest
from hypothesis import given
from hypothesis import strategies as some
from on_disk import ROOT

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import ContentRule, Verdict, names_content
from otel_agent_telemetry.otel.conventions.content_words import CONTENT_WORDS, FORMAT_WORDS
from tests.otel.content_cases import HARMLESS, LEAKS

RULE = ContentRule()
LONG = "What the person asked for, in so many words that nobody would take it for a name. "
SHORT = "say hello"


# --- names


def registry(package):
    """Names in the modules of opentelemetry-semantic-conventions."""
    for module in pkgutil.iter_modules(package.__path__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        yield from (value for name, value in found.items() if name.isupper() and isinstance(value, str))


def constants(module):
    """Names in the classes of a module that hold attributes."""
    for name, holder in inspect.getmembers(module, inspect.isclass):
        if name.endswith("Attributes"):
            if issubclass(holder, enum.Enum):
                yield from (item.value for item in holder)
            else:
                yield from (value for key, value in vars(holder).items() if key.isupper() and isinstance(value, str))


AI_NAMESPACES = ("gen_ai.", "mcp.", "openai.", "aws.bedrock.", "az.ai", "db.", "graphql.", "exception.", "error.")
CONVENTIONS = sorted(
    {
        *(name for name in registry(incubating) if name.startswith(AI_NAMESPACES)),
        *constants(opentelemetry.semconv_ai),
        *constants(openinference.semconv.trace),
    }
)
READ = frozenset({"metadata", "traceloop.association.properties"})
"""Names whose values the application makes up, read for the agent's name or the session: judged as unknown ones."""


def test_every_name_of_the_installed_conventions_is_known_or_left_out():
    """A convention that adds a name fails here until somebody has looked whether it is content."""
    assert [name for name in CONVENTIONS if name not in READ and RULE.verdict(name) is Verdict.SHORT] == []


def test_the_conventions_were_found():
    """Else the test above tests nothing."""
    assert len(CONVENTIONS) > 300
    assert {"gen_ai.input.messages", "mcp.response.value", "reranker.query", "db.query.result.document"} <= {
        *CONVENTIONS
    }


def test_texts_under_names_of_content_are_left_out():
    """Long and short ones, lists of them, maps, and under any spelling of the name."""
    for name in LEAKS:
        for value in (LONG, SHORT, [SHORT], (LONG, LONG), b"bytes", {"a": 1}, [{"role": "user"}]):
            for spelling in (name, name.upper(), f"{name}.0", f"{name}.1.2"):
                kept, left_out = RULE.keep({spelling: value})
                assert (spelling, kept, list(left_out.values())) == (spelling, {}, [1])


def test_texts_under_well_known_names_are_kept():
    """Whatever their length, and lists of them."""
    assert len(HARMLESS) > 100
    for name in HARMLESS:
        for value in (SHORT, LONG, [LONG, LONG]):
            assert RULE.keep({name: value}) == ({name: value}, {})


@pytest.mark.parametrize("value", [0, 7, -1.5, True, False, None, 2**70])
@pytest.mark.parametrize("name", ["ai.prompt", "tool.result", "unknown", "input.value"])
def test_numbers_and_booleans_are_kept_under_any_name(name, value):
    """They say how much, not what."""
    assert RULE.keep({name: value}) == ({name: value}, {})


@pytest.mark.parametrize(
    ("name", "is_content"),
    [
        *[
            ("user_prompt", True),
            ("userPrompt", True),
            ("UserPROMPT", True),
            ("user-prompts", True),
            ("userprompt", True),
        ],
        *[("a.b.QUERIES", True), ("replies", True), ("LLMInput", True), ("tool/args", True), ("x.0.message.3", True)],
        *[("response_json", True), ("arguments_raw_str", True), ("prompt.preview", True), ("last_message", True)],
        *[("prompt_id", False), ("message.count", False), ("input.mime_type", False), ("prompt_tokens", False)],
        *[("request.method", False), ("result_code", False), ("textual", False), ("throughput", False), ("", False)],
        *[("json", False), ("0", False), ("message.role", False), ("subtext", False), ("outputs_dir", False)],
    ],
)
def test_the_last_word_of_a_name_says_whether_it_is_content(name, is_content):
    """Whatever divides the words; numbers and words of forms are passed over."""
    assert names_content(name) is is_content


def test_every_word_has_its_plural():
    """`query` and `queries`, `result` and `results`."""
    for word in CONTENT_WORDS - {"tools", "functions"}:
        plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
        assert names_content(f"x.{word}")
        assert names_content(f"x.{plural}")


def test_the_table_does_not_contradict_itself():
    """No name is content and known; words are in lower case, as they are compared."""
    known = names.KNOWN | names.KNOWN_NAMESPACES | names.FIGURES | names.URLS
    assert (names.CONTENT | names.CONTENT_NAMESPACES) & known == set()
    assert [word for word in CONTENT_WORDS | FORMAT_WORDS if word != word.lower()] == []


def test_the_words_are_on_the_page():
    """docs/reference/content.md names all of them and no other."""
    page = (ROOT / "docs/reference/content.md").read_text()
    told = re.findall(r"`([^`]+)`", page.split("The words:")[1].split("The names that")[0])
    assert sorted(told) == sorted(CONTENT_WORDS)


# --- values


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 65, None),
        (["x" * 32, "y" * 32], ["x" * 32, "y" * 32]),
        (["x" * 32, "y" * 33], None),
        ([1, 2.5, True] * 100, [1, 2.5, True] * 100),
        (b"x" * 65, None),
        ('{"n": 1, "kind": "b"}', '{"n": 1, "kind": "b"}'),
        ('{"n": 1, "content": "hi"}', None),
        ("[{'role': 'user', 'text': 'hi'}]", None),
        ({"n": 1, "prompt": "hi", "kind": "b", "long": "x" * 65}, {"n": 1, "kind": "b"}),
        ([{"n": 1, "prompt": "hi"}, {"n": 2}], [{"n": 1}, {"n": 2}]),
        ({"a": {"b": {"answer": "hi", "n": 3}}}, {"a": {"b": {"n": 3}}}),
        ({"result": 5}, {"result": 5}),
        (object(), None),
    ],
)
def test_values_under_an_unknown_name(value, kept):
    """Short texts, numbers, and of maps the members that are either."""
    attributes, left_out = RULE.keep({"tenant": value})
    assert attributes.get("tenant") == kept
    assert bool(left_out) is (kept != value)


def test_members_of_a_map_share_the_characters():
    """Else a conversation would pass in pieces."""
    kept, left_out = RULE.keep({"notes": {str(number): "x" * 30 for number in range(5)}})
    assert kept == {"notes": {"0": "x" * 30, "1": "x" * 30}}
    assert left_out == {"notes.*": 3}


def test_a_map_that_holds_itself_is_left_out():
    """An application may set one as an event's attribute."""
    circle = {"n": 1}
    circle["again"] = circle
    assert RULE.keep({"tenant": circle})[1]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("url.full", "https://h.example/a/b?q=my+secret#here", "https://h.example/a/b"),
        ("http.target", "/search?q=flu", "/search"),
        ("http.url", "https://h.example/" + "a" * 200, "https://h.example/" + "a" * 200),
        ("http.request.header.referer", ["https://h/?q=1", "https://h/"], ["https://h/", "https://h/"]),
        ("mcp.resource.uri", "data:text/plain,hello", "data:"),
    ],
)
def test_urls_are_kept_without_their_query(name, value, kept):
    """The name is counted where something was left out."""
    assert RULE.keep({name: value}) == ({name: kept}, {} if kept == value else {name: 1})


@given(
    some.dictionaries(
        some.text(max_size=20),
        some.recursive(
            some.none() | some.text() | some.integers() | some.binary(),
            lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
        ),
        max_size=5,
    )
)
def test_what_is_kept_is_kept_again(attributes):
    """The rule applied twice gives the same, whatever the attributes; nothing is changed that was given."""
    before = repr(attributes)
    kept, _ = RULE.keep(attributes)
    assert RULE.keep(kept) == (kept, {})
    assert repr(attributes) == before


# --- settings


def test_everything_is_kept_where_content_is_asked_for():
    """Queries of URLs, too."""
    attributes = {"ai.prompt": LONG, "url.full": "https://h/?q=1", "x": LONG}
    assert ContentRule(capture=True).keep(attributes) == (attributes, {})
    assert ContentRule(capture=True).keep_of_event("gen_ai.choice", attributes) == (attributes, {})


@pytest.mark.parametrize("allowed", ["gen_ai.tool.call", "GEN_AI.Tool.*", "gen_ai.tool.call.arguments", "gen_ai"])
def test_names_that_are_allowed_are_kept_with_those_below(allowed):
    """In any case, with or without a star."""
    rule = ContentRule(allow=(allowed,))
    attributes = {"gen_ai.tool.call.arguments": LONG}
    assert rule.keep(attributes) == (attributes, {})
    assert rule.keep({"ai.toolCall.args": LONG})[0] == {}


def test_no_text_of_unknown_names_is_kept_with_a_maximum_of_0():
    """Known names, numbers and empty texts still are."""
    kept, _ = ContentRule(unknown_max=0).keep({"a": "x", "b": "", "c": 1, "k8s.pod.name": "p"})
    assert kept == {"b": "", "c": 1, "k8s.pod.name": "p"}


# --- events


@pytest.mark.parametrize(
    ("event", "payload", "kept"),
    [
        ("gen_ai.user.message", {"content": LONG, "role": "user"}, {"role": "user"}),
        (
            "gen_ai.choice",
            {"message": {"content": "hi"}, "index": 0, "finish_reason": "stop"},
            {"index": 0, "finish_reason": "stop"},
        ),
        ("gen_ai.content.prompt", {"gen_ai.prompt": SHORT}, {}),
        ("GEN_AI.Choice", {"message": SHORT}, {}),
        ("gen_ai.client.inference.operation.details", {"gen_ai.input.messages": [{"role": "u"}]}, {}),
        (
            "exception",
            {"exception.type": "E", "exception.message": LONG, "exception.stacktrace": LONG, "hint": LONG},
            {"exception.type": "E", "exception.message": LONG, "exception.stacktrace": LONG},
        ),
        (
            "ai.stream.firstChunk",
            {"ai.response.msToFirstChunk": 5, "ai.value": SHORT},
            {"ai.response.msToFirstChunk": 5},
        ),
        (
            "db.query.result",
            {"db.query.result.id": "7", "db.query.result.document": SHORT},
            {"db.query.result.id": "7"},
        ),
        (
            "LLMChatStartEvent",
            {"messages": LONG, "model_dict.model": "m", "span_id": "s"},
            {"model_dict.model": "m", "span_id": "s"},
        ),
        ("short_term_memory.save", {"value": LONG, "n": 1}, {"n": 1}),
        ("guard.evaluation", {"guard.name": "pii", "guard.explanation": LONG}, {"guard.name": "pii"}),
        ("checkpoint", {"message": LONG, "query": LONG, "n": 1}, {"message": LONG, "query": LONG, "n": 1}),
        ("checkpoint", {"message": LONG, "gen_ai.input.messages": SHORT}, {"message": LONG}),
        ("generated", {"text": LONG}, {"text": LONG}),
    ],
)
def test_events_of_conventions_are_judged_and_the_applications_own_are_kept(event, payload, kept):
    """Of an event under a name of its own only what a convention lists as content is left out."""
    assert RULE.keep_of_event(event, payload)[0] == kept


def test_names_that_an_application_makes_up_do_not_fill_the_memory():
    """Verdicts are remembered for some thousands of names of bounded length."""
    rule = ContentRule()
    for number in range(10_000):
        rule.verdict(f"made.up.{number}")
    assert len(rule._verdicts) <= 4096
    assert rule.verdict("x" * 10_000 + ".prompt") is Verdict.CONTENT
    assert rule.verdict("ai.prompt." + "x" * 10_000) is Verdict.CONTENT
    assert all(len(name) < 300 for name in rule._verdicts)
