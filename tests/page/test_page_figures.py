"""The pages of agents, costs and sessions: what they show on either database, and how they escape it."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from otel_agent_telemetry.page.formats import NOTHING
from otel_agent_telemetry.storage import pricing
from tests.page.reading import PageReader
from tests.service.service_cases import T0, at, event_id, post_states, state

HTML = {"Accept": "text/html"}
HOSTILE = "\"><script>alert(1)</script>'/../ javascript:x"


def get(service, path, *, status=200, **parameters) -> PageReader:
    """Return a page as it is once every figure is up to date."""
    service.app.state.backend.figures.refresh_all()
    answer = service.client.get(f"{path}?{urlencode(parameters)}", headers=HTML)
    assert answer.status_code == status, answer.text
    return PageReader(answer.text)


def costs_of(service, **parameters) -> list[list[str]]:
    """Return the lines of the table of costs, which stands before that of what came of them."""
    rows = get(service, "/cost", **parameters).rows
    return rows[1 : next((place for place, row in enumerate(rows) if row[1:2] == ["Turns"]), None)]


def used(tokens=1000, output=100, *, model="gpt-4o", cost=None):
    usage = {"model_calls": 1, "input_tokens": tokens, "output_tokens": output}
    whole = {"by_model": {model: usage}, **usage} | ({} if cost is None else {"cost_usd": cost})
    return {"gen_ai": whole}


def ended(number, *, days=0, **more):
    """A run that was created some days before now and took a second."""
    created = at(number - days * 86_400)
    times = {"created_at": created, "start_time": created, "updated_at": at(number + 1 - days * 86_400)}
    return state(number, **{"status": "success", "duration_ms": 1000, **times, **more})


@pytest.mark.parametrize("path", ["/agents", "/cost", "/agents?agent=nobody", "/cost?by=session", "/cost?period=24h"])
def test_an_empty_database_says_what_there_is_not(service, path) -> None:
    """No table of zeros, and no error."""
    page = get(
        service, path.partition("?")[0], **dict(part.split("=") for part in path.partition("?")[2].split("&") if part)
    )
    assert "No agent has a run" in page.text or "has no run" in page.text or "No run of the" in page.text
    assert page.rows == []


def test_a_line_an_agent_with_its_trend(service) -> None:
    """Runs, success, failures, durations, tokens, cost; ▲ and ▼ against the same time before it."""
    now = [ended(n, duration_ms=1000 * n, metrics_json=used(cost=0.5)) for n in (1, 2, 3)]
    failed = ended(4, status="failed", duration_ms=4000, error_summary="boom")
    before = [ended(10, days=7), ended(11, days=8)]
    post_states(service, *now, failed, *before, state(5, agent_name="other"), ended(6, plumbing=True))
    head, one, other = get(service, "/agents").rows
    assert head[:3] == ["Agent", "Runs", "Success"]
    assert one[0] == "agent"
    assert one[1] == "4 ▲ 100 %"
    assert one[2] == "75 % ▼ 25 %"
    assert one[3] == "1"
    assert one[6:8] == ["3.3 k", "$1.50"]
    assert other[:4] == ["other", "1", NOTHING, "0"]


def test_a_quantile_is_that_of_the_runs_within_five_percent(service) -> None:
    """From the classes of durations that are kept, added over days."""
    post_states(service, *(ended(n, days=n % 3, duration_ms=100 * n) for n in range(1, 21)))
    _, line = get(service, "/agents").rows
    shown = {4: line[4], 5: line[5].split(" ▲")[0]}
    assert float(shown[4].removesuffix(" s")) == pytest.approx(1.0, rel=0.06)
    assert float(shown[5].removesuffix(" s")) == pytest.approx(1.9, rel=0.06)


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "90d"])
def test_a_period_counts_its_own_runs(service, period) -> None:
    """Today's run is in each; one of three days, twenty and eighty days ago in those that reach so far."""
    post_states(service, *(ended(n, days=days) for n, days in enumerate((0, 3, 20, 80), start=1)))
    page = get(service, "/agents", period=period)
    runs = {"24h": 1, "7d": 2, "30d": 3, "90d": 4}[period]
    assert page.rows[1][1].split()[0] == str(runs)
    assert f"/agents?agent=agent&period={period}" in page.links


