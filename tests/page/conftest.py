"""The page is tried over the services of the tests of the service, on SQLite and on PostgreSQL."""

from tests.service.conftest import (
    clock,
    clock_of_all,
    postgresql_service,
    postgresql_settings,
    service,
    serving,
    settings,
    shared_postgresql_service,
    shared_sqlite_service,
    sqlite_service,
    sqlite_settings,
)

__all__ = [
    "clock",
    "clock_of_all",
    "postgresql_service",
    "postgresql_settings",
    "service",
    "serving",
    "settings",
    "shared_postgresql_service",
    "shared_sqlite_service",
    "sqlite_service",
    "sqlite_settings",
]
