"""The page of one run shows what happened in it, of any size, and makes nothing of its text but text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from otel_agent_telemetry.page.run_details import trace_link
from otel_agent_telemetry.page.run_markdown import _line
from otel_agent_telemetry.page.value_tree import MAX_NODES, value_tree
from tests.page.run_lines import PATH, TRACE, chain, ended_run, event, open_run, step, store
from tests.service.otlp_requests import request, run_of, send, span
from tests.service.service_cases import event_id, post_states, state

EVIL = "<script>alert(1)</script>\" onload='x' javascript:alert(1) \ud800 [a](javascript:b) | `c`"


class Seen(HTMLParser):
    """What a browser sees of a page: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        return [one["href"] for one in self.of("a")]

    def rows(self) -> list[dict[str, str | None]]:
        return [one for one in self.of("tr") if (one.get("id") or "").startswith("s")]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(service, path: str = PATH, **more) -> Seen:
    answer = service.client.get(path, **more)
    assert answer.status_code == 200, answer.text
    return Seen(answer.text)


def link_to(seen: Seen, text: str) -> str:
    return next(link for link in seen.links() if text in link)


def test_the_head_says_the_cause_first(service) -> None:
    """Who opens a failed run wants to know why it failed; then what it was, cost and used."""
    store(
        service,
        ended_run(
            status="failed",
            error_summary="TimeoutError: no answer",
            error_details="Traceback ...",
            model="some-model",
            input_tokens=1200,
            output_tokens=30,
            model_calls=2,
            cost_usd=0.25,
            git_repo="https://github.com/team/agents",
            git_commit_hash="abcdef1234567",
            session_id="chat/1",
            host="host-1",
            duration_ms=59_000,
        ),
    )
    seen = page_of(service)
    assert seen.words.index("TimeoutError: no answer") < seen.words.index("some-model")
    assert "failed after 59 s" in seen.words
    assert "1,200 in, 30 out" in seen.words
    assert "https://github.com/team/agents/commit/abcdef1234567" in seen.links()
    assert "/sessions/chat%2F1" in seen.links()
    assert "host-1" in seen.words
    assert f"agent-telemetry show {event_id(1)}" in seen.words
    assert {f"/api/v1/runs/{event_id(1)}", f"{PATH}/markdown"} <= set(seen.links())


def test_unknown_figures_are_not_shown_as_zero(service) -> None:
    """A run that called no model has no tokens and no cost, which is not the same as none used."""
    store(service, ended_run())
    words = page_of(service).words
    assert "Tokens" not in words.split("Steps")[0]
    assert "$0" not in words


def test_a_model_call_without_tokens_has_unknown_ones(sqlite_service) -> None:
    """Its provider reported none, as GitHub Copilot does for a turn that the user ended; in its session too."""
    store(sqlite_service, ended_run(metrics_json={"gen_ai": {"model_calls": 1}}, session_id="s"))
    assert "Tokensunknown" in page_of(sqlite_service).words
    assert "1 min unknown" in page_of(sqlite_service, "/sessions/s").words


def test_parent_inside_and_session_runs_are_linked(service) -> None:
    """One click leads to the run around this one, to those inside it and to the others of its session."""
    post_states(
        service,
        state(2, session_id="s"),
        state(3, parent_run_id="run-1", status="failed", end_time=None, error_summary="broken inside"),
    )
    store(service, ended_run(parent_run_id="run-2", session_id="s"))
    seen = page_of(service)
    assert {f"/runs/{event_id(2)}", f"/runs/{event_id(3)}"} <= set(seen.links())
    assert "broken inside" in seen.words
    assert "2 runs" in seen.words


def test_steps_are_a_tree_with_bars_and_words(service) -> None:
    """Model and tool calls, failures and levels are words, not only colours; the bar is drawn by the service."""
    model = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5}
    store(
        service,
        ended_run(),
        step(2, begins=2, ends=40, name="plan"),
        step(3, parent=2, begins=3, ends=13, attributes=model),
        step(4, parent=2, begins=14, ends=14.5, attributes={"gen_ai.operation.name": "execute_tool"}),
        step(5, parent=4, begins=14.1, ends=14.2, status="error", status_message="disk full"),
        step(6, parent=1, begins=50, ends=None, name="still open"),
    )
    seen = page_of(service)
    assert [(one["aria-level"], one.get("aria-expanded")) for one in seen.rows()] == [
        ("1", "true"),
        ("2", None),
        ("2", "true"),
        ("3", None),
        ("1", None),
    ]
    for words in (
        "model step 3",
        "10 s 5 / \N{EN DASH}",
        "tool step 4",
        "500 ms",
        "failed disk full",
        "open",
        "5 of 5, 1 failed",
    ):
        assert words in seen.words
    bars = [(one["class"], float(one["x"]), float(one["width"])) for one in seen.of("rect")]
    assert bars[0] == ("step", round(1000 / 60, 2), round(38 * 1000 / 60, 2))
    assert [name for name, _, _ in bars] == ["step", "model", "tool", "error", "step"]
    assert all("style" not in attributes for _, attributes in seen.elements)


