"""Words of names of content, whatever convention they come from. `otel.content` reads them."""

from __future__ import annotations

from typing import Final

CONTENT_WORDS: Final = frozenset({
    "prompt", "completion", "message", "msg", "content", "text", "input", "output", "argument", "arg", "parameter",
    "param", "kwarg", "result", "response", "request", "return", "reply", "answer", "question", "query", "document",
    "doc", "instruction", "value", "val", "description", "desc", "explanation", "body", "payload", "transcript",
    "transcription", "summary", "thought", "thinking", "reasoning", "conversation", "history", "dialog", "dialogue",
    "chat", "utterance", "snippet", "passage", "chunk", "context", "ctx", "memory", "observation", "feedback",
    "comment", "rationale", "critique", "justification", "generation", "candidate", "choice", "definition",
    "template", "variable", "statement", "sql", "command", "cmd", "stdin", "stdout", "stderr", "diff", "embedding",
    "vector", "caption", "paragraph", "sentence", "speech", "scratchpad", "quote", "excerpt", "translation", "goal",
    "backstory", "persona", "objective", "preamble", "data", "call", "where", "filter", "citation", "keyword",
    "tools", "functions",
})  # fmt: skip
"""Last words of names of content, in the singular; their plurals are content too."""

FORMAT_WORDS: Final = frozenset({
    "json", "str", "string", "raw", "html", "markdown", "md", "xml", "yaml", "b", "base", "utf", "list", "dict",
    "preview", "truncated", "redacted", "full", "formatted", "original", "sanitized", "parsed", "final", "last",
})  # fmt: skip
"""Last words that name a format: of `arguments_json` the word before counts."""

CONTENT_ENDINGS: Final = (
    "prompt", "prompts", "completion", "completions", "message", "messages", "content", "contents", "output",
    "outputs", "input", "inputs", "response", "responses", "arguments", "instructions",
)  # fmt: skip
"""Ends of words that are written as one, `userprompt`."""
