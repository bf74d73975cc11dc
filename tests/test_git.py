"""What a repository says about itself, read from repositories that git made."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from costs import cost_s
from on_disk import PATIENCE_S

from otel_agent_telemetry.git import GitContext, HeadCommit, read_git_context

pytestmark = pytest.mark.requires("git", "POSIX")

REMOTE = "https://example.com/owner/repo.git"
NOBODY = 65_534


def git(folder: Path, *arguments: str) -> str:
    """Run git without anybody's configuration; the answer without its line end."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }
    command = ["git", "-c", "protocol.file.allow=always", "-c", "core.fsync=none", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repository(folder: Path, *, commits: int = 1, remote: str | None = REMOTE) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    if remote is not None:
        git(folder, "remote", "add", "origin", remote)
    for number in range(commits):
        git(folder, "commit", "-q", "--allow-empty", "-m", str(number))
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


def context(folder: Path) -> GitContext:
    found = read_git_context(folder)
    assert found is not None
    return found


def test_a_normal_repository_has_its_remote_and_branch(repository: Path) -> None:
    """The ordinary case agrees with git itself."""
    assert context(repository) == GitContext(repo=REMOTE, branch="main")


def test_a_folder_or_file_deep_inside_is_in_the_repository(repository: Path) -> None:
    """Parents are searched, from a file, a missing folder or through a symbolic link too."""
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "script.py").touch()
    link = repository.parent / "link"
    link.symlink_to(deep)
    for start in (deep, deep / "script.py", deep / "missing" / "more", link):
        assert read_git_context(start) == context(repository)