def test_a_step_that_came_over_otlp_is_marked_by_its_usage(service) -> None:
    """Steps of other senders have their kind and tokens too."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.output_tokens": 7}
    tool = {"gen_ai.operation.name": "execute_tool"}
    send(service, request(span(1), span(2, 1, attributes=chat), span(3, 1, attributes=tool)))
    seen = page_of(service, f"/runs/{run_of(1)}")
    assert [one["class"] for one in seen.of("rect")] == ["model", "tool"]
    assert "\N{EN DASH} / 7" in seen.words


def test_folding_and_narrowing_are_in_the_address(service) -> None:
    """A link shows a colleague the same rows; users of Jaeger ask for filters instead of marks in a long list (389)."""
    store(service, ended_run(), *chain(3), step(9, begins=7, ends=8, status="error", status_message="no"))
    seen = page_of(service)
    fold = next(one["href"] for one in seen.of("a") if one.get("aria-label") == "Fold step 2")
    folded = page_of(service, fold)
    assert [one["aria-level"] for one in folded.rows()] == ["1", "1"]
    assert "2 inside" in folded.words
    opened = next(one["href"] for one in folded.of("a") if one.get("aria-label") == "Open step 2")
    assert len(page_of(service, opened).rows()) == 4
    assert len(page_of(service, link_to(folded, "?top=")).rows()) == 3
    errors = page_of(service, f"{PATH}?only=errors")
    assert len(errors.rows()) == 1
    assert "no" in errors.words
    assert len(page_of(service, f"{PATH}?find=STEP+3").rows()) == 1
    assert "No step of the run is one of these." in page_of(service, f"{PATH}?only=models").words


def test_the_list_that_led_to_a_run_is_kept(service) -> None:
    """Folding, narrowing and paging keep it: the next run is the next of the filtered list, and the way back is there."""
    store(service, ended_run(), *chain(3), event(90))
    listed = "status=failed&text=a%26b"
    seen = page_of(service, PATH, params={"list": listed})
    assert f"/?{listed}" in seen.links()
    own = [link for link in seen.links() if link.startswith(f"{PATH}?") or link.endswith(("next", "previous"))]
    assert len(own) > 5
    for link in own:
        assert dict(parse_qsl(urlsplit(link).query))["list"] == listed


@pytest.mark.parametrize("query", ["top=99999", "top=x", "skip=999999999", "skip=-1", "level=0", "flip=7.x.%00", "only=no",
                                   "after=%FF", f"top={'9' * 400}", "flip=" + "7." * 5000, "find=%ED%A0%80"])  # fmt: skip
def test_an_address_that_makes_no_sense_shows_the_run(sqlite_service, query) -> None:
    """Addresses are typed, cut and passed on; the page shows what there is."""
    store(sqlite_service, ended_run(), *chain(3))
    expected = 0 if "find" in query else 3
    assert len(page_of(sqlite_service, f"{PATH}?{query}").rows()) == expected


def test_a_large_run_is_shown_in_parts_that_say_so(service) -> None:
    """At most 500 rows, "of 2,000", and every other one a click away.

    Peers' users report browsers that freeze at thousands of spans (Langfuse 9933, SigNoz 4490, Jaeger UI 645).
    """
    store(service, ended_run(), *chain(40, 50))
    seen = page_of(service)
    assert len(seen.rows()) <= 500
    assert "of 2,000" in seen.words
    all_levels = page_of(service, next(link for link in seen.links() if "level=1000000" in link))
    assert len(all_levels.rows()) == 500
    pages = {link for link in all_levels.links() if "skip=" in link}
    shown = {one["id"] for page in pages for one in page_of(service, page).rows()}
    shown |= {one["id"] for one in all_levels.rows()}
    assert len(shown) == 2_000


def test_a_part_is_what_htmx_replaces(service) -> None:
    """Folding a step sends the timeline alone, not the page; going back asks for the whole page."""
    store(service, ended_run(), *chain(3), event(90))
    for name in ("timeline", "events"):
        part = page_of(service, headers={"HX-Request": "true", "HX-Target": f"section#{name}"})
        assert [one.get("id") for one in part.of("section")] == [name]
        assert part.of("html") == []
    back = {"HX-Request": "true", "HX-Target": "section#timeline", "HX-History-Restore-Request": "true"}
    assert page_of(service, headers=back).of("html") != []


def test_a_step_shows_its_attributes_and_events(service) -> None:
    """Read only when asked for: a page of its own, or a part below the timeline."""
    store(
        service,
        ended_run(),
        step(2, attributes={"deep": {"list": [1, {"x": "y"}]}, "long": "z" * 5000}),
        event(90, span_id=f"{2:016x}", payload={"of": "the step"}),
    )
    address = link_to(page_of(service), "/steps/")
    seen = page_of(service, address)
    for words in ("deep", "list", "the step", "more characters", "Attributes"):
        assert words in seen.words
    assert page_of(service, address, headers={"HX-Request": "true", "HX-Target": "div#step"}).of("html") == []
    whole = service.client.get(address, params={"whole": 1})
    assert "z" * 5000 in whole.text
    assert whole.headers["content-type"].startswith("text/plain")


def test_events_have_a_filter_and_pages(service) -> None:
    """Types with their counts, keyset pages, each payload cut visibly with the whole one click away."""
    lines = [event(100 + at, name="tick" if at % 2 else "tock", seconds=2 + at / 100) for at in range(250)]
    store(service, ended_run(), *lines, event(900, name="big", seconds=40, payload={"text": "w" * 3000}))
    seen = page_of(service)
    assert "tick 125" in seen.words
    assert len([one for one in seen.of("li") if one.get("id")]) == 100
    found, address = 0, f"{PATH}?type=tick"
    while address:
        part = page_of(service, address)
        found += len([one for one in part.of("li") if one.get("id")])
        address = next((link for link in part.links() if "after=" in link and "type=tick" in link), None)
        address = address if found < 125 else None
    assert found == 125
    big = page_of(service, f"{PATH}?type=big")
    assert "more characters" in big.words
    whole = link_to(big, "/events/")
    assert "w" * 900 in page_of(service, whole).words
    assert "w" * 3000 in service.client.get(whole, params={"whole": 1}).text


@pytest.mark.parametrize("hours", [0, 12, 24 * 400])
def test_bars_stay_within_what_browsers_draw(sqlite_service, hours) -> None:
    """Chromium draws no coordinate beyond some 30 million: milliseconds of a run of ten hours are more."""
    end = 3 + hours * 3600
    store(sqlite_service, ended_run(updated=end), step(2, begins=2, ends=2 + (end - 2) / 2))
    (bar,) = page_of(sqlite_service).of("rect")
    assert 0 <= float(bar["x"]) < 1000
    assert 100 < float(bar["width"]) < 510


def test_events_are_on_the_time_axis(sqlite_service) -> None:
    """Events of one place are one mark that says how many and which."""
    store(sqlite_service, ended_run(), step(2), *[event(100 + at, seconds=10) for at in range(5)])
    seen = page_of(sqlite_service)
    assert len(seen.of("line")) == 1
    assert "5 × progress" in seen.text  # noqa: RUF001 - as it is shown


def test_metrics_and_context_are_trees_and_what_was_left_out_is_named(service) -> None:
    """Bounded; the setting that keeps content stands beside what was left out."""
    context = {"dropped": {"gen_ai.input.messages": 3}, "nested": {"a": [1, 2]}}
    store(service, ended_run(context_json=context, metrics_json={"pages": 3}))
    words = page_of(service).words
    for text in ("gen_ai.input.messages (3)", "TELEMETRY_CAPTURE_CONTENT=true", "pages 3", "nested"):
        assert text in words
    text = service.client.get(f"{PATH}/text/context_json")
    assert text.json() == context


def test_long_texts_are_cut_visibly(service) -> None:
    """The cut says how much is missing and leads to the whole text; a user of Phoenix took a limit for loss (10079)."""
    store(service, ended_run(status="failed", error_summary="E", error_details="d" * 9_000, output_summary="o" * 2_500))
    seen = page_of(service)
    assert "… 5,000 more characters" in seen.words
    assert "… 1,900 more characters" in seen.words
    assert service.client.get(f"{PATH}/text/error_details").text == "d" * 9_000


def test_text_of_a_run_stays_text_everywhere(service) -> None:
    """No name, id, message or payload becomes markup, an attribute, a script or the scheme of a link."""
    names = (
        *("agent_name", "job_type", "error_summary", "error_details", "input_summary", "output_summary"),
        *("host", "environment", "item_name", "source_ref", "git_repo", "git_branch", "session_id", "service_name"),
        *("model", "agent_version", "pipeline_url", "trigger_type", "user_id", "change_id"),
    )
    texts = dict.fromkeys(names, EVIL)
    bad = {**texts, "git_repo": "javascript:alert(1)", "pipeline_url": "javascript:alert(1)"}
    context = {EVIL: {EVIL: [EVIL]}, "dropped": {EVIL: 2}}
    store(
        service,
        ended_run(status="failed", context_json=context, metrics_json={EVIL: EVIL}, **bad),
        step(2, name=EVIL, status="error", status_message=EVIL, attributes={EVIL: EVIL}),
        event(90, name=EVIL, payload={EVIL: EVIL}, span_id=f"{2:016x}"),
    )
    seen = page_of(service)
    paths = [PATH, link_to(seen, "/steps/"), link_to(seen, "/events/"), f"{PATH}/delete", link_to(seen, "?type=")]
    for path in paths:
        page = page_of(service, path)
        assert all(one.get("src", "").startswith("/static/") for one in page.of("script"))
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert all(urlsplit(link).scheme in ("", "http", "https") for link in page.links())
        assert "<script>alert(1)</script>" in page.text
    markdown = service.client.get(f"{PATH}/markdown")
    assert markdown.headers["content-type"].startswith("text/plain")
    assert r"\<script\>" in markdown.text


def test_markdown_of_a_run_can_be_pasted(service) -> None:
    """Head, error, steps and events, as a reader of an issue wants them."""
    store(
        service,
        ended_run(status="failed", error_summary="Boom: #12 @all", error_details="```\ntext"),
        *chain(2),
        event(90),
    )
    text = service.client.get(f"{PATH}/markdown").text
    assert r"**Boom: \#12 \@all**" in text
    assert "- step 2" in text
    assert "  - step 3" in text
    assert "````text" in text
    assert f"{PATH}>" in text


def test_markdown_keeps_signs_as_text() -> None:
    """A link, a mention or a table cell of a run's text is none where it is pasted."""
    assert _line("a|b [x](y) @me #1 <i>\n`c`") == r"a\|b \[x\](y) \@me \#1 \<i\> \`c\`"


