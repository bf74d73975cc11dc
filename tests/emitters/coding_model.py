"""A model on loopback for coding agents: one command of the shell, then a text; it can be slow, or fail with any status."""

from __future__ import annotations

import json
import threading

from tests.emitters.fake_model_server import TEXT, FakeModelServer
from tests.emitters.model_usage import CODING_AGENTS

PATIENCE_S = 120.0
SAID = TEXT
"""What the model says in the end: content, which is kept nowhere unless it is asked for."""
_SHELLS = ("Bash", "bash", "exec_command", "shell", "shell_command", "local_shell", "run_shell_command")
_RESULTS = ("tool_result", "function_call_output", "custom_tool_call_output", "functionResponse")
_CONVERSATIONS = ("messages", "input", "contents")


class CodingModel(FakeModelServer):
    """Answers a prompt with a call of the agent's shell, which runs `command`, and the call's result with a text.

    `status`: what every conversation is answered with from now on. `hold()`: answers wait until `release()`, so that a
    test can end an agent in the middle; `was_asked(times)` waits until that many requests have come.
    """

    def __init__(self, command="echo hi", *, status=200):
        super().__init__(CODING_AGENTS)
        self.command = command
        self.status = status
        self._released = threading.Event()
        self._released.set()
        self._requests = threading.Semaphore(0)

    def __exit__(self, *_exc):
        self.release()
        super().__exit__()
        self.server_close()

    def hold(self):
        self._released.clear()

    def release(self):
        self._released.set()

    def was_asked(self, times=1):
        """Wait until this many more requests have come."""
        for _ in range(times):
            assert self._requests.acquire(timeout=PATIENCE_S), "the agent did not ask the model"

    def call_id(self):
        return f"call_{self.number()}"

    def before_answering(self, path):
        if "analytics" not in path:  # what an agent reports to its vendor
            self._requests.release()
            self._released.wait(PATIENCE_S)

    def status_for(self, _conversation):
        return self.status

    def tool_for(self, body, _conversation):
        """Return a call of the shell that a request offers, unless it ends with the result of one."""
        if _ends_with_result(body):
            return None
        offered = {tool["name"]: tool for tool in _tools(body)}
        name = next((shell for shell in _SHELLS if shell in offered), None)
        return name and (name, self._arguments(offered[name]))

    def _arguments(self, tool):
        """Return the arguments that the tool demands: the command, and any text for the rest."""
        schema = next(
            (tool[key] for key in ("input_schema", "parameters", "parametersJsonSchema") if tool.get(key)), {}
        )
        properties, required = schema.get("properties", {}), schema.get("required", [])
        arguments = {}
        for key, value in properties.items():
            if key in ("command", "cmd"):
                is_list = str(value.get("type")).lower() == "array"
                arguments[key] = ["bash", "-lc", self.command] if is_list else self.command
            elif key in required:
                arguments[key] = {"boolean": False, "integer": 0, "number": 0}.get(str(value.get("type")).lower(), "x")
        return arguments


def _ends_with_result(body):
    conversation = next((body[name] for name in _CONVERSATIONS if body.get(name)), [])
    last = conversation[-1] if isinstance(conversation, list) and conversation else {}
    return last.get("role") == "tool" or any(kind in json.dumps(last) for kind in _RESULTS)


def _tools(body):
    """Return the tools that a request offers, whatever the protocol wraps them in."""
    for tool in body.get("tools") or []:
        inner = tool.get("functionDeclarations") or [tool.get("function", tool)]
        yield from (one for one in inner if "name" in one)
