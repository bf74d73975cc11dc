"""The errors this package raises, as one tree.

    AgentTelemetryError
    ├── ConfigurationError      a setting that cannot be used where it is needed
    ├── RecordError             a record that breaks a rule of the model
    ├── LineError               bytes that are not one of our lines
    ├── StorageError            the database
    │   ├── StoreUnavailableError   it may work later: locked, full, read-only, unreachable
    │   └── SchemaError             it is not ours, or newer than this code
    └── DeliveryError           a target answered something that cannot be understood

None of them leaves a public method of the client, the processor or the exporter: they
are for the inside, the command line and the service. Expected outcomes (a target that is
away, a record that it refuses) are values, see `delivery.outcome`.

A message says what was tried, with what, and which rule broke; `hint` says what to do.
Neither ever holds a token, a password or a payload.
"""

from __future__ import annotations


class AgentTelemetryError(Exception):
    """Base of every error raised here; `hint` is empty or one sentence on what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(AgentTelemetryError):
    """A setting cannot be used where it is needed."""


class RecordError(AgentTelemetryError):
    """A record breaks a rule of the model; `field` names the column."""

    def __init__(self, field: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {rule}", hint=hint)
        self.field = field


class LineError(AgentTelemetryError):
    """Bytes that are not one of our lines: torn, or never ours."""


class StorageError(AgentTelemetryError):
    """A database operation failed."""


class StoreUnavailableError(StorageError):
    """The database cannot be used now and may be usable later."""


class SchemaError(StorageError):
    """The database is not ours, damaged, or written by a newer version."""


class DeliveryError(AgentTelemetryError):
    """A target's answer cannot be understood, so nothing of the batch counts as kept."""
