"""`git install`, `git log`, `git blame` and `runs --commit`: commits and their runs, readable by people and programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command import agent_telemetry
from on_disk import PATIENCE_S

from otel_agent_telemetry.commits.local_index import add_lines

pytestmark = pytest.mark.requires("git")
HOSTILE = "\x1b[31mred\u202e"


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git in a repository of this test, which is the working directory; returns what it printed."""
    for name, value in {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments):
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        done = subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return run


@pytest.fixture
def made(git, config, case):
    """Three commits: of no run, of a run that the store knows, and of one that the message alone names."""
    client = case.client()
    commits = []
    for number, message in enumerate(["by hand", "by an agent", f"elsewhere {HOSTILE}\n\nAgent-Run: far-away"]):
        with Path("file").open("a", encoding="utf-8") as file:
            file.write(f"line {number}\n")
        git("add", "file")
        git("commit", "-q", "-m", message)
        commits.append(git("rev-parse", "HEAD"))
    run_id = client.start_run("coder", "turn", run_id="run-1", model="m")
    client.associate_commit(run_id, commits[1][:12], "llm")
    client.end_run(run_id, metrics_json={"gen_ai": {"cost_usd": 0.25}})
    assert client.flush()
    return commits


def test_git_log_shows_commits_with_runs_agents_and_costs(config, made):
    """The newest first; a run that the store does not know by its id alone; escapes for what a terminal would obey."""
    lines = agent_telemetry(config, "git", "log").out.splitlines()
    assert lines[0].split() == [
        "COMMIT",
        "COMMITTED",
        "(UTC)",
        "RUN",
        "ID",
        "AGENT",
        "STATUS",
        "COST",
        "USD",
        "SUBJECT",
    ]
    cells = [line.split() for line in lines[1:]]
    assert [row[0] for row in cells] == [commit[:10] for commit in reversed(made)]
    assert [row[3] for row in cells] == ["far-away", "run-1", "-"]
    assert cells[1][4:7] == ["coder", "success", "0.250000"]
    assert HOSTILE not in lines[1]
    assert "\\x1b[31mred" in lines[1]


def test_git_log_says_why(config, git, made):
    """From what the hooks noted, else from who names the run."""
    add_lines(
        config.base_dir.parent / "repository/.git", [("why", made[0], "2 runs were open in this directory: a, b")]
    )
    found = agent_telemetry(config, "git", "log", "--json", "main").json
    assert [one["why"] for one in found] == [
        "named by trailer",
        "named by store",
        "2 runs were open in this directory: a, b",
    ]
    result = agent_telemetry(config, "git", "log", "--why")
    assert "2 runs were open" in result.out
    assert result.err == (
        "No hook of ours: prepare-commit-msg, commit-msg, post-commit, post-rewrite; `agent-telemetry git install` sets it.\n"
    )
    agent_telemetry(config, "git", "install")
    assert agent_telemetry(config, "git", "log", "--why").err == ""


def test_git_log_without_a_store_reads_the_messages(config, git):
    """Whoever clones a repository sees the runs, whatever they have recorded themselves."""
    git("commit", "-q", "--allow-empty", "-m", "cloned\n\nAgent-Run: theirs")
    (found,) = agent_telemetry(config, "git", "log", "--json").json
    run = dict.fromkeys(("event_id", "agent_name", "job_type", "status", "model", "session_id", "cost_usd"))
    assert found["runs"] == [{"run_id": "theirs", "named_by": ["trailer"], **run}]


def test_git_log_reads_the_usual_trailer_where_none_is_added(config, git):
    """Others have not turned it off."""
    git("commit", "-q", "--allow-empty", "-m", "cloned\n\nAgent-Run: theirs")
    (found,) = agent_telemetry(config, "git", "log", "--json", env={"TELEMETRY_COMMIT_TRAILER": "off"}).json
    assert [run["run_id"] for run in found["runs"]] == ["theirs"]


