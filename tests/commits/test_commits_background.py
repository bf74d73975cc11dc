"""What the background keeps of commits: in the store and in the repository, after amends and rebases too."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from on_disk import ROOT, eventually, rows_of
from repositories import TIMEOUT_S, git_environment

from otel_agent_telemetry.commits.background import CommitRecorder
from otel_agent_telemetry.commits.find_run import Finding
from otel_agent_telemetry.commits.install import install
from otel_agent_telemetry.commits.local_index import FILE_NAME, LocalIndex, add_lines, read_index
from otel_agent_telemetry.commits.repository import Repository

pytestmark = pytest.mark.requires("git", "POSIX")
NOBODY = Finding(None, "nobody knows")


@pytest.fixture
def plain(user, tmp_path):
    """A repository without hooks."""
    return user.init(tmp_path / "plain")


@pytest.fixture
def recorder(config, plain, monkeypatch):
    """What the background does, in this process, which is no continuous integration."""
    monkeypatch.delenv("CI", raising=False)
    made = CommitRecorder(config, Repository(folder=plain), trailer="Agent-Run")
    yield made
    made.close()


def test_the_commit_is_associated_with_its_run(user, config, case, plain, recorder):
    """With its author and its time; a hostile name stays text."""
    user.git(plain, "config", "user.name", "Eve $(touch evil)")
    client = case.client()
    client.start_run("agent", "job", run_id="run-1")
    commit = user.commit(plain, "made in a run")
    recorder.record_commit(commit, lambda _: Finding("run-1", "it was named"))
    client.end_run("run-1")
    assert client.flush()
    run = rows_of(config)["run-1"]
    assert (run["git_commit_hash"], run["git_commit_source"]) == (commit, "llm")
    assert run["git_commit_author"] == "Eve $(touch evil) <ann@example.org>"
    assert read_index(plain / ".git").why[commit] == "it was named"


def test_the_runs_of_the_message_are_kept_wherever_their_lines_stand(user, plain, recorder):
    """A squash indents the messages of others, and a pull request's title stands above a list of them."""
    message = (
        "squashed\n\n    one\n\n    Agent-Run: run-1\n\n* two\n\nagent-run: run-2\n\nAgent-Run: a/b\nAgent-Run: run-1"
    )
    commit = user.commit(plain, message)
    recorder.record_commit(commit, lambda _: NOBODY)
    assert read_index(plain / ".git").runs[commit] == ["run-1", "run-2"]


@pytest.mark.parametrize("order", ["commit first", "rewrite first"])
def test_a_commit_that_is_amended_while_the_background_works_keeps_its_run(user, plain, recorder, order):
    """Two processes: whichever comes last finds what the other has written."""
    old = user.commit(plain, "old")
    user.git(plain, "commit", "-q", "--amend", "--allow-empty", "-m", "new")
    new = user.head(plain)
    add_lines(plain / ".git", [("rewrite", old, new)])  # by the shell
    steps = [
        lambda: recorder.record_commit(old, lambda _: Finding("run-1", "it was named")),
        lambda: recorder.record_rewritten([(old, new)]),
    ]
    for step in steps if order == "commit first" else reversed(steps):
        step()
    assert read_index(plain / ".git").runs[new] == ["run-1"]


def test_runs_of_squashed_commits_meet_in_the_new_one(user, plain, recorder):
    """An interactive rebase names one new hash for several old ones."""
    olds = [user.commit(plain, "one"), user.commit(plain, "two")]
    for number, old in enumerate(olds):
        recorder.record_commit(old, lambda _, number=number: Finding(f"run-{number}", "it was named"))
    new = user.commit(plain, "both")
    add_lines(plain / ".git", [("rewrite", old, new) for old in olds])
    recorder.record_rewritten([(old, new) for old in olds])
    assert read_index(plain / ".git").runs[new] == ["run-0", "run-1"]