@pytest.mark.parametrize(
    "path", ["/runs/unknown", f"/runs/{event_id(9)}", f"{PATH}/steps/99", f"{PATH}/events/99", f"{PATH}/text/host",
             f"/runs/{event_id(9)}/live", f"/runs/{event_id(9)}/markdown", f"{PATH}/steps/{10**30}", "/runs/%00"]
)  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(sqlite_service, path) -> None:
    """404 in words, with the way to all runs."""
    store(sqlite_service, ended_run())
    answer = sqlite_service.client.get(path)
    assert answer.status_code == 404
    assert "not found" in answer.text.casefold()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("https://jaeger.example/trace/{trace_id}", f"https://jaeger.example/trace/{TRACE}"),
        (
            'https://g.example/explore?panes={"a":{"q":"{trace_id}"}}',
            f'https://g.example/explore?panes={{"a":{{"q":"{TRACE}"}}}}',
        ),
        ("javascript:alert('{trace_id}')", None),
        (None, None),
    ],
)
def test_a_trace_is_linked_by_the_template(template, expected) -> None:
    """Jaeger, Tempo behind Grafana, or anything else that has an address for a trace."""
    assert trace_link(template, TRACE) == expected
    assert trace_link("https://t.example/{trace_id}", 'x"/<>') == "https://t.example/x%22%2F%3C%3E"


