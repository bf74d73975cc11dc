from __future__ import annotations

import pytest
from storage_cases import Database


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path)
    yield opened
    opened.close()
