"""The attributes that this package defines and writes: `agent.run.*`."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "agent.run."
RUN_ID: Final = "agent.run.id"
STATUS: Final = "agent.run.status"
AGENT_NAME: Final = "agent.run.agent_name"
JOB_TYPE: Final = "agent.run.job_type"
METRICS: Final = "agent.run.metrics"
PART_OF: Final = "agent.run.part_of"
"""Set by us on an agent's span that only repeats the run around it: the id of that run, whose step it is."""

GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
INVOKE_AGENT: Final = "invoke_agent"
"""The operation, and the first word of the name, of the client's own spans."""
