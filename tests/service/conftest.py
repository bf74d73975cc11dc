"""Services for the tests: what is promised over HTTP holds on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from running import running

from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config

KINDS = ["sqlite", "postgresql"]


@pytest.fixture
def sqlite_settings(tmp_path):
    """Settings of a service over a SQLite file under the test's folder."""
    return isolated_config(tmp_path / "base", db_synchronous="OFF")


@pytest.fixture
def postgresql_settings(tmp_path, postgres, service_template):
    """Settings of a service over an empty PostgreSQL database."""
    return isolated_config(tmp_path / "base", database_url=postgres.make_url(service_template))


@pytest.fixture(scope="session")
def service_template(postgres_server, tmp_path_factory):
    """The name of a database of the current schema that is copied and not used."""
    name = postgres_server.make_database()
    store = Store(isolated_config(tmp_path_factory.mktemp("template"), database_url=postgres_server.url(name)))
    store.open()
    store.close()
    return name


@pytest.fixture(params=KINDS)
def settings(request):
    """Settings of a service over an empty database of either kind."""
    return request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture
def serving():
    """Start services that end with the test: `serving(settings, clock=…)`."""
    with ExitStack() as stack:
        yield lambda settings, **more: stack.enter_context(running(settings, **more))


@pytest.fixture
def service(settings, clock, serving):
    """A service over an empty database of either kind, whose clock stands still."""
    return serving(settings, clock=clock)


@pytest.fixture
def sqlite_service(sqlite_settings, serving):
    """A service for what does not depend on the database."""
    return serving(sqlite_settings)