def test_from_and_to_are_days_of_utc(service) -> None:
    """Both ends count; the same words stay in the addresses of the page."""
    post_states(service, *(ended(n, days=days) for n, days in enumerate((10, 11, 12), start=1)))
    first, last = at(-11 * 86_400)[:10], at(-10 * 86_400)[:10]
    page = get(service, "/agents", **{"from": first, "to": last})
    assert page.rows[1][1].split()[0] == "2"
    assert f"/agents?agent=agent&from={first}&to={last}" in page.links


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/agents", {"period": "1y"}),
        ("/agents", {"from": "yesterday"}),
        ("/cost", {"from": "2026-02-01", "to": "2026-01-01"}),
        ("/cost", {"from": "0001-01-01"}),
        ("/cost", {"by": "moon"}),
        ("/sessions/s", {"after": "nowhere"}),
    ],
)
def test_an_address_that_means_nothing_is_an_error_page(service, path, parameters) -> None:
    """Nothing is guessed, so that a filter that was mistyped is not lost silently."""
    post_states(service, ended(1, session_id="s"))
    assert next(iter(parameters)) in get(service, path, status=422, **parameters).text or path.startswith("/sessions")


def test_one_agent_over_time_with_causes_steps_and_models(service) -> None:
    """A line each day for the plots; failures that differ in ids and numbers alone are one cause."""
    failures = [
        ended(n, status="failed", error_summary=f"HTTPError: 50{n} from https://h/{event_id(n)} after {n * 1.5} s")
        for n in (1, 2, 3)
    ]
    post_states(service, *failures, ended(4, metrics_json=used(cost=0.25)), ended(5, status="failed", days=2))
    page = get(service, "/agents", agent="agent")
    rows = {row[0]: row for row in page.rows}
    today, earlier = at(0)[:10], at(-2 * 86_400)[:10]
    assert rows[today][1:3] == ["1", "3"]
    assert rows[earlier][1:3] == ["", "1"]
    assert len([row for row in rows if row.startswith("20")]) == 7
    assert rows["3"][1] == "HTTPError: … from https://h/… after … s"
    assert rows["1"][1] == "no error recorded"
    assert rows["gpt-4o"][1:] == ["1", "1.00 k", "100", "$0.25"] or rows["gpt-4o"][1] == "1"
    assert "/?agent=agent" in page.links
    assert any(tag == "th" and given.get("data-plot") == "Runs by status" for tag, given in page.tags)


def test_the_page_of_one_run_has_no_invented_figures(service) -> None:
    """A run that has not ended has no success rate, no duration and no cost."""
    post_states(service, state(1))
    _, line = get(service, "/agents").rows
    assert line[1:8] == ["1", NOTHING, "0", NOTHING, NOTHING, NOTHING, NOTHING]


def test_costs_by_each_dimension_have_one_total(service) -> None:
    """A run inside of another counts in its own line, or in the tree of the outermost run: never in both.

    Answers users of Langfuse whose agent spans repeat the usage of the calls inside them, and whose totals doubled.
    """
    outer = ended(1, agent_name="outer", host="h1", session_id="s", metrics_json=used(cost=1.0))
    inner = ended(2, agent_name="inner", host="h2", parent_run_id="run-1", metrics_json=used(model="m2", cost=2.0))
    post_states(service, outer, inner)
    lines = {by: costs_of(service, by=by) for by in ("agent", "tree", "model", "host", "session", "day")}
    costs = {by: {row[0]: row[1] for row in rows} for by, rows in lines.items()}
    assert costs["agent"] == {"inner": "$2.00", "outer": "$1.00"}
    assert costs["tree"] == {"outer": "$3.00"}
    assert costs["model"] == {"m2": "$2.00", "gpt-4o": "$1.00"}
    assert costs["host"] == {"h2": "$2.00", "h1": "$1.00"}
    assert costs["session"] == {"s": "$1.00"}
    assert costs["day"][at(0)[:10]] == "$3.00"
    assert "$3.00" in get(service, "/cost").text


def test_a_model_without_a_price_is_named_and_is_not_free(service) -> None:
    """Answers users of models that no list has, to whom Langfuse and others show $0.00 for what was billed."""
    priced, own = ended(1, metrics_json=used(model="gpt-4o")), ended(2, metrics_json=used(model="our-own-model"))
    post_states(service, priced, own)
    cells = {row[0]: row[1] for row in costs_of(service, by="model")}
    assert cells["gpt-4o"].startswith("$0.00")
    assert cells["our-own-model"] == "no price: our-own-model (1.1 k tokens)"
    assert "+ no price: our-own-model" in get(service, "/cost").rows[1][1]


