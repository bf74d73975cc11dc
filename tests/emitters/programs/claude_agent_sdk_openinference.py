"""Claude Agent SDK, whose program asks the model, through OpenInference."""

from __future__ import annotations

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool
from openinference.instrumentation.claude_agent_sdk import ClaudeAgentSDKInstrumentor

EMITTER = "Claude Agent SDK, by OpenInference"
PACKAGES = ("claude-agent-sdk", "openinference-instrumentation-claude-agent-sdk")


def instrument(provider):
    ClaudeAgentSDKInstrumentor().instrument(tracer_provider=provider)


@tool("find", "Find a book", {"title": str})
async def find(arguments):
    return {"content": [{"type": "text", "text": f"{arguments['title']}: shelf 3"}]}


def options(url, *tools):
    return ClaudeAgentOptions(
        model="claude-sonnet-4-5",
        tools=[],
        mcp_servers={"books": create_sdk_mcp_server("books", tools=[find])} if tools else {},
        allowed_tools=list(tools),
        setting_sources=[],
        env={
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        },
    )


async def ask(url, text="Where is it?", *tools):
    async for _ in claude_agent_sdk.query(prompt=text, options=options(url, *tools)):
        pass


async def tool_call(url):
    await ask(url, "Where is it?", "mcp__books__find")


async def fails(url):
    await ask(url, "Please fail")


PROGRAMS = {"a model call": ask, "a tool call": tool_call, "a model that fails": fails}
