"""A model without a network or a key: OpenAI's chat completions on this machine, with answers from a script.

    python examples/scripted_model.py [PORT]

It searches for the longest words of the question, reads the file that was found first, and answers with its
name. A question with `overloaded` in it gets an error, one with `slow` an answer after a minute. Tokens are
counted as a quarter of the characters.
"""

from __future__ import annotations

import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PORT: Final = 8766
SLOW_S: Final = 60
THINKING_S: Final = 0.15
_CHARACTERS_A_TOKEN: Final = 4


def message_to(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the model's next message: a search, then the file that was found, then the answer."""
    question = messages[0]["content"]
    found = [message["content"] for message in messages if message["role"] == "tool"]
    if not found:
        words = sorted(set(re.findall(r"\w{4,}", question)) - {"Where", "What", "which"}, key=len, reverse=True)
        return _tool_call("search", " ".join(words[:2]))
    if len(found) == 1:
        name = found[0].partition(":")[0] if ":" in found[0] else "README.md"
        return _tool_call("read", name)
    place = found[0].splitlines()[0].strip()
    return {"role": "assistant", "content": f"Look at {place}"}


def _tool_call(name: str, text: str) -> dict[str, Any]:
    """Return a message that calls a tool."""
    function = {"name": name, "arguments": json.dumps({"text": text})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": f"call_{name}", "function": function}]}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a chat completion."""
        text = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(text)
        question = request["messages"][0]["content"]
        if "overloaded" in question:
            self._send(529, {"error": {"message": "overloaded, try again later"}})
            return
        is_slow = "slow" in question and len(request["messages"]) > 1
        time.sleep(SLOW_S if is_slow else THINKING_S)
        message = message_to(request["messages"])
        usage = {
            "prompt_tokens": len(text) // _CHARACTERS_A_TOKEN,
            "completion_tokens": len(json.dumps(message)) // _CHARACTERS_A_TOKEN,
        }
        self._send(200, {"model": request["model"], "choices": [{"message": message}], "usage": usage})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        """Send an answer as JSON."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing for a request."""


def main() -> None:
    """Serve until the process is ended."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