def test_git_log_where_the_service_is_away_says_so(config, git, made):
    """And shows what the repository names."""
    away = {"TELEMETRY_API_URL": "http://127.0.0.1:9"}
    result = agent_telemetry(config, "git", "log", "--no-sync", "--json", env=away)
    assert result.code == 0
    assert "the runs below are those that the repository itself names" in result.err
    assert [[run["run_id"] for run in one["runs"]] for one in result.json] == [["far-away"], [], []]


def test_git_blame_shows_the_run_that_wrote_a_line(config, git, made):
    """A line that is not committed has none."""
    with Path("file").open("a", encoding="utf-8") as file:
        file.write("not committed\n")
    lines = agent_telemetry(config, "git", "blame", "file").out.splitlines()[1:]
    assert [line.split()[1:4] for line in lines[:2]] == [[made[0][:10], "-", "-"], [made[1][:10], "run-1", "coder"]]
    found = agent_telemetry(config, "git", "blame", "--json", "file").json
    assert [[run["run_id"] for run in line["runs"]] for line in found] == [[], ["run-1"], ["far-away"], []]
    assert found[3]["commit_hash"] is None
    assert [
        line["text"] for line in agent_telemetry(config, "git", "blame", "--json", "--revision", "HEAD~1", "file").json
    ] == [
        "line 0",
        "line 1",
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("HEAD~1", ["run-1"]),
        ("HEAD", []),
        ("HEAD~2..HEAD", ["run-1"]),
        ("main", []),
        ("0123456789", []),
    ],
)
def test_runs_of_a_commit_or_a_range(config, made, asked, expected):
    """By any name that git knows, and by a hash that no repository here has."""
    assert [run["run_id"] for run in agent_telemetry(config, "runs", "--json", "--commit", asked).json] == expected


@pytest.mark.parametrize("asked", ["no-such-branch", "HEAD..HEAD", "--output=evil"])
def test_a_commit_that_git_does_not_know_is_a_usage_error(config, made, asked):
    """Nothing that begins like an option is one."""
    result = agent_telemetry(config, "runs", f"--commit={asked}")
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize("change", ["I8f3a2b1c8f3a2b1c8f3a2b1c8f3a2b1c8f3a2b1c", "kxqpotlskxqpotlskxqpotlskxqpotls"])
def test_runs_of_a_change_of_gerrit_or_jj(config, git, case, change):
    """By the commits of the change, amended or not: Gerrit's id stands in the message, jj's in the header."""
    client = case.client()
    tree = git("write-tree")
    header = f"tree {tree}\nauthor A <a@b> 1760000000 +0000\ncommitter A <a@b> 1760000000 +0000\n"
    header += f"change-id {change}\n\nsubject\n" if change[0] == "k" else f"\nsubject\n\nChange-Id: {change}\n"
    Path("raw").write_text(header, "utf-8")
    commit = git("hash-object", "-w", "-t", "commit", "--literally", "raw")
    git("branch", "topic", commit)
    client.associate_commit(client.start_run("coder", "turn", run_id="run-1"), commit, "llm")
    client.end_run("run-1")
    assert client.flush()
    assert [run["run_id"] for run in agent_telemetry(config, "runs", "--json", "--change", change).json] == ["run-1"]


def test_git_install_names_what_became_of_each_hook(config, git):
    """And outside of a repository the error is that of git."""
    git("commit", "-q", "--allow-empty", "-m", "first")
    installed = agent_telemetry(config, "git", "install")
    assert installed.code == 0
    assert [line.rsplit(": ", 1)[1] for line in installed.out.splitlines()] == ["installed"] * 4
    removed = agent_telemetry(config, "git", "install", "--uninstall")
    assert [line.rsplit(": ", 1)[1] for line in removed.out.splitlines()] == ["removed"] * 4
    assert agent_telemetry(config, "git", "install", "--uninstall").out == "No hook of ours is installed here.\n"
