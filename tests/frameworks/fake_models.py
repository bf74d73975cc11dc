"""Models of agent frameworks that answer without a network."""

from __future__ import annotations

from agents import Model, ModelResponse, Usage
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

LANGCHAIN_USAGE = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}


def langchain_model(*answers):
    """Answers with these texts, one a call, and tells what it used."""
    return GenericFakeChatModel(
        messages=iter(
            [
                AIMessage(text, usage_metadata=LANGCHAIN_USAGE, response_metadata={"model_name": "m-1"})
                for text in answers
            ]
        )
    )


class OpenAIModel(Model):
    """Gives these outputs, one a call; raises those that are exceptions."""

    def __init__(self, *outputs):
        self._outputs = list(outputs)

    async def get_response(self, *_args, **_more):
        output = self._outputs.pop(0)
        if isinstance(output, Exception):
            raise output
        used = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)
        return ModelResponse(output=[output], usage=used, response_id="r")

    async def stream_response(self, *_args, **_more):
        raise NotImplementedError
        yield


def said(text):
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="m", content=content, role="assistant", status="completed", type="message")


def hand_over_to(name):
    return ResponseFunctionToolCall(
        arguments="{}", call_id="c", name=f"transfer_to_{name}", type="function_call", id="f", status="completed"
    )
