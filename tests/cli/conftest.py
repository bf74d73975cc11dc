"""Both kinds of database for the tests of commands."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, config):
    """A configuration, and the variables by which the command sees the same database."""
    if request.param == "sqlite":
        return config, {}
    url = request.getfixturevalue("current_postgres_url")
    return config.with_(database_url=url), {"TELEMETRY_DATABASE_URL": url}
