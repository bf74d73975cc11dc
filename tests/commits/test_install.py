"""Where the hooks go, and that every other hook goes on working."""

from __future__ import annotations

import pytest
from repositories import git_environment

from otel_agent_telemetry.commits.install import HOOKS, install, install_global, uninstall, uninstall_global
from otel_agent_telemetry.errors import ConfigurationError

pytestmark = pytest.mark.requires("git", "POSIX")
RUN = {"TELEMETRY_RUN_ID": "run-1"}
TRAILER = "Agent-Run: run-1"


def write_hook(path, script):
    """An executable hook that writes down what it was given, and does what a line of shell does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0 $*" >>"$HOME/ran"\n{script}\n')
    path.chmod(0o755)
    return path


def ran(user):
    """What the hooks of others wrote down since the last look."""
    log = user.home / "ran"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


@pytest.fixture
def plain(user, tmp_path):
    """A repository without our hooks."""
    return user.init(tmp_path / "plain")


@pytest.mark.parametrize("hook", ["prepare-commit-msg", "commit-msg", "post-commit"])
def test_a_hook_that_is_there_runs_first_with_its_arguments(user, config, plain, hook):
    """And comes back as it was when ours are removed."""
    theirs = write_hook(plain / ".git/hooks" / hook, "exit 0")
    before = theirs.read_bytes(), theirs.stat().st_mode
    install(config, plain)
    install(config, plain)  # a second time changes nothing
    user.commit(plain, "inside", **RUN)
    (call,) = ran(user)
    arguments = {"prepare-commit-msg": " .git/COMMIT_EDITMSG message", "commit-msg": " .git/COMMIT_EDITMSG"}
    assert call.split(" ", 1)[1] == arguments.get(hook, " ").removeprefix(" ")
    assert user.message(plain).endswith(TRAILER)
    uninstall(plain)
    assert (theirs.read_bytes(), theirs.stat().st_mode) == before
    user.commit(plain, "after", **RUN)
    assert user.message(plain) == "after"
    assert sorted(path.name for path in theirs.parent.iterdir() if not path.name.endswith(".sample")) == [hook]


@pytest.mark.parametrize("hook", ["prepare-commit-msg", "commit-msg"])
def test_a_hook_that_refuses_a_commit_still_does(user, config, plain, hook):
    """With its own words."""
    write_hook(plain / ".git/hooks" / hook, "echo refused >&2; exit 3")
    install(config, plain)
    done = user.git(plain, "commit", "--allow-empty", "-m", "inside", check=False, **RUN)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_a_linter_that_refuses_long_lines_never_refuses_ours(user, config, plain):
    """Of linters, gitlint allows 80 characters, commitlint 100; a run id has up to 255."""
    write_hook(plain / ".git/hooks/commit-msg", "! grep -q '^.\\{73,\\}$' \"$1\"")
    install(config, plain)
    user.commit(plain, "inside", TELEMETRY_RUN_ID="x" * 250)
    assert user.message(plain) == f"inside\n\nAgent-Run: {'x' * 250}"


def test_a_post_commit_that_fails_keeps_its_status_and_ours_runs(user, config, plain):
    """What has happened is recorded whatever the status of the other hook is."""
    write_hook(plain / ".git/hooks/post-commit", "exit 3")
    install(config, plain)
    commit = user.commit(plain, "inside", **RUN)
    assert f"[{commit}]" in user.started()


def test_a_rewriting_hook_that_is_there_gets_its_input(user, config, plain):
    """Standard input can be read once: both get it."""
    write_hook(plain / ".git/hooks/post-rewrite", 'cat >>"$HOME/ran"')
    install(config, plain)
    old = user.commit(plain, "inside", **RUN)
    user.started()
    user.git(plain, "commit", "-q", "--amend", "--allow-empty", "--no-edit")
    assert ran(user)[1:] == [f"{old} {user.head(plain)}"]


@pytest.mark.parametrize("kind", ["script", "relative link"])
def test_a_dispatcher_that_looks_at_its_name_is_called_by_its_name(user, config, plain, kind):
    """Husky 4 and overcommit are one program under the names of all hooks."""
    place = plain / "tools/dispatch" if kind == "relative link" else plain / ".git/hooks/commit-msg"
    write_hook(place, '[ "$(basename "$0")" = commit-msg ]')
    if kind == "relative link":
        (plain / ".git/hooks/commit-msg").symlink_to("../../tools/dispatch")
    install(config, plain)
    user.commit(plain, "inside", **RUN)
    assert ran(user)[0].endswith("/commit-msg .git/COMMIT_EDITMSG")
    uninstall(plain)
    user.commit(plain, "after")
    assert len(ran(user)) == 1


def test_a_hook_that_is_not_executable_stays_off(user, config, plain):
    """Git does not run it, and neither do we."""
    write_hook(plain / ".git/hooks/commit-msg", "exit 1").chmod(0o644)
    install(config, plain)
    user.commit(plain, "inside", **RUN)
    assert ran(user) == []


def test_a_folder_of_hooks_in_the_work_tree_is_added_to_and_hidden(user, config, plain):
    """A project's tracked hook is the project's; new files are no part of it."""
    write_hook(plain / ".githooks/commit-msg", "exit 0")
    user.git(plain, "add", ".githooks")
    user.commit(plain, "hooks of the project")
    user.git(plain, "config", "core.hooksPath", ".githooks")
    done = {change.path.name: change.done for change in install(config, plain)}
    assert done["commit-msg"].startswith("left alone")
    user.commit(plain, "inside", **RUN)
    assert user.message(plain) == f"inside\n\n{TRAILER}"
    assert user.git(plain, "status", "--porcelain").stdout == ""
    assert len(ran(user)) == 1
    uninstall(plain)
    assert sorted(path.name for path in (plain / ".githooks").iterdir()) == ["commit-msg"]
    assert "agent-telemetry" not in (plain / ".git/info/exclude").read_text()


def test_husky_installed_again_takes_nothing_away(user, config, plain):
    """Husky 9 points git at `.husky/_`, which it writes anew with every `npm install`, and runs the file above it."""
    runner = (
        '#!/bin/sh\nhook=$(dirname "$(dirname "$0")")/$(basename "$0")\n[ -f "$hook" ] || exit 0\nsh -e "$hook" "$@"\n'
    )

    def prepare():
        for hook in (*HOOKS, "pre-commit", "pre-push"):
            path = plain / ".husky/_" / hook
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(runner)
            path.chmod(0o755)
        user.git(plain, "config", "core.hooksPath", ".husky/_")

    prepare()
    write_hook(plain / ".husky/pre-commit", "exit 0")
    install(config, plain)
    prepare()
    user.commit(plain, "inside", **RUN)
    assert user.message(plain).endswith(TRAILER)
    assert len(ran(user)) == 1
    assert ".husky/post-commit" not in user.git(plain, "status", "--porcelain", "-uall").stdout


@pytest.fixture
def pre_commit(plain):
    """Installs pre-commit's hook as `pre-commit install` does: what stands there becomes `.legacy`, and is run by it."""

    def installed():
        hook = plain / ".git/hooks/commit-msg"
        if hook.exists() and "generated by pre-commit" not in hook.read_text():
            hook.rename(hook.with_name("commit-msg.legacy"))
        write_hook(
            hook,
            "# File generated by pre-commit: https://pre-commit.com\n"
            '[ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || exit 9\n'
            'legacy=$(dirname "$0")/commit-msg.legacy\n'
            '[ ! -x "$legacy" ] || PRE_COMMIT_RUNNING_LEGACY=1 "$legacy" "$@"',
        )

    return installed


