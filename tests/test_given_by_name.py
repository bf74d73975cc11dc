"""Classes whose fields are given by name are what frozen dataclasses are to their users."""

from __future__ import annotations

import copy
import pickle

import pytest

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.given_by_name import GivenByName


class Row(GivenByName):
    """A field without a default, and two with one."""

    name: str
    words: tuple[str, ...] = ()
    count: int = 0


def test_fields_are_given_by_name_and_have_defaults():
    """What is not given is the default of the class."""
    row = Row(name="a", count=2)

    assert (row.name, row.words, row.count) == ("a", (), 2)
    assert vars(row) == {"name": "a", "words": (), "count": 2}


@pytest.mark.parametrize(("given", "named"), [({"name": "a", "wrods": ()}, "wrods"), ({"count": 1}, "name")])
def test_a_wrong_or_missing_name_is_an_error(given, named):
    """As with a dataclass, at once and by its name."""
    with pytest.raises(TypeError, match=named):
        Row(**given)


def test_a_field_cannot_be_changed():
    """Objects are shared, and used as keys."""
    with pytest.raises(AttributeError, match="count"):
        Row(name="a").count = 1


def test_a_configuration_can_be_copied_and_pickled(tmp_path):
    """Frameworks copy and send what objects hold; the copy is equal."""
    config = TelemetryConfig(base_dir=tmp_path, runs="marked")

    for copied in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert copied == config
        assert hash(copied) == hash(config)
