"""Bedrock by AWS's client, through OpenTelemetry's own instrumentation, as the agent runtime of Bedrock has it too."""

from __future__ import annotations

import boto3
from botocore.config import Config
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

EMITTER = "AWS Bedrock, by OpenTelemetry"
PACKAGES = ("boto3", "opentelemetry-instrumentation-botocore")


def instrument(provider):
    BotocoreInstrumentor().instrument(tracer_provider=provider)


def ask(url, text="Where is it?"):
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 0}),
    )
    client.converse(
        modelId="anthropic.claude-sonnet-4-5-v1:0", messages=[{"role": "user", "content": [{"text": text}]}]
    )


def fails(url):
    ask(url, "Please fail")


PROGRAMS = {"a model call": ask, "a model that fails": fails}
