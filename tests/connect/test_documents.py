"""Changes in place, over documents that nobody would write: JSON with comments, and TOML."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agent_telemetry.connect.agents import BY_NAME
from otel_agent_telemetry.connect.json_text import JsonText
from otel_agent_telemetry.connect.place import MISSING, NotReadableError, changed
from otel_agent_telemetry.connect.record import Record
from otel_agent_telemetry.connect.settings_file import _note, _undone_in
from otel_agent_telemetry.connect.toml_text import TomlText

NAMES = st.sampled_from(
    ["env", "telemetry", "a", "b c", 'q"', "é", "otel", "exporter", "A", "//", "OTEL_LOGS_EXPORTER"]
)
SCALARS = st.one_of(st.booleans(), st.integers(-9, 9), st.text("ab\"'\\#/*[]{}=,\n\té", max_size=6))
VALUES = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
JSON_DATA = st.dictionaries(NAMES, VALUES, max_size=4)


@st.composite
def json_texts(draw):
    """Some data as JSON with comments, commas at the end, and blanks of every kind."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\n\n", " ", ""]))
    comments = st.sampled_from(["", "", " /* , } */"] + ([" // { ,"] if "\n" in newline else []))
    indent = draw(st.sampled_from(["", "  ", "\t", "    "])) if "\n" in newline else ""

    def written(value, depth):
        if not isinstance(value, (dict, list)) or not value:
            blank = draw(st.sampled_from(["", " ", newline]))
            return {"{}": f"{{{blank}}}", "[]": f"[{blank}]"}.get(text := json.dumps(value), text)
        inner, last = newline + indent * (depth + 1), len(value) - 1
        named = value.items() if isinstance(value, dict) else enumerate(value)
        parts = []
        for at, (name, item) in enumerate(named):
            key = f"{json.dumps(name, ensure_ascii=False)}: " if isinstance(value, dict) else ""
            comma = "," if at < last or draw(st.booleans()) else ""
            parts.append(
                inner
                + draw(comments).strip()
                + (inner if "\n" in newline else " ")
                + key
                + written(item, depth + 1)
                + comma
                + draw(comments)
            )
        begin, end = "{}" if isinstance(value, dict) else "[]"
        return begin + "".join(parts) + newline + indent * depth + end

    data = draw(JSON_DATA)
    around = "\n" if "\n" in newline else ""
    text = draw(comments).strip() + around + written(data, 0) + draw(st.sampled_from(["", "\n", "\r\n"]))
    return text, data


TOML_BLOCKS = [
    "a = 1 # {name}", 'text = """\n[otel]\nexporter = 1 # "\n"""', "raw = '''\n[otel.x]\n'''", 'list = [\n  "]", # ]\n  { x = 1 },\n]',
    '"b c" = "#"', "dotted.otel.x = 'y'", "when = 1979-05-27T07:32:00Z",
]  # fmt: skip
TOML_TABLES = ["[otel]", "[otel.extra]", "[other]", '["o t"."x.y"]', "[[many]]", "[ otel . spaced ] # {name}"]


@st.composite
def toml_texts(draw):
    """A file of tables in any order, with texts that look like tables, comments and both line ends."""
    lines = draw(st.lists(st.sampled_from(TOML_BLOCKS), max_size=3, unique=True))
    for header in draw(st.lists(st.sampled_from(TOML_TABLES), max_size=4, unique=True)):
        blank = [""] * draw(st.integers(0, 2))
        lines += [*blank, header, *draw(st.lists(st.sampled_from(TOML_BLOCKS), max_size=3, unique=True))]
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n# end"]))
    return text if draw(st.booleans()) else text.replace("\n", "\r\n")


def written(document, wanted):
    """Write settings as `connect` does; return the record of it, None where the document refuses."""
    record = Record("file")
    try:
        for place, value in wanted.items():
            if document.value(place) != value:
                _note(record, document, place, value)
                document.put(place, value)
    except NotReadableError:
        return None
    return record


@settings(max_examples=40)
@given(json_texts())
def test_json_is_read_as_it_was_meant(given_json):
    text, data = given_json
    assert JsonText(text).data == data


@settings(max_examples=40)
@given(json_texts())
def test_writing_and_undoing_leaves_json_to_the_byte(given_json):
    """By the way that an edited file takes: ours are found and taken out again."""
    text, data = given_json
    document, wanted = JsonText(text), BY_NAME["claude-code"].wanted("http://h", None)
    wanted = {place: value for place, value in wanted.items() if value is not MISSING}
    record = written(document, wanted)
    if record is None:
        assert not isinstance(data.get("env", {}), dict)
        return
    expected = data
    for place, value in wanted.items():
        expected = changed(expected, place, value)
    assert JsonText(document.text).data == expected
    assert _undone_in(document, record).kept == []
    assert document.text == text


@settings(max_examples=40)
@given(json_texts(), NAMES, VALUES, st.booleans())
def test_edits_of_json_in_between_stay(given_json, name, value, is_removal):
    text, data = given_json
    document, wanted = JsonText(text), {("telemetry", "enabled"): True, ("telemetry", "target"): "local"}
    record = written(document, wanted)
    if record is None or name == "telemetry":
        return
    place = (name,)
    document.remove(place) if is_removal else document.put(place, value)
    _undone_in(document, record)
    assert document.data == changed(data, place, MISSING if is_removal else value)


@settings(max_examples=40)
@given(toml_texts())
def test_writing_and_undoing_leaves_toml_as_it_was(text):
    """To the byte, but for the end of a last line that had none."""
    document, wanted = TomlText(text), BY_NAME["codex"].wanted("http://h", "a token")
    record = written(document, wanted)
    assert record is not None
    values = tomllib.loads(document.text)
    assert all(values["otel"][place[1]] == value for place, value in wanted.items())
    assert _undone_in(document, record).kept == []
    assert document.text in (text, text + document.newline)


@settings(max_examples=40)
@given(toml_texts(), st.sampled_from(["first = 1\n", "# note\n"]), st.sampled_from(["[last]\nx = 1\n", "# end\n"]))
def test_edits_of_toml_in_between_stay(text, before, behind):
    document = TomlText(text)
    record = written(document, BY_NAME["codex"].wanted("http://h", None))
    edited = TomlText(f"{before}{document.text}\n{behind}")
    _undone_in(edited, record)
    assert edited.data == tomllib.loads(f"{before}{text}\n{behind}")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a"}',
        '{"a": }',
        "{} x",
        '{"a": 01}',
        '{"a": "\\x"}',
        '{"a": "\n"}',
        '{"a": 1 "b": 2}',
        "{a: 1}",
        "/* {}",
        "nul",
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text):
    with pytest.raises(NotReadableError, match="line 1"):
        JsonText(text)


def test_the_last_of_two_members_with_one_name_counts():
    """As every reader of JSON has it."""
    document = JsonText('{"a": 1, "a": 2}')
    document.put(("a",), 3)
    assert document.text == '{"a": 1, "a": 3}'
