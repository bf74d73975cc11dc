"""What the hooks do to a commit: real git, real hooks, and a stand-in for the process in the background."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from otel_agent_telemetry.commits.agent_variables import AGENT_VARIABLES
from otel_agent_telemetry.commits.install import install
from otel_agent_telemetry.commits.local_index import FILE_NAME

pytestmark = pytest.mark.requires("git", "POSIX")
HOOK = Path(__file__).parents[2] / "otel_agent_telemetry/commits/hook.sh"
RUN = {"TELEMETRY_RUN_ID": "20261128T112838Z-agent-ab12cd34"}
TRAILER = f"Agent-Run: {RUN['TELEMETRY_RUN_ID']}"


def editor(tmp_path, script):
    """An editor that does to the message what a line of shell does; `$1` is the file."""
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"GIT_EDITOR": f"'{path}'"}


@pytest.fixture
def recording(case, monkeypatch):
    """Begins runs in a process, this one, that works in a directory."""

    def begin(directory, *run_ids):
        monkeypatch.chdir(directory)
        client = case.client(discover_service=False)
        for run_id in run_ids:
            client.start_run("agent", "job", run_id=run_id)
        return client

    return begin


def test_a_commit_outside_of_runs_is_as_without_the_hook(user, repository):
    """No trailer, nothing written, nothing started."""
    user.commit(repository, "outside")
    assert user.message(repository) == "outside"
    assert not (repository / ".git" / FILE_NAME).exists()
    assert not (repository / "evil").exists()


def test_a_commit_outside_of_runs_starts_no_process(user, repository, recording, tmp_path):
    """Of the hooks it has the shell alone, also where other processes of this user record runs; so it costs little."""
    (tmp_path / "elsewhere").mkdir()
    recording(tmp_path / "elsewhere", "run-1")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sed", "awk", "grep", "tail", "cat", "rm", "head", "id", "date"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >>'{tmp_path}/started'\nexec /usr/bin/{name} \"$@\"\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:/usr/bin:/bin"
    user.commit(repository, "outside\n\nof every run", PATH=path)
    assert not (tmp_path / "started").exists()
    user.commit(repository, "inside", PATH=path, **RUN)
    assert "sed" in (tmp_path / "started").read_text()


def test_a_commit_inside_a_run_has_the_trailer_and_the_rest_goes_to_the_background(user, repository):
    """The background is given the hash: HEAD may have moved when it looks."""
    commit = user.commit(repository, "inside\n\nSigned-off-by: Ann <ann@example.org>", **RUN)
    assert user.message(repository) == f"inside\n\nSigned-off-by: Ann <ann@example.org>\n{TRAILER}"
    words = user.started()
    assert words[0] == "[-I]"
    assert words[-5:] == ["[commit]", f"[{repository}/.git]", "[Agent-Run]", f"[{commit}]", "[]"]


@pytest.mark.parametrize(
    "environ",
    [
        {"BAGGAGE": "other=1,agent_run.id=run-7;property"},
        {"BAGGAGE": "agent_run.id=run-7, other=1"},
        {"TELEMETRY_RUN_ID": "run-7", "BAGGAGE": "agent_run.id=another", "TRACEPARENT": f"00-{1:032x}-{1:016x}-01"},
    ],
    ids=["baggage", "first of several", "run id before baggage"],
)
def test_the_run_is_read_from_the_environment(user, repository, environ):
    """In the order of the documentation."""
    user.commit(repository, "inside", **environ)
    assert user.message(repository) == "inside\n\nAgent-Run: run-7"


@pytest.mark.parametrize("run_id", ["x\ny", "a/b", "a\\b", "   ", "é\x1b[31m", "x" * 256])
def test_what_is_no_run_id_for_a_line_never_reaches_a_message(user, repository, run_id):
    """The environment is anyone's; the commit is made all the same."""
    user.commit(repository, "inside", TELEMETRY_RUN_ID=run_id)
    assert user.message(repository) == "inside"


@pytest.mark.parametrize("variable", [*(one.name for one in AGENT_VARIABLES), "TRACEPARENT"])
def test_a_variable_of_an_agent_starts_the_background_without_a_trailer(user, repository, variable):
    """The shell cannot know the run of a session or of a trace."""
    commit = user.commit(repository, "by an agent", **{variable: "1"})
    assert user.message(repository) == "by an agent"
    assert f"[{commit}]" in user.started()


