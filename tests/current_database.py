"""Databases of the current schema without its migrations, which take longer than most tests of what is in one."""

from __future__ import annotations

import tempfile
from functools import cache

from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config


def make_sqlite_file(config):
    """Make the SQLite file of a configuration as its first writer would, unless it is there."""
    path = config.db_path
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_content())


@cache
def _content():
    """The bytes of a file that the migrations made."""
    with tempfile.TemporaryDirectory() as folder:
        config = isolated_config(folder)
        create_tables(config)
        return config.db_path.read_bytes()


def create_tables(config):
    """Run the migrations on the database of a configuration."""
    store = Store(config)
    store.open()
    store.close()
