"""docs/frameworks.md names what was recorded."""

from __future__ import annotations

import json
import re

import pytest
from on_disk import ROOT

from tests.emitters.recorded_program import FOLDER

PAGE = (ROOT / "docs/frameworks.md").read_text()
PYTHON = [path.stem for path in sorted((FOLDER.parent / "programs").glob("*.py"))]
INSTRUMENTATIONS = ("openinference-", "opentelemetry-")


@pytest.mark.parametrize("name", PYTHON)
def test_every_framework_that_was_run_is_on_the_page_in_its_version(name):
    """A row has the framework and its instrumentation, each with its version as far as the row gives it."""
    framework, *others = json.loads((FOLDER / f"{name}.json").read_text())["versions"].items()
    for package, version in [framework, *(one for one in others if one[0].startswith(INSTRUMENTATIONS))]:
        given = re.findall(rf"`{package}(?:\[\w+\])?` ([\d.b]+)", PAGE)
        assert any(f"{version}.".startswith(f"{some}.") for some in given), (package, version, given)
