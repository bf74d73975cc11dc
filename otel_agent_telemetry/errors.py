"""The errors this package raises, as one tree.

    AgentTelemetryError
    ├── ConfigurationError      a setting that cannot be used where it is needed
    ├── RecordError             a record that breaks a rule of the model
    ├── LineError               bytes that are not a journal or buffer line
    ├── StorageError            the database
    │   ├── StoreUnavailableError   may work later: locked, full, read-only, unreachable
    │   └── SchemaError             another program's, damaged, or newer than this code
    └── DeliveryError           a target answered something that cannot be understood

No public method of the client, the processor or the exporter raises one: they are for inner
modules, the command and the service. Expected outcomes (a target that is unavailable, a
record that it refuses) are values, see `delivery.outcome`.

A message names the operation, the value and the rule that it broke; `hint` names the remedy.
Neither contains a token, a password or a payload.
"""

from __future__ import annotations


class AgentTelemetryError(Exception):
    """Base of every error raised here; `hint` is empty or one sentence that names the remedy."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def with_hint(self) -> str:
        """Return the message and, in parentheses, the hint if there is one: for a log line or a report."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class ConfigurationError(AgentTelemetryError):
    """A setting cannot be used where it is needed."""


class RecordError(AgentTelemetryError):
    """A record breaks a rule of the model; `field` names the column."""

    def __init__(self, field: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {rule}", hint=hint)
        self.field = field


class LineError(AgentTelemetryError):
    """Bytes that are not a line of the journal or the buffer: torn, or of another program."""


class StorageError(AgentTelemetryError):
    """A database operation failed."""


class StoreUnavailableError(StorageError):
    """The database cannot be used now and may be usable later."""


class SchemaError(StorageError):
    """The database is another program's, damaged, or written by a newer version."""


class DeliveryError(AgentTelemetryError):
    """A target's answer cannot be understood, so no record of the batch counts as delivered."""