def test_a_call_that_reported_no_tokens_is_not_said_to_lack_a_price(service) -> None:
    """As a call that failed: its model has a price, and what it used is not known."""
    post_states(service, ended(1, metrics_json='{"gen_ai":{"by_model":{"gpt-4o":{"model_calls":1}},"model_calls":1}}'))
    cells = {row[0]: row[1] for row in costs_of(service, by="model")}
    assert cells["gpt-4o"] == "no tokens reported: gpt-4o"


def test_prices_in_use_are_applied_when_the_page_is_read(service, tmp_path) -> None:
    """A file of one's own prices counts for runs that were stored before it was there."""
    post_states(service, ended(1, metrics_json=used(1_000_000, 0, model="our-own-model")))
    assert "no price" in get(service, "/cost").text
    file = tmp_path / "prices.json"
    file.write_text('{"date": "2026-11-01", "models": {"our-own-model": {"input": 3, "output": 1}}}')
    pricing.use_own_prices(file)
    try:
        assert get(service, "/cost").rows[1][1] == "$3.00"
    finally:
        pricing.use_own_prices(None)


def test_a_session_shows_its_runs_in_order_with_their_sum(service) -> None:
    """A page of a hundred, the next one by its last run; ids with a slash, a quote or a space have an address.

    Answers users of Langfuse to whom all traces of a long session ended in a timeout.
    """
    name = 'chat/7 "é"'
    runs = [ended(n, session_id=name, metrics_json=used(100, 10, cost=0.01)) for n in range(1, 103)]
    post_states(service, *runs, state(103, session_id=name), ended(104, session_id="other"))
    path = f"/sessions/{quote(name, safe='')}"
    page = get(service, path)
    assert [row[0][:19] for row in page.rows[1:]] == [at(n)[:19].replace("T", " ") for n in range(1, 101)]
    assert "102 success" in page.text
    assert "1 running" in page.text
    assert "$1.02" in page.text
    assert f"{path}?after=" in next(link for link in page.links if "after=" in link)
    following = next(link for link in page.links if "after=" in link)
    rest = PageReader(service.client.get(following, headers=HTML).text)
    assert [row[1] for row in rest.rows[1:]] == ["success", "success", "running"]
    assert rest.rows[-1][4:7] == [NOTHING, NOTHING, NOTHING]


def test_a_session_that_nobody_had_is_not_found(service) -> None:
    """And its name is shown as text."""
    assert "session not found" in get(service, f"/sessions/{quote(HOSTILE, safe='')}", status=404).text


def test_no_text_of_a_run_becomes_markup(service) -> None:
    """In the name of an agent, a model, a host, a session, an error: in every view."""
    hostile = ended(
        1,
        agent_name=HOSTILE,
        host=HOSTILE,
        session_id=HOSTILE,
        status="failed",
        error_summary=HOSTILE,
        metrics_json=used(model=HOSTILE),
    )
    post_states(service, hostile)
    pages = [get(service, "/agents"), get(service, "/agents", agent=HOSTILE)]
    pages += [get(service, "/cost", by=by) for by in ("agent", "tree", "model", "host", "session")]
    pages.append(get(service, f"/sessions/{quote(HOSTILE, safe='')}"))
    for page in pages:
        scripts = [given.get("src") or "" for tag, given in page.tags if tag == "script"]
        assert all(source.startswith("/static/") for source in scripts)
        assert all(link.startswith(("/", "#")) for link in page.links)
        assert not any(name.startswith("on") or name == "style" for _, given in page.tags for name in given)
        assert "<script>alert(1)</script>" in page.text


def test_deleting_a_run_takes_it_out_of_the_figures(service) -> None:
    """Also out of the sum of its session."""
    post_states(service, ended(1, session_id="s"), ended(2, session_id="s"))
    assert get(service, "/agents").rows[1][1] == "2"
    assert service.client.delete(f"/api/v1/runs/{event_id(1)}").status_code == 200
    assert get(service, "/agents").rows[1][1] == "1"
    assert "1 success" in get(service, "/sessions/s").text


def test_the_time_of_the_tests_is_far_from_midnight() -> None:
    """The runs above are of one day."""
    assert at(0)[:10] == at(200)[:10] == at(-1)[:10]
    assert T0 > 0
