"""The error tree: one root, and what an error carries."""

import inspect

import pytest

from otel_agent_telemetry import errors


def _declared() -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and issubclass(kind, Exception)
    ]


def test_every_error_can_be_caught_by_its_root() -> None:
    """All errors of the package derive from AgentTelemetryError and end in Error."""
    assert len(_declared()) >= 8
    for kind in _declared():
        assert issubclass(kind, errors.AgentTelemetryError)
        assert kind.__name__.endswith("Error")


def test_tree_in_the_docstring_is_the_tree() -> None:
    """Each error stands in the tree at the top of the file."""
    for kind in _declared():
        assert kind.__name__ in (errors.__doc__ or "")


def test_storage_errors_are_told_apart_and_caught_together() -> None:
    """What may work later and what never will share a base."""
    assert issubclass(errors.StoreUnavailableError, errors.StorageError)
    assert issubclass(errors.SchemaError, errors.StorageError)
    assert not issubclass(errors.SchemaError, errors.StoreUnavailableError)


def test_hint_is_empty_unless_given_and_no_part_of_the_message() -> None:
    """A hint is a field of its own."""
    assert errors.StorageError("locked").hint == ""
    hinted = errors.StorageError("locked", hint="Stop the other process.")
    assert (str(hinted), hinted.hint) == ("locked", "Stop the other process.")


def test_record_error_names_its_column() -> None:
    """A RecordError says which column and which rule."""
    with pytest.raises(errors.RecordError, match=r"^status: must be a word$") as caught:
        raise errors.RecordError("status", "must be a word")
    assert caught.value.field == "status"