def test_a_value_tree_is_bounded() -> None:
    """Ten thousand members and a hundred levels make a page of bounded length that says what it leaves out."""
    wide = value_tree({str(at): at for at in range(10_000)})
    assert len(wide) == MAX_NODES
    deep: object = "x"
    for _ in range(100):
        deep = {"in": deep}
    node = value_tree(deep)[0]
    for _ in range(11):
        node = node.members[0]
    assert node.value.text.startswith('{"in"')


def test_a_run_is_deleted_after_a_second_page_with_a_receipt(service) -> None:
    """One click deletes nothing; the receipt names every run that is gone."""
    post_states(service, state(3, parent_run_id="run-1"))
    store(service, ended_run(), *chain(2), event(90))
    asked = service.client.get(f"{PATH}/delete")
    assert "1 run inside it" in Seen(asked.text).words
    answer = _send_form(service, f"{PATH}/delete", asked.text)
    assert answer.status_code == 200
    assert [one in answer.text for one in (event_id(1), event_id(3))] == [True, True]
    assert service.client.get(PATH).status_code == 404
    assert service.client.get(f"/api/v1/runs/{event_id(1)}").status_code == 404


def test_a_commit_is_associated_from_the_page(service) -> None:
    """The page shows it at once; a hash that is none is refused in words."""
    store(service, ended_run())
    page = service.client.get(PATH).text
    answer = _send_form(service, f"{PATH}/commit", page, commit_hash=" abcdef1234567 ", commit_author="Somebody")
    assert (answer.status_code, answer.headers["location"]) == (303, PATH)
    words = page_of(service).words
    assert "abcdef1234567 Somebody" in words
    refused = _send_form(service, f"{PATH}/commit", page, commit_hash="<b>")
    assert refused.status_code == 422
    assert "commit_hash" in refused.text


