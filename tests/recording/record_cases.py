"""States to record, and the environment of a process that records."""

from __future__ import annotations

from on_disk import record


def state(number=1, status="success", updated=1):
    return record(number, status=status, updated=updated).to_fields()


def environment(config, **more):
    return {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_EXIT_TIMEOUT_S": "60", **more}
