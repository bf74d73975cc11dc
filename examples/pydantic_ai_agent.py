"""Record a pydantic-ai agent whose model needs no network. Requires `pip install pydantic-ai-slim`.

python examples/pydantic_ai_agent.py && agent-telemetry runs
"""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.test import TestModel

import otel_agent_telemetry

otel_agent_telemetry.instrument()

librarian = Agent(TestModel(), name="librarian", capabilities=[Instrumentation()])


@librarian.tool_plain
def find(title: str) -> str:
    """Return the shelf of a book."""
    return f"{title}: shelf 3"


print(asyncio.run(librarian.run("Where is the atlas?")).output)