@pytest.mark.parametrize(("setting", "last"), [("off", "inside"), ("Made-In", "Made-In: r"), ("a b;c", "inside")])
def test_the_trailer_is_a_setting(user, repository, setting, last):
    """Its name, or none; what can be no name is none."""
    user.commit(repository, "inside", TELEMETRY_RUN_ID="r", TELEMETRY_COMMIT_TRAILER=setting)
    assert user.message(repository).splitlines()[-1] == last


# Messages


def test_an_amend_does_not_double_the_trailer(user, repository):
    """Public complaint: `Co-authored-by` and `Signed-off-by` lines doubled by hooks on every amend."""
    user.commit(repository, "inside", **RUN)
    user.git(repository, "commit", "--amend", "--no-edit", "-q", "--allow-empty", **RUN)
    assert user.message(repository).count("Agent-Run") == 1
    user.git(repository, "commit", "--amend", "--no-edit", "-q", "--allow-empty", TELEMETRY_RUN_ID="second")
    assert user.message(repository) == f"inside\n\n{TRAILER}\nAgent-Run: second"


def test_no_verify_keeps_the_trailer_of_a_message_that_is_given(user, repository):
    """Agents commit with `--no-verify -m`; git then runs no `commit-msg`, but `prepare-commit-msg`."""
    user.commit(repository, "inside", "--no-verify", **RUN)
    assert user.message(repository) == f"inside\n\n{TRAILER}"


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (":", []),
        (":", ["-s"]),
        (":", ["-t", "template"]),
        ('grep \'^Agent-Run\' "$1" >x; cat x >"$1"; rm x', ["-e", "-m", "given and deleted"]),
    ],
    ids=["nothing written", "nothing but a sign-off", "template not edited", "all but our line deleted"],
)
def test_an_empty_message_aborts_as_before(user, repository, tmp_path, script, options):
    """Public complaint: leaving the editor without a message made a commit, since a hook had put its trailer there."""
    (repository / "template").write_text("Title\n\n# what and why\n")
    before = user.head(repository)
    done = user.git(repository, "commit", "--allow-empty", *options, check=False, **RUN, **editor(tmp_path, script))
    assert done.returncode == 1
    assert user.head(repository) == before
    again = editor(tmp_path, 'printf "written\\n" >"$1"')
    user.git(repository, "commit", "-q", "--allow-empty", *options, **RUN, **again)
    assert user.message(repository).startswith("written")
    assert user.message(repository).endswith(TRAILER)


def test_comments_scissors_and_the_difference_below_stay_below(user, repository, tmp_path):
    """`commit -v` shows the difference in the message's file; the trailer stands above it."""
    (repository / "file").write_text("Agent-Run: in the file\n")
    user.git(repository, "add", "file")
    user.git(repository, "commit", "-q", "-v", **RUN, **editor(tmp_path, 'sed -i "1s/^/subject\\n/" "$1"'))
    assert user.message(repository) == f"subject\n\n{TRAILER}"


@pytest.mark.parametrize("message", ["#12 fix", "subject\n\nbody\n---\nbelow a line", "$(touch evil) `touch evil`"])
def test_a_message_is_kept_as_it_is(user, repository, message):
    """A number sign without an editor, a line of dashes, what a shell would run: all of it is text."""
    user.commit(repository, message, **RUN)
    assert user.message(repository) == f"{message}\n\n{TRAILER}"
    assert not (repository / "evil").exists()


def test_a_signed_commit_is_signed_with_its_trailer(user, repository, tmp_path):
    """Nothing is changed behind the signature."""
    gpg = tmp_path / "gpg"
    gpg.write_text("#!/bin/sh\necho '[GNUPG:] SIG_CREATED ' >&2\nsum=$(cat | cksum)\necho \"-----$sum-----\"\n")
    gpg.chmod(0o755)
    user.git(repository, "-c", f"gpg.program={gpg}", "commit", "-q", "-S", "--allow-empty", "-m", "signed", **RUN)
    raw = user.git(repository, "cat-file", "commit", "HEAD").stdout
    unsigned = "".join(line for line in raw.splitlines(keepends=True) if not line.startswith(("gpgsig", " ")))
    summed = subprocess.run(["cksum"], input=unsigned, capture_output=True, text=True, check=True).stdout.strip()
    assert f"-----{summed}-----" in raw
    assert TRAILER in unsigned


# Rewriting


