"""docs/reference/attributes.md against the code: what is read and written is on the page, and nothing else is."""

from __future__ import annotations

import re

import pytest
from on_disk import ROOT
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_agent_telemetry.columns import SETTABLE_COLUMNS
from otel_agent_telemetry.otel import conventions as attributes
from otel_agent_telemetry.otel import run_metrics
from otel_agent_telemetry.otel.propagation import RUN_ID_KEY
from otel_agent_telemetry.wire import COMMIT_EVENT
from scripts.write_attributes import rewritten

PAGE = (ROOT / "docs/reference/attributes.md").read_text()
WORDS = frozenset(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_name_that_the_code_reads_is_on_the_page():
    """Kinds, names, figures, columns and content, as `make attributes` writes them."""
    assert rewritten() == PAGE, "run `make attributes`"
    assert {*attributes.KINDS, *attributes.AGENT_NAMES, *attributes.CONTENT, *attributes.MODELS} - WORDS == set()
    assert {word for values in attributes.KINDS.values() for word in values} - WORDS == set()


def test_every_spelling_of_tokens_stands_beside_its_name():
    """In the row of the figure that it gives, in the order in which the code looks."""
    for name, spellings in attributes.TOKEN_SPELLINGS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        assert re.findall(r"`([^`]+)`", row.split(" | ")[1]) == list(spellings)


def test_conventional_attributes_stand_beside_the_columns_that_they_give():
    """As the mapping has them."""
    for attribute, column in attributes.CONVENTIONAL_COLUMNS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{attribute}`"))
        assert f"| `{column}`" in row


def test_our_attributes_on_the_page_are_those_of_the_code():
    """Each column that a caller may set, and the few that are none; no more, no fewer."""
    section = PAGE.split("## Ours")[1].split("\n## ")[0]
    told = {word for line in section.splitlines() if line.startswith("| `agent.run.") for word in ours_in(line)}
    columns = {attributes.PREFIX + name for name in SETTABLE_COLUMNS}
    others = {attributes.RUN_ID, attributes.STATUS, attributes.METRICS, attributes.PART_OF}
    assert told == columns | others


def ours_in(row):
    return re.findall(r"`(agent\.run\.[a-z_]+)`", row.split(" | ")[0])


def test_no_name_of_ours_on_the_page_is_unknown_to_the_code():
    """A misspelt one would mark a span, and be kept nowhere."""
    ours = {word for word in vars(attributes).values() if isinstance(word, str)}
    known = {attributes.PREFIX + name for name in SETTABLE_COLUMNS} | ours | metric_names()
    known |= {COMMIT_EVENT, "agent.run.outcome", attributes.PREFIX + "*"}
    assert {word for word in WORDS if word.startswith(attributes.PREFIX)} - known == set()


def test_what_the_client_writes_on_its_spans_is_on_the_page(case):
    """Names of spans, attributes and events of a run that fails."""
    exporter = InMemorySpanExporter()
    provider = case.provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = _client_of(case, provider)
    with pytest.raises(OSError, match="gone"), client.track_run("indexer", "index", items_failed=1):
        raise OSError("gone")
    (span,) = exporter.get_finished_spans()
    (event,) = span.events
    assert span.name == "invoke_agent indexer"
    assert set(span.attributes) >= {"agent.run.id", "agent.run.status", "gen_ai.agent.name", "agent.run.items_failed"}
    assert set(span.attributes) - WORDS == set()
    assert ({event.name} | set(event.attributes)) - WORDS == set()


def _client_of(case, provider):
    from otel_agent_telemetry.client import TelemetryClient

    return TelemetryClient(case.config, tracer_provider=provider)


def test_every_metric_stands_on_the_page_with_its_unit(case, monkeypatch):
    """As a meter provider collects them after a run."""
    rows = {line.split("`")[1]: line for line in PAGE.split("## Metrics")[1].splitlines() if line.startswith("| `")}
    collected = _collected(case, monkeypatch)
    assert {name for name in rows if name.startswith("agent.")} == set(collected)
    for name, unit in collected.items():
        assert f"`{unit}`" in rows[name], name


def _collected(case, monkeypatch):
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(run_metrics.metrics, "get_meter", meters.get_meter)
    with _client_of(case, case.provider()).track_run("indexer", "index", items_failed=1):
        pass
    try:
        data = reader.get_metrics_data()
    finally:
        meters.shutdown()
    return {
        metric.name: metric.unit
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def metric_names():
    return set(re.findall(r"^    (agent\.[a-z.]+) ", run_metrics.__doc__ or "", re.MULTILINE))


def test_the_baggage_key_is_on_the_page():
    """It is part of what other programs may read."""
    assert RUN_ID_KEY in WORDS
