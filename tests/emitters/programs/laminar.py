"""Laminar's decorators, and OpenAI's client that it instruments; it sends over OTLP: for `record_otlp.py`."""

from __future__ import annotations

import contextlib
import os
import sys
from urllib.parse import urlsplit

from lmnr import Instruments, Laminar, observe
from openai import InternalServerError, OpenAI

place = urlsplit(os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
Laminar.initialize(
    project_api_key="none",
    base_url=f"http://{place.hostname}",
    http_port=place.port,
    force_http=True,
    instruments={Instruments.OPENAI},
)


@observe(span_type="TOOL")
def find(title):
    return f"{title}: shelf 3"


@observe(name="librarian", session_id="s-1")
def librarian(text):
    client = OpenAI(base_url=f"{os.environ['MODEL_URL']}/v1", api_key="none", max_retries=0)
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
    return find("x")


with contextlib.suppress(InternalServerError):
    librarian("Please fail" if "fails" in sys.argv else "Where is it?")
Laminar.flush()
