"""What the tests of the drain share: statuses in a target, and a target that goes away."""

from __future__ import annotations

from otel_agent_telemetry.testing import InMemoryTarget


def statuses(target):
    return {run.run_id: run.status for run in target.runs.values()}


class AwayAfter(InMemoryTarget):
    def __init__(self, batches):
        super().__init__()
        self._good = batches

    def deliver(self, batch):
        if len(self.batches) == self._good:
            self.be_away()
        return super().deliver(batch)
