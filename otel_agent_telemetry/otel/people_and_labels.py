"""Who a run works for, and its labels: columns that take more than one attribute as it is. Pure.

An attribute that names a person (`conventions.USER_IDS`) gives `user_id` only where
`TELEMETRY_USER_ID` asks for it: as it is, or as a keyed digest by which the runs of one person
are found without saying who it is. Labels are `agent.label.<name>` of the resource, hence of
`OTEL_RESOURCE_ATTRIBUTES`, and of the span.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean_members
from otel_agent_telemetry.wire import dumps_text

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL: 3 ms of every start
except ImportError:
    from hashlib import blake2b

LABEL: Final = "agent.label."
OFF: Final = "off"
_HASH: Final = "hash"
_DIGEST_BYTES: Final = 16
_MAX_KEY: Final = 64


def user_of(attributes: Mapping[str, Any], around: ResourceDefaults) -> str | None:
    """Return the value of `user_id` that attributes give; None where there is none, or it is not asked for."""
    if around.user_ids == OFF:
        return None
    given = (attributes[key] for key in names.USER_IDS if key in attributes)
    found = next((value for value in given if value or value == 0), None)
    if found is None or not isinstance(found, (str, int)):
        return None
    return digest_of(str(found), around.user_id_key) if around.user_ids == _HASH else str(found)


def digest_of(user: str, key: str) -> str:
    """Return 32 hex digits that stand for a user: the same for the same user and key."""
    keyed = blake2b(key.encode("utf-8", "replace")).digest()[:_MAX_KEY]
    return blake2b(user.encode("utf-8", "replace"), key=keyed, digest_size=_DIGEST_BYTES).hexdigest()


def labels_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return name → value of the labels among attributes."""
    return {key[len(LABEL) :]: str(value) for key, value in attributes.items() if key.startswith(LABEL)}


def resource_columns(resource: Mapping[str, Any], around: ResourceDefaults) -> Fields:
    """Return `user_id` and `labels` as far as a resource gives them."""
    columns: Fields = {}
    if (user := user_of(resource, around)) is not None:
        columns["user_id"] = user
    if labels := labels_of(resource):
        columns["labels"] = dumps_text(clean_members(labels, max_bytes=around.max_bytes))
    return columns


def decides(keys: tuple[str, ...], user_ids: str) -> bool:
    """Return whether attributes of these names give a user or a label."""
    return any(key.startswith(LABEL) for key in keys) or (
        user_ids != OFF and not frozenset(names.USER_IDS).isdisjoint(keys)
    )