def test_a_relative_start_is_meant_from_the_working_directory(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path()` is where the process is."""
    monkeypatch.chdir(repository)
    assert read_git_context(Path()) == context(repository)


def test_branch_names_with_slashes_and_other_scripts_are_whole(repository: Path) -> None:
    """Only `refs/heads/` is taken off."""
    git(repository, "checkout", "-q", "-b", "feature/größe/x")
    assert context(repository).branch == "feature/größe/x"


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    """HEAD holds the commit itself."""
    git(repository, "checkout", "-q", "--detach")
    assert context(repository) == GitContext(repo=REMOTE, branch=None)


def test_before_the_first_commit_there_is_a_branch(tmp_path: Path) -> None:
    """An unborn branch has a name."""
    empty = make_repository(tmp_path / "empty", commits=0)
    assert context(empty) == GitContext(repo=REMOTE, branch="main")


def test_an_orphan_branch_has_its_name(repository: Path) -> None:
    """Unborn again after `checkout --orphan`."""
    git(repository, "checkout", "-q", "--orphan", "fresh")
    assert context(repository) == GitContext(repo=REMOTE, branch="fresh")


def test_without_a_remote_the_branch_is_read(tmp_path: Path) -> None:
    """No remote is None, not an error."""
    lonely = make_repository(tmp_path / "lonely", remote=None)
    assert context(lonely) == GitContext(repo=None, branch="main")


def test_origin_comes_before_other_remotes_and_the_first_before_none(tmp_path: Path) -> None:
    """The remote `origin` wherever it stands, else the first."""
    folder = make_repository(tmp_path / "many", remote=None)
    git(folder, "remote", "add", "upstream", "https://example.com/up.git")
    git(folder, "remote", "add", "fork", "https://example.com/fork.git")
    assert context(folder).repo == "https://example.com/up.git"
    git(folder, "remote", "add", "origin", REMOTE)
    assert context(folder).repo == REMOTE


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.com/o/r.git",
        "https://hunter2@example.com/o/r.git",
        "ssh://u:hunter2@example.com/o/r.git",
    ],
)
def test_credentials_of_a_remote_are_dropped(tmp_path: Path, url: str) -> None:
    """A token in a remote's URL never gets into a record."""
    found = context(make_repository(tmp_path / "secret", remote=url))
    assert found.repo is not None
    assert found.repo.endswith("://example.com/o/r.git")
    assert "hunter2" not in str(found)


def test_a_worktree_has_its_own_head_and_the_shared_rest(repository: Path) -> None:
    """`.git` is a file, HEAD lies in the worktree's folder, refs and configuration in the common one."""
    tree = repository.parent / "tree"
    git(repository, "worktree", "add", "-q", "-b", "side", str(tree))
    git(tree, "commit", "-q", "--allow-empty", "-m", "side")
    assert (tree / ".git").is_file()
    assert context(tree) == GitContext(repo=REMOTE, branch="side")
    git(repository, "pack-refs", "--all")
    assert context(repository) == GitContext(repo=REMOTE, branch="main")


def test_a_worktree_with_a_detached_head(repository: Path) -> None:
    """A detached worktree has the commit only."""
    tree = repository.parent / "tree"
    git(repository, "worktree", "add", "-q", "--detach", str(tree))
    assert context(tree) == GitContext(repo=REMOTE, branch=None)


def test_a_submodule_is_a_repository_of_its_own(repository: Path) -> None:
    """Its `.git` file points, relatively, into the outer repository's modules."""
    library = make_repository(repository.parent / "library", commits=2)
    git(repository, "submodule", "add", "-q", str(library), "vendor/library")
    inner = repository / "vendor/library"
    assert (inner / ".git").is_file()
    assert context(inner) == GitContext(repo=str(library), branch="main")
    assert context(inner / "..") == context(repository)


def test_a_clone_has_its_origin(repository: Path) -> None:
    """A remote by path is a remote."""
    clone = repository.parent / "clone"
    git(repository, "clone", "-q", str(repository), str(clone))
    assert context(clone) == GitContext(repo=str(repository), branch="main")


def test_outside_of_any_repository_there_is_nothing(tmp_path: Path) -> None:
    """No `.git` up to the root is None, from a missing or impossible path too."""
    for start in (tmp_path, tmp_path / "missing", tmp_path / "nul\x00", tmp_path / ("x" * 5000)):
        assert read_git_context(start) is None


def test_an_empty_git_folder_is_passed_over_as_git_does(repository: Path) -> None:
    """A `.git` folder without HEAD is no repository; the search goes on above."""
    inner = repository / "inner"
    (inner / ".git").mkdir(parents=True)
    assert read_git_context(inner) == context(repository)


@pytest.mark.parametrize(
    "content", ["gitdir: .git", "gitdir: missing", "gitdir:", "gitdir: \x00", "nonsense", "gitdir: /dev"]
)
def test_a_git_file_that_leads_nowhere_is_no_repository(repository: Path, content: str) -> None:
    """A pointer to itself or to nothing ends the search: what lies above is another repository."""
    inner = repository / "inner"
    inner.mkdir()
    (inner / ".git").write_text(content + "\n")
    assert read_git_context(inner) is None


def test_git_files_that_point_at_each_other_end(tmp_path: Path) -> None:
    """A loop over two files, and a loop of symbolic links."""
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".git").write_text(f"gitdir: ../{other}/.git\n")
    loop = tmp_path / "c"
    loop.mkdir()
    (loop / ".git").symlink_to(loop / ".git")
    for name in "abc":
        assert read_git_context(tmp_path / name) is None


@pytest.mark.parametrize(
    "head", ["ref: ../../secret", "ref: refs/../../../secret", "ref: /etc/passwd", "ref:", "text", "\x00"]
)
def test_a_head_that_leaves_the_repository_is_not_followed(repository: Path, head: str) -> None:
    """A hostile HEAD reads no file outside `refs/`."""
    (repository.parent / "secret").write_text("f" * 40)
    (repository / ".git/HEAD").write_text(head + "\n")
    assert context(repository) == GitContext(repo=REMOTE, branch=None)


def test_a_reftable_repository_has_its_remote_only(repository: Path) -> None:
    """Its HEAD is a stub, which is no branch."""
    (repository / ".git/HEAD").write_text("ref: refs/heads/.invalid\n")
    assert context(repository) == GitContext(repo=REMOTE, branch=None)


@pytest.mark.parametrize("name", ["HEAD", "config", "commondir"])
def test_a_pipe_or_folder_in_a_files_place_holds_nobody_up(repository: Path, name: str) -> None:
    """Only regular files are read: a named pipe without a writer would block for ever."""
    for put in (os.mkfifo, os.mkdir):
        path = repository / ".git" / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        put(path)
        done: list[object] = []
        reader = threading.Thread(target=lambda to=done: to.append(read_git_context(repository)), daemon=True)
        reader.start()
        reader.join(PATIENCE_S)
        assert len(done) == 1


def test_a_config_of_100_mb_is_not_read_whole(repository: Path) -> None:
    """What stands in its first megabyte counts; the rest costs nothing."""
    config = repository / ".git/config"
    with config.open("ab") as file:
        for _ in range(100):
            file.write(b"#" * ((1 << 20) - 1) + b"\n")
        file.write(b'[remote "late"]\n\turl = https://example.com/late.git\n')
    assert context(repository).repo == REMOTE
    assert cost_s(lambda: context(repository)) < 0.5 * cost_s(config.read_bytes)
    config.write_bytes(config.read_bytes().replace(b'[remote "origin"]', b'[removed "origin"]'))
    assert context(repository).repo is None


def test_content_that_is_not_utf8_is_read_as_far_as_it_goes(repository: Path) -> None:
    """Foreign bytes become U+FFFD in a name, and do not hide the remote."""
    odd = repository / ".git/refs/heads" / os.fsdecode(b"caf\xe9")
    odd.touch()
    (repository / ".git/HEAD").write_bytes(b"ref: refs/heads/caf\xe9\n")
    with (repository / ".git/config").open("ab") as file:
        file.write(b'[user]\n\tname = Ren\xe9\n[remote "\xff"]\n\turl = https://\xff/\n')
    found = context(repository)
    assert found == GitContext(repo=REMOTE, branch="caf\ufffd")
    json.dumps([found.repo, found.branch]).encode()


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ('[remote "origin"] url = https://h/a', "https://h/a"),
        ('[REMOTE "origin"]\n  URL=https://h/a  ', "https://h/a"),
        ('[remote "origin"]\nurl = "https://h/a" ; comment', "https://h/a"),
        ('[remote "origin"]\nurl = https://h/a # comment', "https://h/a"),
        ('[remote "origin"]\nurl = "https://h/a#b"', "https://h/a#b"),
        ('[remote "origin"]\nurl = https://h/\\\na', "https://h/a"),
        ('[remote "origin"]\r\n\turl = https://h/a\r\n', "https://h/a"),
        ('[remote "origin"]\nurl = ht"tps://"h/a', "https://h/a"),
        ("[remote.origin]\nurl = https://h/a", "https://h/a"),
        ('[remote "origin"]\nfetch = x\nurl = https://h/a\nurl = https://h/b', "https://h/a"),
        ('[remote "Origin"]\nurl = https://h/upper\n[remote "origin"]\nurl = https://h/a', "https://h/a"),
        ('[remote "or\\"igin"]\nurl = https://h/q', "https://h/q"),
        ('# [remote "origin"]\n;url = https://h/a\n[core]\nurl = https://h/core', None),
        ('[remote "origin"]\npushurl = https://h/push', None),
        ('[includeIf "gitdir:/"]\npath = other\n[remote "origin"]\nurl = https://h/a', "https://h/a"),
        ('[remote "origin"]\nurl = "https://h/\\n\\ta"', None),
        ('[remote "origin"\nurl = https://h/a', None),
        ('[remote "origin"]\nurl = https://h/' + "a" * 10_000, None),
        ("", None),
    ],
)
def test_the_configuration_is_read_as_git_writes_it(repository: Path, config: str, url: str | None) -> None:
    """Sections, subsections, quotes, escapes, comments and continued lines of git-config(1)."""
    (repository / ".git/config").write_bytes(config.encode())
    assert context(repository).repo == url


@pytest.mark.parametrize("url", ["https://h/a b", 'https://h/"x"', "https://h/a;b", "https://h/#x", "C:\\repos\\x"])
def test_what_git_quotes_is_unquoted(repository: Path, url: str) -> None:
    """Whatever git itself writes for a URL reads back as that URL."""
    git(repository, "config", "remote.origin.url", url)
    assert context(repository).repo == url == git(repository, "config", "remote.origin.url")


def _as_nobody(call: Callable[[], object]) -> object:
    """The JSON-able answer of a call made by a user without rights, in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = json.dumps(call())
        except BaseException as failure:  # a forked child must not go on with the test run
            answer = json.dumps(repr(failure))
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        text = answers.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A fresh folder that every user may enter, with no private folder above it; only its own mode is set."""
    folder = Path(tempfile.mkdtemp(prefix="git-context-"))
    folder.chmod(0o755)
    yield folder
    for inside in (folder / "repo/.git", folder / "repo/.git/refs"):
        inside.chmod(0o755)
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_none(open_folder: Path) -> None:
    """Without the right to read, part of it or all of it is None, and nothing raises."""
    repository = make_repository(open_folder / "repo")

    def answer() -> object:
        found = read_git_context(repository)
        return found and [found.repo, found.branch]

    assert _as_nobody(answer) == [REMOTE, "main"]
    (repository / ".git/config").chmod(0)
    assert _as_nobody(answer) == [None, "main"]
    (repository / ".git").chmod(0)
    assert _as_nobody(answer) is None


def test_the_commit_that_a_tree_stands_on_is_what_git_says(repository: Path) -> None:
    """On a branch, detached, packed, in a worktree, after the next commit."""
    head = HeadCommit(repository)
    assert head.read() == git(repository, "rev-parse", "HEAD")
    git(repository, "commit", "-q", "--allow-empty", "-m", "next")
    assert head.read() == git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    assert head.read() == git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "--detach", "HEAD~1")
    assert head.read() == git(repository, "rev-parse", "HEAD")
    worktree = repository.parent / "worktree"
    git(repository, "worktree", "add", "-q", str(worktree), "main")
    assert HeadCommit(worktree).read() == git(repository, "rev-parse", "main")


def test_without_a_repository_or_a_commit_there_is_no_commit(tmp_path: Path) -> None:
    """Neither is an error."""
    assert HeadCommit(tmp_path).read() is None
    assert HeadCommit(make_repository(tmp_path / "new", commits=0)).read() is None


def test_a_packed_refs_file_of_any_size_is_read_to_a_bound(repository: Path) -> None:
    """What lies behind the first MiB is not found, and costs nothing."""
    git(repository, "pack-refs", "--all")
    packed = repository / ".git" / "packed-refs"
    wanted = packed.read_text()
    filler = "".join(f"{number:040x} refs/tags/t{number}\n" for number in range(400_000))
    packed.write_text(filler + wanted)
    assert HeadCommit(repository).read() is None