def test_pre_commit_installed_again_runs_both_and_not_itself(user, config, plain, pre_commit):
    """It moves our hook to `.legacy` and runs it, and refuses to be run by it; each may be installed again and again."""
    pre_commit()
    install(config, plain)
    pre_commit()
    for _ in range(2):
        user.commit(plain, "inside", **RUN)
        assert user.message(plain) == f"inside\n\n{TRAILER}"
        assert len(ran(user)) == 1
        assert "pre-commit runs it" in {c.path.name: c.done for c in install(config, plain)}["commit-msg.legacy"]
    uninstall(plain)
    assert [path.name for path in (plain / ".git/hooks").glob("commit-msg*") if path.suffix != ".sample"] == [
        "commit-msg"
    ]
    user.commit(plain, "after", **RUN)
    assert (user.message(plain), len(ran(user))) == ("after", 1)


def test_lefthook_that_took_the_place_of_ours_is_run_by_ours_again(user, config, plain):
    """It renames what stands there to `.old`, does not run it, and stops when there is an `.old` already."""
    hook = plain / ".git/hooks/commit-msg"

    def lefthook():
        if hook.exists():
            assert not hook.with_name("commit-msg.old").exists()
            hook.rename(hook.with_name("commit-msg.old"))
        write_hook(hook, ": lefthook run commit-msg")

    write_hook(hook, "exit 0")
    install(config, plain)
    for _ in range(2):
        lefthook()
        install(config, plain)
        user.commit(plain, "inside", **RUN)
        assert user.message(plain).endswith(TRAILER)
        assert len(ran(user)) == 2  # the user's own, and lefthook's once


