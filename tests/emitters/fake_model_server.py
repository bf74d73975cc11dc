"""A model on loopback for recording: OpenAI's chat completions, responses, embeddings, Anthropic's messages, Gemini, Bedrock.

The first answer to a conversation that offers tools calls the first of them; the next is a text. Every call uses 100 tokens in
(30 of them read from a cache) and 7 out (2 of them reasoning). A conversation with "Please fail" is answered with 500.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.emitters.model_usage import FRAMEWORKS

TEXT = "It is on shelf 3."
DSPY_TEXT = """[[ ## reasoning ## ]]
None.

[[ ## answer ## ]]
It is on shelf 3.

[[ ## next_thought ## ]]
None.

[[ ## next_tool_name ## ]]
find

[[ ## next_tool_args ## ]]
{"title": "x"}

[[ ## completed ## ]]"""


class FakeModelServer(ThreadingHTTPServer):
    """Serves within a `with` block; `url` is its address, `taken()` what was asked since it was last called.

    `usage` has the figures of each protocol. A subclass may answer with other tools and errors, or later.
    """

    daemon_threads = True

    def __init__(self, usage=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.usage = usage or FRAMEWORKS
        self._asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self.shutdown()

    def number(self):
        """Return the number of the answer: a client may count answers of one id once."""
        return len(self._asked)

    def call_id(self):
        """Return the id of a tool call; a subclass whose conversations have several numbers them."""
        return "call_1"

    def asked(self, path, status):
        self._asked.append((path, status))

    def before_answering(self, path):
        """Do nothing; a subclass may wait here, in the thread of the request."""

    def status_for(self, conversation):
        """Return the HTTP status that a conversation is answered with."""
        return 500 if "Please fail" in conversation else 200

    def tool_for(self, body, conversation):
        """Return the name of the tool that the answer calls and its arguments, None for an answer in words."""
        return None if any(done in conversation for done in _DONE) else _tool_of(body)

    def taken(self):
        taken, self._asked = self._asked, []
        return taken


def body_of(handler):
    """Return the body of a request, sent with its length or in chunks."""
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(handler.rfile.readline(), 16):
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        """Print nothing."""

    def do_GET(self):
        """Know no models: clients that ask for a list go by their own."""
        self._send(200, {"object": "list", "data": [], "models": []})

    def do_POST(self):
        text = body_of(self).decode()
        body, path = json.loads(text or "{}"), self.path.split("?")[0]
        conversation = json.dumps([body.get(name) for name in ("messages", "input", "contents")])
        status = self.server.status_for(conversation)
        self.server.asked(path, status)
        self.server.before_answering(path)
        with suppress(BrokenPipeError, ConnectionResetError):
            if status == 200:
                self._answer(path, body, conversation)
            else:
                error = {"message": "the model is down", "type": "server_error", "status": "INTERNAL", "code": status}
                self._send(status, {"type": "error", "error": error})

    def _answer(self, path, body, conversation):
        tool = self.server.tool_for(body, conversation)
        if path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}]
            self._send(
                200,
                {
                    "object": "list",
                    "data": data,
                    "model": body["model"],
                    "usage": {"prompt_tokens": 4, "total_tokens": 4},
                },
            )
        elif path.endswith("/responses"):
            self._responses(body, tool)
        elif path.endswith("/converse"):
            self._converse(tool)
        elif path.endswith("/count_tokens"):
            self._send(200, {"input_tokens": 100})
        elif path.endswith("/messages"):
            self._messages(body, tool)
        elif path.endswith(":countTokens"):
            self._send(200, {"totalTokens": 100})
        elif ":" in path:
            self._gemini(path, tool)
        elif "messages" not in body:  # statistics that a client reports to its vendor
            self._send(404, {"error": {"message": "not found", "type": "not_found_error"}})
        else:
            self._chat(body, tool, DSPY_TEXT if "[[ ## completed ## ]]" in conversation else TEXT)

    def _chat(self, body, tool, text):
        about = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        message = {"role": "assistant", "content": None if tool else text}
        if tool:
            call = {
                "id": self.server.call_id(),
                "type": "function",
                "function": {"name": tool[0], "arguments": json.dumps(tool[1])},
            }
            message["tool_calls"] = [call]
        reason = "tool_calls" if tool else "stop"
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self._send(
                200, {**about, "object": "chat.completion", "choices": [choice], "usage": self.server.usage["chat"]}
            )
            return
        if tool:
            message["tool_calls"][0]["index"] = 0
        about["object"] = "chat.completion.chunk"
        chunks = [
            {**about, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {**about, "choices": [], "usage": self.server.usage["chat"]},
        ]
        self._stream([*[f"data: {json.dumps(chunk)}\n\n" for chunk in chunks], "data: [DONE]\n\n"])

    def _responses(self, body, tool):
        if tool:
            item = {
                "type": "function_call",
                "id": "fc_1",
                "call_id": self.server.call_id(),
                "name": tool[0],
                "arguments": json.dumps(tool[1]),
                "status": "completed",
            }
        else:
            content = [{"type": "output_text", "text": TEXT, "annotations": []}]
            item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        about = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
        }
        done = {
            **about,
            "status": "completed",
            "output": [item],
            "usage": self.server.usage["responses"],
            "error": None,
        }
        if not body.get("stream"):
            self._send(200, done)
            return
        begun = {**about, "status": "in_progress", "output": [], "usage": None, "error": None}
        events = [{"type": "response.created", "response": begun}]
        events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
        if not tool:
            events.append(
                {
                    "type": "response.output_text.delta",
                    "item_id": "msg_1",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": TEXT,
                    "logprobs": [],
                }
            )
        events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        events.append({"type": "response.completed", "response": done})
        numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        self._stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered])

    def _messages(self, body, tool):
        block = (
            {"type": "tool_use", "id": self.server.call_id(), "name": tool[0], "input": tool[1]}
            if tool
            else {"type": "text", "text": TEXT}
        )
        about = {
            "id": f"msg_{self.server.number()}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
        }
        reason, usage = "tool_use" if tool else "end_turn", self.server.usage["messages"]
        if not body.get("stream"):
            self._send(200, {**about, "content": [block], "stop_reason": reason, "usage": usage})
            return
        begun = {**about, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        empty = {**block, "input": {}} if tool else {**block, "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": json.dumps(tool[1])}
            if tool
            else {"type": "text_delta", "text": TEXT}
        )
        events = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": usage,
            },
            {"type": "message_stop"},
        ]
        self._stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])

    def _converse(self, tool):
        used = (
            {"toolUse": {"toolUseId": self.server.call_id(), "name": tool[0], "input": tool[1]}}
            if tool
            else {"text": TEXT}
        )
        usage = {"inputTokens": 100, "outputTokens": 7, "totalTokens": 107}
        message = {"role": "assistant", "content": [used]}
        reason = "tool_use" if tool else "end_turn"
        self._send(
            200, {"output": {"message": message}, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 1}}
        )

    def _gemini(self, path, tool):
        part = {"functionCall": {"name": tool[0], "args": tool[1]}} if tool else {"text": TEXT}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        answer = {
            "candidates": [candidate],
            "usageMetadata": self.server.usage["gemini"],
            "modelVersion": "gemini-2.5-flash",
        }
        if path.endswith(":streamGenerateContent"):
            self._stream([f"data: {json.dumps(answer)}\r\n\r\n"])
        else:
            self._send(200, answer)

    def _send(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, pieces):
        body = "".join(pieces).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_DONE = ('"role": "tool"', "function_call_output", "tool_result", "functionResponse", "toolResult")


def _tool_of(body):
    """Return the name of the first tool that a request offers and arguments for it; None where it offers none."""
    offered = body.get("tools") or [one["toolSpec"] for one in body.get("toolConfig", {}).get("tools", [])]
    if not offered:
        return None
    first = offered[0]
    if "functionDeclarations" in first:
        first = first["functionDeclarations"][0]
    described = first.get("function", first)
    if "json" in described.get("inputSchema", {}):
        described = {**described, "inputSchema": described["inputSchema"]["json"]}
    schemas = (part for part in described.values() if isinstance(part, dict) and "properties" in part)
    properties = next(schemas, {"properties": {}})["properties"]
    return described["name"], {name: "x" for name, schema in properties.items() if _is_text(schema)}


def _is_text(schema):
    return schema.get("type", "string").lower() == "string"