def test_a_rebase_signs_nothing_and_hands_the_pairs_on(user, repository):
    """Who rebases is not who made the commits; each new hash is written beside the old one at once."""
    user.git(repository, "branch", "side")
    user.commit(repository, "upstream")
    user.git(repository, "checkout", "-q", "side")
    olds = [user.commit(repository, "one", **RUN), user.commit(repository, "two")]
    user.started()
    user.git(repository, "rebase", "-q", "--no-ff", "main", TELEMETRY_RUN_ID="rebasing")
    news = [user.head(repository, "HEAD~1"), user.head(repository)]
    assert user.message(repository, news[0]) == f"one\n\n{TRAILER}"
    assert user.message(repository, news[1]) == "two"
    words = user.started()
    pairs = [f"{old} {new}" for old, new in zip(olds, news, strict=True)]
    assert words[-5:] == ["[rewrite]", f"[{repository}/.git]", "[Agent-Run]", *pairs]
    assert (repository / ".git" / FILE_NAME).read_text().splitlines() == [f"rewrite {pair}" for pair in pairs]


def test_a_cherry_pick_and_a_squash_keep_the_runs_of_what_they_take(user, repository):
    """Outside of a run too: the message names one, so the background looks at the new commit."""
    user.git(repository, "checkout", "-q", "-b", "side")
    (repository / "file").write_text("x")
    user.git(repository, "add", "file")
    picked = user.commit(repository, "one", **RUN)
    user.started()
    user.git(repository, "checkout", "-q", "main")
    user.git(repository, "cherry-pick", picked)
    assert user.message(repository) == f"one\n\n{TRAILER}"
    assert f"[{user.head(repository)}]" in user.started()
    user.git(repository, "reset", "-q", "--hard", "HEAD~1")
    user.git(repository, "merge", "-q", "--squash", "side")
    user.git(repository, "commit", "-q", "--no-edit")
    assert f"    {TRAILER}" in user.message(repository)
    assert f"[{user.head(repository)}]" in user.started()


def test_a_merge_in_a_run_has_the_trailer(user, repository):
    """A merge is a commit like others."""
    user.git(repository, "checkout", "-q", "-b", "side")
    user.commit(repository, "side")
    user.git(repository, "checkout", "-q", "main")
    user.git(repository, "merge", "-q", "--no-ff", "--no-edit", "side", **RUN)
    assert user.message(repository) == f"Merge branch 'side'\n\n{TRAILER}"


# Places


def test_a_linked_worktree_and_a_detached_head_have_the_hooks_of_their_repository(user, repository, tmp_path):
    """All worktrees share the hooks and the file beside them."""
    linked = tmp_path / "linked"
    user.git(repository, "worktree", "add", "-q", "--detach", str(linked))
    commit = user.commit(linked, "in a worktree", **RUN)
    assert user.message(linked).endswith(TRAILER)
    assert user.started()[-4:-1] == [f"[{repository}/.git/worktrees/linked]", "[Agent-Run]", f"[{commit}]"]
    assert (repository / ".git" / FILE_NAME).exists()
    user.git(linked, "commit", "-q", "--amend", "--allow-empty", "--no-edit")
    assert f"[{repository}/.git/worktrees/linked]" in user.started()


def test_a_submodule_has_hooks_of_its_own(user, config, repository, tmp_path):
    """Its git directory lies in the other repository's, and its hooks too."""
    user.git(repository, "submodule", "--quiet", "add", str(user.init(tmp_path / "library")), "library")
    inner = repository / "library"
    user.commit(inner, "without hooks", **RUN)
    assert user.message(inner) == "without hooks"
    install(config, inner)
    user.commit(inner, "with hooks", **RUN)
    assert user.message(inner).endswith(TRAILER)
    assert f"[{repository}/.git/modules/library]" in user.started()


def test_a_program_with_a_minimal_path_commits_as_others_do(user, repository):
    """GUI clients start with a PATH that has neither a shell's additions nor our command."""
    user.commit(repository, "from a GUI", PATH="/usr/bin:/bin", **RUN)
    assert user.message(repository).endswith(TRAILER)
    assert user.started()


# Runs of processes that work here