def test_a_run_that_arrives_later_is_found_by_the_next_look(user, plain, recorder):
    """By the next hook or `git log`; once found, a commit is not looked at again, and what was made of it follows."""
    old = user.commit(plain, "by an agent that sends at the end")
    recorder.record_commit(old, lambda _: Finding(None, "not sent yet", is_early=True), signs="OPENCODE=1")
    user.git(plain, "commit", "-q", "--amend", "--allow-empty", "-m", "amended")
    add_lines(plain / ".git", [("rewrite", old, user.head(plain))])
    recorder.record_late(lambda _, signs: Finding(None, signs, is_early=True))
    assert read_index(plain / ".git").runs == {}
    recorder.record_late(lambda _, signs: Finding("run-1", f"found by {signs}"))
    index = read_index(plain / ".git")
    assert (index.runs[old], index.runs[user.head(plain)]) == (["run-1"], ["run-1"])
    assert index.why[old] == "found by OPENCODE=1"
    recorder.record_late(lambda *_: pytest.fail("looked again"))


def test_the_index_skips_what_it_cannot_read(tmp_path):
    """A torn line, another's line, an id that none can be; a circle of rewrites ends."""
    assert read_index(tmp_path) == LocalIndex()
    one, two = "1" * 40, "2" * 40
    lines = [
        f"commit {one} run-1",
        f"commit {one} run-1",
        "commit 12",
        f"commit {one} a/b",
        "x y z",
        f"rewrite {one} {two}",
    ]
    (tmp_path / FILE_NAME).write_text(
        "\n".join([*lines, f"rewrite {two} {one}", f"why {one} be", f"commit {two} \xff"])
    )
    index = read_index(tmp_path)
    assert index.runs[one] == ["run-1"]
    assert index.successors(one) == [two]


def test_an_index_that_cannot_be_written_is_no_error(tmp_path):
    """The disk is full, or the folder was removed."""
    add_lines(tmp_path / "missing", [("why", "1" * 40, "nobody reads it")])


@pytest.mark.parametrize("broken", ["full", "closed", "a file"])
def test_a_broken_base_directory_costs_the_association_alone(user, config, plain, request, tmp_path, broken):
    """What the repository itself keeps is kept."""
    base = request.getfixturevalue("small_disk") if broken == "full" else tmp_path / "broken"
    if broken == "full":
        with contextlib.suppress(OSError):
            (base / "filling").write_bytes(bytes(1 << 20))
    elif broken == "a file":
        base.write_text("")
    else:
        base.mkdir(mode=0o500)
    commit = user.commit(plain, "inside")
    recorder = CommitRecorder(config.with_(base_dir=base), Repository(folder=plain), trailer="Agent-Run")
    recorder.record_commit(commit, lambda _: Finding("run-1", "it was named"))
    recorder.close()
    assert read_index(plain / ".git").runs[commit] == ["run-1"]


def test_a_commit_in_a_run_reaches_the_store_by_a_process_that_nobody_waits_for(user, config, case, plain, monkeypatch):
    """From `git commit` to the row, with the real interpreter; the commit's output ends with the commit."""
    monkeypatch.undo()
    install(config, plain)
    client = case.client()
    client.start_run("agent", "job", run_id="run-1")
    environ = git_environment(user.home, TELEMETRY_RUN_ID="run-1", TELEMETRY_DISCOVER_SERVICE="false")
    # Pipes would stay open as long as the background holds them.
    subprocess.run(
        ["git", "commit", "-q", "--allow-empty", "-m", "inside"],
        cwd=plain, env={**environ, "PYTHONPATH": str(plain)}, capture_output=True, check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    commit = user.head(plain)
    eventually(lambda: commit in read_index(plain / ".git").why)
    client.end_run("run-1")
    eventually(lambda: client.flush() and rows_of(config)["run-1"]["git_commit_hash"] == commit)


def test_the_process_leaves_the_terminals_session_and_the_folder(tmp_path):
    """A terminal that closes ends its own session; a folder that is in use could not be removed."""
    code = (
        "import os, sys\n"
        "from otel_agent_telemetry.commits import background\n"
        "background.CommitRecorder = lambda *a, **k: print(os.getsid(0) == os.getpid(), os.getcwd()) or sys.exit()\n"
        "background.main(['rewrite', 'x', 'y'])\n"
    )
    environ = {**os.environ, "TELEMETRY_BASE_DIR": str(tmp_path / "base"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "True /\n"
