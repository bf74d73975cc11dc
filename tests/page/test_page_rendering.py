"""A page that takes long to read begins at once, and says so where its rest cannot be read."""

from __future__ import annotations

import threading

import pytest
from on_disk import PATIENCE_S

from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.page import run_view
from otel_agent_telemetry.page.rendering import compile_templates, templates
from tests.page.run_lines import PATH, ended_run, event, step, store


@pytest.fixture
def failed_run(sqlite_service):
    """A service with a run that has failed."""
    lines = ended_run(status="failed", error_summary="the cause"), step(2, name="a step"), event(90)
    store(sqlite_service, *lines)
    return sqlite_service


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_cause_of_a_failure_comes_before_the_steps_are_read(failed_run, monkeypatch, encoding) -> None:
    """Users of MLflow and Zipkin see nothing before the last span has been read (issues 24314 and 2411 there)."""
    seen = threading.Event()
    read = run_view.read_waterfall

    def read_late(*args, **more):
        assert seen.wait(PATIENCE_S)
        return read(*args, **more)

    monkeypatch.setattr(run_view, "read_waterfall", read_late)
    with failed_run.client.stream("GET", PATH, headers={"Accept-Encoding": encoding}) as answer:
        texts = answer.iter_text()
        first = next(texts)
        assert "the cause" in first
        assert "a step" not in first
        seen.set()
        whole = first + "".join(texts)
    assert "a step" in whole
    assert whole.rstrip().endswith("</html>")
    assert "the rest follows" not in whole


def test_a_page_says_that_its_rest_cannot_be_read(failed_run, monkeypatch) -> None:
    """Its status has been sent by then, and a page that only ends would look as if the run had no steps."""

    def away(*_args, **_more):
        raise StoreUnavailableError("reading: <the database> is away")

    monkeypatch.setattr(run_view, "read_waterfall", away)
    answer = failed_run.client.get(PATH)
    assert "the cause" in answer.text
    assert "cannot be read now: reading: &lt;the database&gt; is away" in answer.text


def test_all_templates_are_compiled_before_they_are_asked_for() -> None:
    """A service does so beside its first requests, which else wait up to 0.4 s."""
    compile_templates()
    names = templates().list_templates(extensions=["html"])
    assert len(templates().cache) >= len(names) > 20
