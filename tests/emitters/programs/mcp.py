"""An MCP client and server in one process, with the SDK's own spans."""

from __future__ import annotations

from mcp import Client
from mcp.server.mcpserver import MCPServer
from opentelemetry import trace

EMITTER = "mcp"
PACKAGES = ("mcp",)


def instrument(_provider):
    """The global provider is used."""


def server():
    made = MCPServer("library")

    @made.tool()
    def find(title: str) -> str:
        """Find a book."""
        if title == "none":
            raise LookupError("no such book")
        return f"{title}: shelf 3"

    return made


async def tool_call(_url, title="x"):
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "librarian"}
    with trace.get_tracer("app").start_as_current_span("invoke_agent librarian", attributes=agent):
        async with Client(server()) as client:
            await client.list_tools()
            await client.call_tool("find", {"title": title})


async def fails(_url):
    await tool_call(_url, "none")


PROGRAMS = {"a tool call": tool_call, "a tool that fails": fails}
