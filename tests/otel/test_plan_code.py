"""Functions that are generated for names and types of values."""

from __future__ import annotations

import orjson
import pytest

from otel_agent_telemetry.otel.attribute_plan import AttributePlans
from otel_agent_telemetry.otel.content import ContentRule
from otel_agent_telemetry.otel.plan_code import payload_encoder

ODD_NAMES = ("a'b", 'a"b', "a\nb", "{x}", "\\", "%s", "attributes", "import os", "grüße", "\u2028")


def refused(_attributes):
    return b"otherwise"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_literals_of_the_generated_code(name):
    """Whatever an application calls its attributes, no name is read as code."""
    encode = payload_encoder({name: "x", "other": 1}, refused)
    assert orjson.loads(encode({name: "y", "other": 2})) == {name: "y", "other": 2}


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1]])
def test_values_of_other_types_are_left_to_the_other_way(value):
    """Also those that equal the one that the function was made for."""
    assert payload_encoder({"a": 1}, refused)({"a": value}) == b"otherwise"


@pytest.mark.parametrize("text", ["Bearer abcdefghijkl", "password=hunter2", "\ud800"])
def test_texts_that_need_a_closer_look_are_not_encoded(text):
    """A secret by its form, and what JSON cannot hold."""
    assert payload_encoder({"a": "x", "b": "y"}, refused)({"a": "x", "b": text}) is None


def test_a_function_is_made_for_names_that_come_again():
    """Names that come once cost no compilation; more than a bounded number of plans is never kept."""
    plans = AttributePlans(ContentRule(), max_bytes=1_000_000)
    plan = plans["step", "tool"]
    first = plan.encode_payload
    for number in range(plans.compiled_from):
        assert orjson.loads(plan.encode_payload({"step": number, "tool": "t"})) == {"step": number, "tool": "t"}
    assert plan.encode_payload != first
    for number in range(1_000):
        plans[f"name {number}",]
    assert len(plans) <= 256