def test_a_run_names_its_commits_and_a_commit_its_runs(service) -> None:
    """Several of each; a run that is not stored here is named, and every text is text."""
    store(service, ended_run(git_repo="git@github.com:team/agents.git"))
    post_states(service, state(2))
    first, second = "a" * 40, "b" * 40
    links = [("run-1", first), ("run-2", first), ("far away", first), ("run-1", second)]
    evil = EVIL.replace("\ud800", "")
    body = [{"run_id": run, "commit_hash": name, "commit_source": "llm", "commit_author": evil} for run, name in links]
    assert service.client.post("/api/v1/commits", json=body).status_code == 200
    run = page_of(service)
    for name in (first, second):
        assert f"/commits/{name}" in run.links()
        assert f"https://github.com/team/agents/commit/{name}" in run.links()
    for address in (f"/commits/{first}", f"/commits/{first[:9].upper()}"):
        commit = page_of(service, address)
        assert [f"/runs/{event_id(number)}" in commit.links() for number in (1, 2)] == [True, True]
        assert f"https://github.com/team/agents/commit/{first}" in commit.links()
        assert "Named, but not stored here: far away." in commit.words
        assert not any("alert" in (one.get("src") or "") or "onload" in one for _, one in commit.elements)
    assert f"/runs/{event_id(2)}" not in page_of(service, f"/commits/{second}").links()
    for unknown in ("c" * 40, "xyz", "a" * 65, "abc"):
        assert service.client.get(f"/commits/{unknown}").status_code == 404


def test_actions_are_not_taken_from_other_sites(sqlite_service) -> None:
    """A form without the page's own token, or from another site, changes nothing."""
    store(sqlite_service, ended_run())
    page = sqlite_service.client.get(f"{PATH}/delete").text
    forged = sqlite_service.client.post(f"{PATH}/delete", data={"form_token": "x"})
    foreign = _send_form(sqlite_service, f"{PATH}/delete", page, site="cross-site")
    assert (forged.status_code, foreign.status_code) == (403, 403)
    assert sqlite_service.client.get(PATH).status_code == 200


def _send_form(service, path: str, page: str, *, site: str = "same-origin", **fields: str) -> httpx.Response:
    token = re.search(r'name="form_token" value="([^"]+)"', page).group(1)
    return service.client.post(path, data={"form_token": token, **fields}, headers={"Sec-Fetch-Site": site})


def test_an_open_run_says_that_it_can_be_loaded_again(sqlite_service) -> None:
    """Without a script the page still says that the run goes on."""
    store(sqlite_service, open_run(), step(2, ends=None))
    seen = page_of(sqlite_service)
    assert "running: reload to see what is new" in seen.words
    assert [one["data-live"] for one in seen.of("div") if "data-live" in one] == [f"{PATH}/live"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_run_that_kept_content_by_choice_says_it(sqlite_service, is_kept) -> None:
    """Because most do not: who reads the page should know that prompts are stored."""
    post_states(sqlite_service, state(context_json={"content_kept": is_kept}))
    assert ("prompts, answers and tool calls of this run are stored" in page_of(sqlite_service).words) is is_kept
