"""Services for the tests: what is promised over HTTP holds on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from current_database import make_sqlite_file

from otel_agent_telemetry.testing import ManualClock, isolated_config
from tests.service.running import emptied, running
from tests.service.service_cases import T0

KINDS = ["sqlite", "postgresql"]


@pytest.fixture
def sqlite_settings(tmp_path):
    """Settings of a service over a SQLite file under the test's folder."""
    config = isolated_config(tmp_path / "base", db_synchronous="OFF")
    make_sqlite_file(config)
    return config


@pytest.fixture
def postgresql_settings(tmp_path, current_postgres_url):
    """Settings of a service over an empty PostgreSQL database."""
    return isolated_config(tmp_path / "base", database_url=current_postgres_url)


@pytest.fixture(params=KINDS)
def settings(request):
    """Settings of a service over an empty database of either kind."""
    return request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture
def serving():
    """Start services that end with the test: `serving(settings, clock=…)`."""
    with ExitStack() as stack:
        yield lambda settings, **more: stack.enter_context(running(settings, **more))


@pytest.fixture(scope="session")
def clock_of_all():
    return ManualClock()


@pytest.fixture
def clock(clock_of_all):
    """The clock of `service` and `sqlite_service`, set back."""
    clock_of_all.jump(T0)
    return clock_of_all


@pytest.fixture(scope="session")
def shared_sqlite_service(tmp_path_factory, clock_of_all):
    settings = isolated_config(tmp_path_factory.mktemp("shared") / "base", db_synchronous="OFF")
    with running(settings, clock=clock_of_all) as started:
        yield started


@pytest.fixture(scope="session")
def shared_postgresql_service(tmp_path_factory, postgres_server, postgres_template, clock_of_all):
    url = postgres_server.url(postgres_server.make_database(postgres_template))
    settings = isolated_config(tmp_path_factory.mktemp("shared") / "base", database_url=url)
    with running(settings, clock=clock_of_all) as started:
        yield started


@pytest.fixture(params=KINDS)
def service(request, clock):
    """A running service of either kind that knows nothing yet, its clock at T0. Shared: tests must not break it."""
    return emptied(request.getfixturevalue(f"shared_{request.param}_service"))


@pytest.fixture
def postgresql_service(shared_postgresql_service, clock):
    """The same for what only PostgreSQL does."""
    return emptied(shared_postgresql_service)


@pytest.fixture
def sqlite_service(shared_sqlite_service, clock):
    """The same for what does not depend on the database."""
    return emptied(shared_sqlite_service)
