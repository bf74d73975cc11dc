"""What is vendored is what the table beside it says, and is served without a path ever reaching the file system."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from otel_agent_telemetry.page.static_files import static_address, static_files

VENDOR = Path(__file__).parents[2] / "otel_agent_telemetry/page/static/vendor"
TABLE = json.loads((VENDOR / "vendored.json").read_text("utf-8"))


def test_the_table_names_every_vendored_file_and_its_licence() -> None:
    """A script without a version, a licence and a digest is not shipped."""
    licences = {row["license_file"] for row in TABLE.values()}
    assert {path.name for path in VENDOR.iterdir()} == {*TABLE, *licences, "vendored.json"}


@pytest.mark.parametrize("name", TABLE)
def test_a_vendored_file_is_the_one_that_was_published(name: str) -> None:
    """Nobody has edited it; the digest is that of the file in the published package."""
    assert sha256((VENDOR / name).read_bytes()).hexdigest() == TABLE[name]["sha256"]


def test_script_and_style_of_the_first_view_are_small() -> None:
    """All of it together, compressed, vendored and own, even what only the pages with plots load: at most 60 kB."""
    files = static_files()
    assert sum(len(files[name].compressed) for name in files if name.endswith((".js", ".css"))) <= 60_000


def test_an_address_changes_with_the_content() -> None:
    """A browser may keep a file for a year, because a new version has a new address."""
    name = "page.css"
    assert static_address(name) == f"/static/{name}?v={static_files()[name].version}"
