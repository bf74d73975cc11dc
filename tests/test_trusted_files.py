"""Files in folders that other users may write: what is opened, and what is not."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest
from other_users import PLANTS, USERS, as_user, shared_folder

from otel_agent_telemetry import trusted_files
from otel_agent_telemetry.trusted_files import (
    UntrustedFileError,
    check_file,
    followed,
    make_private_dir,
    open_file,
    read_bytes,
    replace_content,
    trusted_names,
    untrusted_entries,
)

pytestmark = pytest.mark.requires("POSIX")
PACKAGE = Path(__file__).parents[1] / "otel_agent_telemetry"
MODES = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY | os.O_CREAT,
    "append": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "lock": os.O_RDWR | os.O_CREAT,
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("mode", MODES)
def test_only_a_trusted_regular_file_is_opened_in_a_shared_folder(plant: str, mode: str) -> None:
    """Whatever else stands there is an error at once, and the file that it may lead to stays as it is."""
    with shared_folder() as folder:
        path, victim = folder / "file", folder / "victim"
        victim.write_bytes(b"precious")
        PLANTS[plant](path, victim)
        if plant == "a second name of a file" and mode == "read":
            assert read_bytes(path) == b"precious"  # reading it does no harm
        else:
            with pytest.raises(OSError):
                open_file(path, MODES[mode])
        assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("plant", ["a link to a file", "a pipe", "a folder"])
def test_what_is_no_regular_file_is_not_opened_in_a_private_folder(tmp_path: Path, plant: str) -> None:
    """Nobody else could have put it there, and it would hold us up all the same."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    PLANTS[plant](tmp_path / "file", victim)
    for flags in MODES.values():
        with pytest.raises(OSError, match="file"):
            open_file(tmp_path / "file", flags)
    assert victim.read_bytes() == b"precious"


def test_a_file_with_two_names_is_written_in_a_private_folder(tmp_path: Path) -> None:
    """Snapshots by hard links are made of one's own files."""
    (tmp_path / "file").touch()
    os.link(tmp_path / "file", tmp_path / "snapshot")
    os.close(open_file(tmp_path / "file", os.O_WRONLY))


def test_a_folder_that_is_a_link_is_followed_where_nobody_else_could_have_put_it(tmp_path: Path) -> None:
    """In a private folder it is; in a shared one it is an error."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("elsewhere")
    assert read_bytes(tmp_path / "link/file") == b"content"
    with shared_folder(0o777) as folder:
        (folder / "raw").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UntrustedFileError, match="symbolic link"):
            open_file(folder / "raw/new", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(UntrustedFileError, match="symbolic link"):
            make_private_dir(folder / "raw/new/folder")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["file"]


def test_a_link_to_a_database_is_followed_in_a_private_folder_only(tmp_path: Path) -> None:
    """An operator may move a database to another disk; another user may not."""
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    assert followed(tmp_path / "link") == target
    with shared_folder() as folder:
        (folder / "link").symlink_to(target)
        assert followed(folder / "link") == folder / "link"
        with pytest.raises(UntrustedFileError, match="symbolic link"):
            check_file(folder / "link")


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    """With its whole path, as `open` has it; a check of one finds nothing wrong."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none")):
        read_bytes(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "no folder/none")
    check_file(tmp_path / "none")


@pytest.mark.parametrize("plant", PLANTS)
def test_content_is_replaced_whatever_stands_under_the_scratch_name(plant: str) -> None:
    """What was planted is removed, and what it led to stays as it is; a folder is an error."""
    with shared_folder() as folder:
        victim = folder / "victim"
        victim.write_bytes(b"precious")
        PLANTS[plant](folder / "health.new", victim)
        if plant == "a folder":
            with pytest.raises(OSError):
                replace_content(folder / "health.json", b"new")
        else:
            replace_content(folder / "health.json", b"new")
            assert read_bytes(folder / "health.json") == b"new"
        assert victim.read_bytes() == b"precious"


