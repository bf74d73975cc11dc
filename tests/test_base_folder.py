"""Which folder keeps the data of a user, alone on a host or with others."""

import os
from pathlib import Path

import pytest
from on_disk import journal_lines
from other_users import USERS, as_user, shared_folder

from otel_agent_telemetry import config as config_module
from otel_agent_telemetry.base_folder import own_folder, usable_folder
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.testing import isolated_config

pytestmark = pytest.mark.requires("POSIX")
OWN = f"user-{os.geteuid()}" if os.name == "posix" else ""


def test_a_private_folder_is_used_as_it_is(tmp_path: Path) -> None:
    """Nobody else can write it, so nobody else's data can stand in it."""
    tmp_path.chmod(0o755)
    assert own_folder(tmp_path) == tmp_path
    assert usable_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o2770])
def test_a_folder_that_others_may_write_has_a_folder_for_each_user(tmp_path: Path, mode: int) -> None:
    """From the first user on, so that it does not depend on who comes first; nothing is created by asking."""
    tmp_path.chmod(mode)
    assert own_folder(tmp_path) == tmp_path / OWN
    assert not list(tmp_path.iterdir())


def test_who_has_data_in_a_shared_folder_already_goes_on_with_them(tmp_path: Path) -> None:
    """Data of earlier versions stand in the folder itself."""
    tmp_path.chmod(0o777)
    (tmp_path / "raw").mkdir()
    assert own_folder(tmp_path) == tmp_path


def test_a_configured_folder_is_used_as_it_is_while_it_can_be(tmp_path: Path) -> None:
    """Whatever its mode."""
    tmp_path.chmod(0o777)
    assert usable_folder(tmp_path) == tmp_path
    assert usable_folder(tmp_path / "missing") == tmp_path / "missing"


@pytest.mark.parametrize("odd", ["x" * 5000, "nul\x00"])
def test_no_path_raises(tmp_path: Path, odd: str) -> None:
    """A name that the system refuses is no usable candidate; a configured one is reported later."""
    assert own_folder(tmp_path / odd) is None
    assert usable_folder(tmp_path / odd) == tmp_path / odd


@pytest.mark.requires("root")
def test_a_planted_folder_of_one_s_own_is_not_used() -> None:
    """A link, or another user's folder, under this user's name: the next candidate is taken."""
    with shared_folder() as folder:
        (folder / f"user-{USERS[0]}").mkdir(0o777)
        (folder / f"user-{USERS[1]}").symlink_to("/tmp")
        for uid in USERS:
            assert as_user(uid, lambda: own_folder(folder) is None) is True


@pytest.mark.requires("root")
def test_a_well_known_folder_of_another_user_is_passed_over_by_root() -> None:
    """Root could write it, and its user could not go on with what root wrote."""
    with shared_folder(0o755) as folder:
        assert own_folder(folder) == folder
        os.chown(folder, USERS[0], USERS[0])
        assert own_folder(folder) is None
        assert as_user(USERS[0], lambda: str(own_folder(folder))) == str(folder)


def _record(environ: dict[str, str]) -> list[object]:
    """Run id, base folder and the number of lines in its journal, of a run that this user records."""
    config = TelemetryConfig.from_env(environ)
    run_id = TelemetryClient(config).start_run("agent", "job")
    lines = sum(len(path.read_bytes().splitlines()) for path in journal_files(config.ndjson_dir))
    return [run_id, str(config.base_dir), lines]


@pytest.mark.requires("root")
@pytest.mark.parametrize("configured", [False, True])
def test_every_user_of_a_shared_folder_keeps_runs(monkeypatch: pytest.MonkeyPatch, configured: bool) -> None:
    """Two users and root, one after the other: each run is in a journal that its user wrote."""
    with shared_folder() as folder:
        monkeypatch.setattr(config_module, "WELL_KNOWN_FOLDERS", () if configured else (str(folder),))
        environ = {"TELEMETRY_DISCOVER_SERVICE": "false"} | ({"TELEMETRY_BASE_DIR": str(folder)} if configured else {})
        bases = []
        for uid in USERS:
            run_id, base, lines = as_user(uid, lambda: _record(environ))  # type: ignore[misc]
            assert not run_id.startswith("error-")
            assert lines == 1
            bases.append(base)
        first = folder if configured else folder / f"user-{USERS[0]}"
        assert bases == [str(first), str(folder / f"user-{USERS[1]}")]


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A base folder with files in the place of journal and buffer."""
    for name in ("raw", "buffer"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_run_that_nothing_could_be_kept_of_has_an_error_id(blocked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its start and its end raise nothing, and stderr has the reason."""
    client = TelemetryClient(isolated_config(blocked))
    run_id = client.start_run("agent", "job", run_id="mine")
    client.end_run(run_id)
    with client.track_run("agent", "job") as run:
        run.log_event("step")
    assert (run_id, run.run_id[:6]) == ("error-mine", "error-")
    err = capsys.readouterr().err
    assert err.count("[ERROR] Telemetry start_run failed: nothing could be kept; ") == 2
    assert "not found" not in err


def test_an_end_that_can_be_kept_is_kept_although_the_start_was_lost(blocked: Path) -> None:
    """The end has all of the run, under the id that the run would have had."""
    config = isolated_config(blocked)
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="mine")
    for name in ("raw", "buffer"):
        (blocked / name).unlink()
    client.end_run(run_id)
    (line,) = journal_lines(config)
    assert (line["run_id"], line["agent_name"], line["status"]) == ("mine", "agent", "success")
