"""The file of alert rules: what it may say, and that each fault is named with its line and what to do."""

from __future__ import annotations

import os

import pytest

from otel_agent_telemetry.alert_file import read_alert_file
from otel_agent_telemetry.alert_rules import AlertRulesError, read_rules
from otel_agent_telemetry.testing import isolated_config

GOOD = """
# budgets of the team
[daily-budget]
measure = "cost"
over = "24h"
limit = 25

["dear run"]
measure = "tokens"
over = "run"
median_share = 3.0
agent = "*"

[quiet]
measure = "silence"
limit = "6h"
agent = "nightly"
"""


@pytest.fixture
def settings(tmp_path):
    return isolated_config(tmp_path / "base")


def write(settings, text):
    settings.alerts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.alerts.write_text(text, encoding="utf-8")


def test_rules_are_said_back_in_words(settings):
    """What a rule means can be checked by reading it."""
    described = [rule.describe() for rule in read_rules(GOOD, settings).rules]
    assert described == [
        "cost over 1d of all runs above $25.00",
        "tokens of a run of agent * above 3 times the median of its agent's last 20 runs",
        "silence of agent nightly above 6h",
    ]


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ('[a]\nmeasure = "price"\nover = "1h"\nlimit = 1', 2, ("'price'", "cost, tokens")),
        ('[a]\nmeasure = "cost"\nlimit = 1', 1, ("over is missing", '"24h"')),
        ('[a]\nmeasure = "cost"\nover = "1h"', 1, ("limit is missing", "median_share")),
        ('[a]\nmeasure = "cost"\nover = "soon"\nlimit = 1', 3, ("'soon'", "1m")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = true', 4, ("True", "number above 0")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = "25"', 4, ("'25'", "number")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = nan', 4, ("nan", "number")),
        ('[a]\nmeasure = "duration"\nover = "run"\nlimit = 7', 4, ("limit is 7", '"30m"')),
        ('[a]\nmeasure = "failures"\nover = "run"\nlimit = 7', 3, ("over a time", '"1h"')),
        ('[a]\nmeasure = "silence"\nover = "1h"\nlimit = "1h"', 3, ("silence", "Remove over")),
        ('[a]\nmeasure = "silence"\nlimit = "1h"\nagent = "*"', 4, ("for ever", "Name one agent")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = 1\nagnet = "x"', 5, ("'agnet'", "Known are measure")),
        (
            '[a]\nmeasure = "cost"\nover = "1h"\nlimit = 1\nagent = "x"\nsession = "y"',
            6,
            ("agent and session", "second"),
        ),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = 1\nlabel = "team"', 5, ("'team'", "team=search")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nmedian_share = 2', 4, ("median", 'over = "run"')),
        ('[a]\nmeasure = "cost"\nover = "run"\nlimit = 1\nmedian_share = 2', 5, ("both", "Keep one")),
        ('[a]\nmeasure = "cost"\nover = "run"\nmedian_share = 2\nmedian_runs = 2', 5, ("median_runs", "5")),
        ('[a]\nmeasure = "cost"\nover = "1h"\nlimit = 1\nresolve_at = 2', 5, ("resolve_at", "to 1")),
        ('[a]\nmeasure = "cost"\nover = "7d"\nlimit = 1\nsession = "*"', 3, ("as many sessions", '"3d"')),
        ("cost = 7", 1, ("outside", "[name]")),
        ('[a]\nmeasure = "cost\n', 2, ("no TOML", "Correct")),
        ("[a]\n[a]\n", 2, ("no TOML", "Correct")),
    ],
)
def test_each_fault_is_named_with_its_line_and_what_to_do(settings, lines, line, words):
    """No fault is guessed away: a rule that was meant otherwise would never speak."""
    with pytest.raises(AlertRulesError) as refused:
        read_rules(lines, settings)
    assert refused.value.problems[0].line == line
    assert all(word in str(refused.value.problems[0]) for word in words), str(refused.value)


def test_all_faults_of_a_file_are_named_at_once(settings):
    """A file is not corrected one line at a time."""
    with pytest.raises(AlertRulesError) as refused:
        read_rules('[a]\nmeasure = "x"\n[b]\nmeasure = "cost"\nover = 1\nlimit = -1\n', settings)
    assert [problem.line for problem in refused.value.problems] == [2, 5, 6]


def test_a_rule_for_users_needs_users(tmp_path):
    """The other rules count; the reason names the setting."""
    text = '[a]\nmeasure = "cost"\nover = "1h"\nlimit = 1\nuser = "*"\n[b]\nmeasure = "cost"\nover = "1h"\nlimit = 1\n'
    rules = read_rules(text, isolated_config(tmp_path / "base"))
    assert [rule.name for rule in rules.rules] == ["b"]
    assert str(rules.refused[0]).startswith("line 5: [a] TELEMETRY_USER_ID is off")
    assert len(read_rules(text, isolated_config(tmp_path / "base", user_id="hash", user_id_key="k")).rules) == 2


def test_silence_of_runs_needs_their_steps(tmp_path):
    """Where only states of runs are delivered, nothing shows that an open run is alive."""
    text = '[a]\nmeasure = "silence"\nover = "run"\nlimit = "10m"\n'
    refused = read_rules(text, isolated_config(tmp_path / "base", deliver="runs")).refused
    assert "TELEMETRY_DELIVER is runs" in str(refused[0])


def test_a_bad_file_keeps_the_rules_and_a_changed_one_is_read_again(settings):
    """A slip of the pen while the service runs switches no alert off."""
    file = read_alert_file(settings)
    assert (file.rules.rules, file.problems) == ((), ())
    write(settings, GOOD)
    assert file.look()
    assert not file.look()
    write(settings, GOOD + "[broken")
    assert file.look()
    assert len(file.rules.rules) == 3
    assert file.problems[0].line == len(GOOD.splitlines()) + 1
    write(settings, GOOD.replace("quiet", "silent"))
    assert file.look()
    assert file.problems == ()
    assert file.rules.rules[-1].name == "silent"
    settings.alerts.unlink()
    assert file.look()
    assert file.rules.rules == ()


def test_a_file_that_a_setting_names_must_be_there(tmp_path):
    """A path with a slip in it is no empty set of rules."""
    file = read_alert_file(isolated_config(tmp_path / "base", alerts=tmp_path / "elsewhere.toml"))
    assert "not there" in str(file.problems[0])


def test_links_as_kubernetes_mounts_them_are_followed_and_pipes_are_not_read(settings, tmp_path):
    """A ConfigMap is a link to a link to the file; a pipe would hold the service up for ever."""
    (data := tmp_path / "data").mkdir(mode=0o700)
    (data / "alerts.toml").write_text(GOOD)
    settings.base_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.alerts.symlink_to(data / "alerts.toml")
    assert len(read_alert_file(settings).rules.rules) == 3
    settings.alerts.unlink()
    os.mkfifo(settings.alerts)
    assert "not a regular file" in str(read_alert_file(settings).problems[0])


@pytest.mark.parametrize(("content", "line"), [(b"[a]\n# \xff\n", 2), (b"# " + b"x" * (1 << 20), 1)])
def test_content_that_is_no_text_is_a_fault_of_the_file(settings, content, line):
    """As an editor of another encoding, or a slip with `cp`, leaves it."""
    write(settings, "")
    settings.alerts.write_bytes(content)
    assert read_alert_file(settings).problems[0].line == line