def test_the_names_of_a_folder_are_those_that_can_be_opened() -> None:
    """The others are named with the reason."""
    with shared_folder() as folder:
        for name in ("victim", "plain"):
            (folder / name).touch()
        for name, plant in PLANTS.items():
            plant(folder / name, folder / "victim")
        assert sorted(trusted_names(folder)) == ["a second name of a file", "plain", "victim"]
        reasons = dict(untrusted_entries(folder))
        assert reasons["a pipe"] == "not a regular file"
        assert "symbolic link" in reasons["a link to a file"]
        assert "a folder" not in reasons


def test_make_private_dir_survives_a_race(tmp_path: Path) -> None:
    """Many threads that make one folder all succeed, and every new one is private."""
    folder = tmp_path / "a" / "b" / "c"
    failures: list[BaseException] = []

    def make() -> None:
        try:
            make_private_dir(folder)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents[:2])} == {0o700}


def test_a_folder_that_is_renamed_as_soon_as_it_is_made_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the set-aside entries renames their folder while others make it: none of them fails."""
    folder = tmp_path / "waiting"
    make_dir = trusted_files._make_dir

    def make_for_a_taker(made: Path) -> None:
        make_dir(made)
        made.rename(tmp_path / "taken")

    monkeypatch.setattr(trusted_files, "_make_dir", make_for_a_taker)
    make_private_dir(folder)
    assert os.listdir(tmp_path) == ["taken"]


@pytest.mark.requires("root")
def test_what_root_makes_in_the_folder_of_a_user_belongs_to_that_user() -> None:
    """A command that root runs over a user's folder leaves no file that the user cannot write."""
    with shared_folder(0o755) as base:
        os.chown(base, USERS[0], USERS[0])
        make_private_dir(base / "raw")
        os.close(open_file(base / "raw/day", os.O_WRONLY | os.O_CREAT))
        assert {path.stat().st_uid for path in (base / "raw", base / "raw/day")} == {USERS[0]}
        os.close(open_file(base / "raw/day", os.O_WRONLY | os.O_CREAT))
        assert as_user(USERS[0], lambda: os.close(open_file(base / "raw/day", os.O_WRONLY))) is None


ELSEWHERE = {
    "git.py": "a repository of the application; it has the same care",
    "locks.py": "/proc",
    "append.py": "a folder",
    "buffer/identity.py": "/proc",
    "cli/error_handling.py": "/dev/null",
    "commits/install.py": "hooks of a repository, where a user may link to a file of their own",
    "commits/other_hooks.py": "the same",
    "commits/local_index.py": "a git directory, which belongs to whoever could change its hooks",
    "connect/settings_file.py": "an agent's settings, which may be a link into a repository",
    "operations/child_process.py": "/dev/tty",
    "page/static_files.py": "files of the package itself",
    "service/otlp_grpc.py": "certificates, which may be links",
    "service/tokens.py": "a file of secrets, which may be a link",
    "storage/own_prices.py": "a file that a setting names",
}
"""Modules that open files outside of the folders, and which."""


def test_every_file_in_the_folders_is_opened_by_this_module() -> None:
    """A module that opened one itself would follow a link, or wait for a pipe."""
    opens = re.compile(r"os\.open\(|\bopen\(\"|\.open\(\"|\.read_bytes\(\)|\.read_text\(|\.write_(bytes|text)\(")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if opens.search(path.read_text("utf-8")) and path.name != "trusted_files.py"
    }
    assert found == set(ELSEWHERE)


def test_sqlite_opens_only_files_that_were_looked_at() -> None:
    """`check_database` stands in every module that gives SQLite a path."""
    connecting = [path for path in PACKAGE.rglob("*.py") if "sqlite3.connect(" in path.read_text("utf-8")]
    unchecked = {path.name for path in connecting if "check_database(" not in path.read_text("utf-8")}
    assert unchecked == {"verify.py"}  # a temporary database without a name