@pytest.mark.parametrize("place", [".", "..", "inside"])
def test_the_one_run_open_in_this_directory_signs_the_commit(user, repository, recording, place):
    """A process that works in the work tree, in a folder of it, or in one that holds it."""
    (repository / "inside").mkdir()
    client = recording(repository / place, "run-1", "run-2")
    client.end_run("run-1")
    commit = user.commit(repository, "in the agent's directory")
    assert user.message(repository).endswith("Agent-Run: run-2")
    assert user.started()[-2:] == [f"[{commit}]", "[run-2]"]
    client.end_run("run-2")
    user.commit(repository, "after it")
    assert user.message(repository) == "after it"


def test_two_open_runs_sign_nothing_and_are_both_told_to_the_background(user, repository, recording):
    """Which of them it was, nobody knows; `git log --why` shows both."""
    recording(repository, "run-1", "run-2")
    user.commit(repository, "by one of them")
    assert user.message(repository) == "by one of them"
    assert sorted(word.strip("[]") for word in user.started()[-2:]) == ["run-1", "run-2"]


def test_a_run_of_another_directory_or_of_a_dead_process_is_no_candidate(user, repository, recording, config, tmp_path):
    """Neither what works beside the repository nor what was killed."""
    (tmp_path / "elsewhere").mkdir()
    recording(tmp_path / "elsewhere", "run-1")
    ended = subprocess.Popen(["true"])
    ended.wait()
    writer = f"20260101T000000-{ended.pid}-0badcafe"
    header = {"record_type": "segment", "writer": writer, "directory": str(repository)}
    state = '{"record_type":"run","writer":"w","event_id":"e","run_id":"dead","status":"running"}\n'
    segment = config.buffer_dir / f"{writer}-000000.jsonl"
    segment.write_text(json.dumps(header, separators=(",", ":")) + "\n" + state)
    user.commit(repository, "by nobody")
    assert user.message(repository) == "by nobody"
    assert not (repository / ".git" / FILE_NAME).exists()


# Broken places


@pytest.mark.parametrize("base", ["missing", "a file", "closed", "hostile name"])
def test_a_broken_base_directory_costs_a_commit_nothing(user, repository, tmp_path, base):
    """Missing, no folder, closed to this user, or a name that a shell could trip over: the trailer is there."""
    place = tmp_path / ("a base; touch evil" if base == "hostile name" else "base of a run")
    if base == "a file":
        place.write_text("")
    elif base != "missing":
        (place / "buffer").mkdir(parents=True)
    if base == "closed":
        (place / "buffer").chmod(0)
    commit = user.commit(repository, "inside", TELEMETRY_BASE_DIR=str(place), **RUN)
    assert user.message(repository) == f"inside\n\n{TRAILER}"
    assert f"[{commit}]" in user.started()
    if base == "closed":
        (place / "buffer").chmod(stat.S_IRWXU)


@pytest.mark.parametrize("lost", ["interpreter", "package"])
def test_an_installation_that_is_gone_leaves_commits_alone(user, repository, config, tmp_path, lost):
    """The virtual environment was removed, or the repository is mounted into a container without it."""
    for hook in (repository / ".git/hooks").glob("*"):
        if not hook.name.endswith(".sample"):
            name = "at_python" if lost == "interpreter" else "at_root"
            removed = f"{name}={tmp_path}/gone"
            lines = [removed if line.startswith(f"{name}=") else line for line in hook.read_text().splitlines()]
            hook.write_text("\n".join(lines) + "\n")
    done = user.git(repository, "commit", "-q", "--allow-empty", "-m", "alone", **RUN)
    assert (done.stdout, done.stderr, user.message(repository)) == ("", "", "alone")


@pytest.mark.parametrize("shell", ["dash -e", "bash --posix -e", "bash -eu"])
def test_the_hook_is_sourced_by_strict_shells(user, repository, shell):
    """Husky runs hooks with `sh -e`, and /bin/sh is another shell on each system."""
    program, *options = shell.split()
    hook = repository / ".git/hooks/commit-msg"
    for environ in ({}, RUN):
        (repository / "message").write_text("subject\n")
        subprocess.run(
            [program, *options, str(hook), "message"], cwd=repository, check=True, env={**os.environ, **environ}
        )
    assert (repository / "message").read_text() == f"subject\n\n{TRAILER}\n"


def test_the_shell_and_the_table_name_the_same_variables():
    """What the shell takes for a sign of an agent, the background knows."""
    line = next(line for line in HOOK.read_text().splitlines() if "TRACEPARENT-" in line)
    assert {one.name for one in AGENT_VARIABLES} | {"TRACEPARENT"} == {
        part.split("}")[0].removesuffix("-") for part in line.split("${")[1:]
    }
