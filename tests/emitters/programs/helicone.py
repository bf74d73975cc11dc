"""OpenAI's client with Helicone's asynchronous logger, which sends over OTLP: for `record_otlp.py`."""

from __future__ import annotations

import contextlib
import os
import sys

from helicone_async import HeliconeAsyncLogger
from openai import InternalServerError, OpenAI

logger = HeliconeAsyncLogger(api_key="none", base_url=os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
logger.init()
logger.set_properties(
    {"Helicone-Session-Id": "s-1", "Helicone-Session-Name": "Course Plan", "Helicone-User-Id": "ann@example.org"}
)
client = OpenAI(base_url=f"{os.environ['MODEL_URL']}/v1", api_key="none", max_retries=0)
question = "Please fail" if "fails" in sys.argv else "Where is it?"
with contextlib.suppress(InternalServerError):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": question}])
