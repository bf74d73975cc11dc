"""The figures that the models on loopback report of each call, by protocol.

`FRAMEWORKS`: 100 tokens in, 30 of them read from a cache (Anthropic: 60, and 20 written to it), and 7 out, 2 of them reasoning.
`CODING_AGENTS`: the same, but Anthropic's protocol counts 30 cached tokens beside the 100, and 20 written to the cache, and
Gemini's the reasoning beside the 7, as the captures have them.
"""

from __future__ import annotations

_CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 30},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
_RESPONSES = {
    "input_tokens": 100,
    "output_tokens": 7,
    "total_tokens": 107,
    "input_tokens_details": {"cached_tokens": 30},
    "output_tokens_details": {"reasoning_tokens": 2},
}


def _gemini(answer, total):
    return {
        "promptTokenCount": 100,
        "candidatesTokenCount": answer,
        "thoughtsTokenCount": 2,
        "cachedContentTokenCount": 30,
        "totalTokenCount": total,
    }


def _messages(beside_cache, read):
    return {
        "input_tokens": beside_cache,
        "output_tokens": 7,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": 20,
    }


FRAMEWORKS = {"chat": _CHAT, "responses": _RESPONSES, "messages": _messages(20, 60), "gemini": _gemini(5, 107)}
CODING_AGENTS = {"chat": _CHAT, "responses": _RESPONSES, "messages": _messages(100, 30), "gemini": _gemini(7, 109)}
