"""An agent that answers questions about a repository: a model that calls tools, recorded through plain OpenTelemetry.

    python examples/repository_guide.py FOLDER "Where is a run closed whose process was killed?" ...

The model is any server that speaks OpenAI's chat completions: `MODEL_URL` (with `MODEL_API_KEY` and
`MODEL_NAME`), by default `examples/scripted_model.py` on this machine. Each question is a run; its model
calls and tool calls are steps. The questions of one call are a session.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import StatusCode

import otel_agent_telemetry

AGENT: Final = "repository_guide"
MODEL_URL: Final = os.environ.get("MODEL_URL", "http://127.0.0.1:8766/v1")
MODEL_NAME: Final = os.environ.get("MODEL_NAME", "gpt-4.1-mini")
MAX_STEPS: Final = 8
MAX_FOUND: Final = 5
MAX_CHARACTERS: Final = 4_000

tracer = trace.get_tracer(AGENT)


def search(folder: Path, words: str) -> str:
    """Return the lines of the folder's texts and sources in which all words stand."""
    wanted = words.lower().split()
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".py", ".md") or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if all(word in line.lower() for word in wanted):
                found.append(f"{path.relative_to(folder)}:{number}: {line.strip()}")
    return "\n".join(found[:MAX_FOUND]) or "nothing found"


def read(folder: Path, name: str) -> str:
    """Return the beginning of a file below the folder. Raises OSError, ValueError."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"{name} is not below {folder.name}")
    return path.read_text("utf-8", errors="replace")[:MAX_CHARACTERS]


TOOLS: Final = {"search": search, "read": read}


def call_model(messages: Sequence[Mapping[str, Any]], session: str) -> Mapping[str, Any]:
    """Return the model's next message. Raises OSError, and RuntimeError for an answer that is an error."""
    place = urllib.parse.urlsplit(MODEL_URL)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL_NAME,
        "gen_ai.conversation.id": session,
    }
    with tracer.start_as_current_span(f"chat {MODEL_NAME}", kind=trace.SpanKind.CLIENT, attributes=attributes) as span:
        connection = kind(place.hostname or "", place.port, timeout=60)
        tools = [{"type": "function", "function": {"name": name}} for name in TOOLS]
        body = json.dumps({"model": MODEL_NAME, "messages": list(messages), "tools": tools})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('MODEL_API_KEY', '')}"}
        connection.request("POST", f"{place.path}/chat/completions", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"the model answered {response.status}: {answer['error']['message']}")
        span.set_attribute("gen_ai.response.model", answer["model"])
        span.set_attribute("gen_ai.usage.input_tokens", answer["usage"]["prompt_tokens"])
        span.set_attribute("gen_ai.usage.output_tokens", answer["usage"]["completion_tokens"])
        message: Mapping[str, Any] = answer["choices"][0]["message"]
        return message


def call_tool(folder: Path, call: Mapping[str, Any]) -> str:
    """Return what a tool found; its error as a text, which the model gets to read."""
    name, given = call["function"]["name"], json.loads(call["function"]["arguments"])
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    with tracer.start_as_current_span(f"execute_tool {name}", attributes=attributes) as span:
        try:
            return TOOLS[name](folder, given["text"])
        except (KeyError, OSError, ValueError) as problem:
            span.set_status(StatusCode.ERROR, f"{type(problem).__name__}: {problem}")
            return f"error: {problem}"


def answer_to(question: str, folder: Path, session: str) -> str:
    """Return the agent's answer to one question, as one run."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": AGENT,
        "gen_ai.conversation.id": session,
        "agent.run.item_name": question,
    }
    with tracer.start_as_current_span(f"invoke_agent {AGENT}", attributes=attributes):
        messages: list[Mapping[str, Any]] = [{"role": "user", "content": question}]
        for _ in range(MAX_STEPS):
            message = call_model(messages, session)
            messages.append(message)
            calls = message.get("tool_calls") or ()
            if not calls:
                return str(message["content"])
            for call in calls:
                found = call_tool(folder, call)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": found})
        raise RuntimeError(f"no answer after {MAX_STEPS} model calls")


def main() -> int:
    """Answer the questions on the command line. Return 1 if one could not be answered."""
    otel_agent_telemetry.instrument()
    folder, session, code = Path(sys.argv[1]).resolve(), str(uuid.uuid4()), 0
    for question in sys.argv[2:]:
        try:
            print(f"{question}\n  {answer_to(question, folder, session)}")
        except (OSError, RuntimeError) as problem:
            print(f"{question}\n  no answer: {problem}")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