def test_hooks_of_all_repositories_are_not_changed_for_one(user, config, plain):
    """A user's global `core.hooksPath` is named, with the option that adds to it."""
    user.git(plain, "config", "--global", "core.hooksPath", str(user.home / "hooks"))
    with pytest.raises(ConfigurationError, match=r"core\.hooksPath") as problem:
        install(config, plain)
    assert "--global" in problem.value.hint


def test_a_folder_without_a_repository_is_an_error_in_the_words_of_git(user, config, tmp_path):
    """As is a repository of another user, which git refuses."""
    with pytest.raises(ConfigurationError, match="not a git repository"):
        install(config, tmp_path)


# For every repository


def test_new_and_cloned_repositories_have_the_hooks_and_what_git_gives_them(user, config, plain, tmp_path):
    """By a template, never by `core.hooksPath`: pre-commit, lefthook and git-lfs would refuse to install theirs."""
    install_global(config)
    cloned = tmp_path / "cloned"
    user.git(tmp_path, "clone", "-q", str(plain), str(cloned))
    user.commit(cloned, "inside", **RUN)
    assert user.message(cloned).endswith(TRAILER)
    assert (cloned / ".git/info/exclude").exists()
    assert user.git(plain, "config", "--get", "core.hooksPath", check=False).stdout == ""
    user.git(plain, "init", "-q")  # how a repository that is there gets them
    user.commit(plain, "inside", **RUN)
    assert user.message(plain).endswith(TRAILER)
    uninstall_global()
    assert user.git(plain, "config", "--global", "--get", "init.templateDir", check=False).stdout == ""
    assert not (user.home / ".config/agent-telemetry/git-template").exists()


def test_a_user_with_a_template_or_with_global_hooks_keeps_them(user, config, plain, tmp_path):
    """Ours join what is there, and leave it as it was."""
    template, hooks = user.home / "template", user.home / "hooks"
    theirs = write_hook(template / "hooks/post-commit", "exit 0")
    user.git(plain, "config", "--global", "init.templateDir", "~/template")
    install_global(config)
    made = user.init(tmp_path / "made")
    assert len(ran(user)) == 1
    user.commit(made, "inside", **RUN)
    assert user.message(made).endswith(TRAILER)
    uninstall_global()
    assert sorted(path.name for path in theirs.parent.iterdir()) == ["post-commit"]
    user.git(plain, "config", "--global", "core.hooksPath", str(hooks))
    write_hook(hooks / "pre-commit", "exit 0")
    install_global(config)
    ran(user)
    user.commit(plain, "inside", **RUN)
    assert user.message(plain).endswith(TRAILER)
    assert len(ran(user)) == 1


def test_the_environment_of_these_tests_has_nothing_of_ours(tmp_path):
    """Else a test could pass by a variable of the machine."""
    assert not [name for name in git_environment(tmp_path) if name.startswith(("TELEMETRY_", "CLAUDE"))]
