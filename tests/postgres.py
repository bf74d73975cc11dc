"""A real PostgreSQL server for the tests: started once for each test process, a fresh database for each test.

It is Debian's package, listening on loopback alone, and asks for a password, so that the
URLs of the tests hold a secret as real ones do. It sorts as English does (ICU), not by code
point: what must not depend on the collation shows here when it does. The server is a child
of a shell that ends it as soon as the test process closes a pipe, and that removes its
folder as well when the test process died.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from components import require
from current_database import create_tables

from otel_agent_telemetry.testing import isolated_config

PASSWORD = "not-to-be-shown"
PATIENCE_S = 60.0
_QUICK = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB")
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30  # a container has 64 MiB there unless it asks for more
_PLACE = ("listen_addresses=127.0.0.1", "max_connections=100")
_ICU = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--encoding=UTF8")
_SERVE_UNTIL_THE_PIPE_CLOSES = """
"$@" >>server.log 2>&1 &
read -r word
kill -QUIT $!
wait $!
[ "$word" = stop ] || rm -rf "$PWD"
"""


class Server:
    """A PostgreSQL cluster of its own, in a folder that goes away with it."""

    def __init__(self, binaries):
        self._binaries = binaries
        # Not under pytest's folder: root's may not be entered by the user whom the server runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="agent-telemetry-postgres-", dir=_roomy_memory()))
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self.folder, "postgres", "postgres")
        self._numbers = count(1)
        self._shell = None
        self._own = None
        self.port = _free_port()
        self._make_cluster()

    def _make_cluster(self):
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        wanted = ("--no-sync", "--username=tester", "--auth=scram-sha-256", f"--pwfile={secret}", *_ICU)
        subprocess.run(
            [self._binaries / "initdb", "-D", self.folder / "data", *wanted],
            cwd=self.folder,
            check=True,
            capture_output=True,
            **self._user,
        )

    def start(self):
        """Serve, on the same port as before; returns when connections are taken."""
        settings = (*_PLACE, *_QUICK, f"port={self.port}", f"unix_socket_directories={self.folder}")
        options = [word for setting in settings for word in ("-c", setting)]
        command = [self._binaries / "postgres", "-D", self.folder / "data", *options]
        self._shell = subprocess.Popen(
            ["sh", "-c", _SERVE_UNTIL_THE_PIPE_CLOSES, "sh", *command],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,
        )
        self._await_answer()

    def _await_answer(self):
        from psycopg import OperationalError

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.execute("SELECT 1")
            except OperationalError as problem:
                if time.monotonic() > deadline:
                    log = self.folder / "server.log"
                    pytest.fail(f"PostgreSQL does not answer: {problem}\n{log.read_text() if log.exists() else ''}")
                time.sleep(0.05)
            else:
                return

    def stop(self):
        """Stop at once, as a crash would; what was committed is there after the next start. Idempotent."""
        shell, self._shell = self._shell, None
        own, self._own = self._own, None
        if own is not None:
            own.close()
        if shell is not None:
            shell.communicate(b"stop\n", PATIENCE_S)

    def remove(self):
        """Stop for good and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database, *, user="tester", password=PASSWORD):
        """The URL by which the package opens a database of this server."""
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def connected(self, database="postgres"):
        """A connection of the driver's own, in autocommit; leaving its context closes it."""
        from psycopg import connect  # not part of the base install, which this file is imported in too

        where = {"host": "127.0.0.1", "port": self.port, "user": "tester", "password": PASSWORD}
        return connect(dbname=database, autocommit=True, connect_timeout=10, **where)

    def execute(self, statement, *, database="postgres"):
        """Run one statement past the package, and return its rows."""
        with self.connected(database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def run(self, program, *arguments):
        """Run one of PostgreSQL's own programs against this server."""
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "tester", "PGPASSWORD": PASSWORD}
        subprocess.run([self._binaries / program, *arguments], env={**os.environ, **where}, check=True)

    def make_database(self, template="template1"):
        """The name of a new database, a copy of another that nobody uses."""
        name = f"test_{next(self._numbers)}"
        # The default strategy writes every page of the template to the log: five times the work.
        self._administer(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name):
        """Remove a database, whoever still uses it."""
        self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _administer(self, statement):
        """Run a statement on a connection that is kept, because making one takes longer than most statements."""
        if self._own is None or self._own.closed:
            self._own = self.connected()
        self._own.execute(statement)


def _roomy_memory():
    """A folder in memory with room for clusters, or None for the usual one on a disk.

    A database is three hundred files, and most tests of PostgreSQL begin with a copy of one,
    which takes ten times the processor time on a disk.
    """
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES:
        return _MEMORY
    return None


def _free_port():
    """Below those that the system hands out to clients, one of which might have it when the server starts again."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def postgres_server():
    """The server of this test process, with only its own databases in it."""
    server = Server(require("PostgreSQL"))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_server):
    """The server, for one test: the databases that the test asks for are dropped after it."""
    from psycopg import OperationalError

    made = []

    class ForOneTest:
        server = postgres_server

        def make_database(self, template="template1"):
            made.append(postgres_server.make_database(template))
            return made[-1]

        def make_url(self, template="template1"):
            return postgres_server.url(self.make_database(template))

    yield ForOneTest()
    for name in made:
        with suppress(OperationalError):  # a test that stopped the server has failed by itself
            postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres):
    """The URL of an empty database, its password in it."""
    return postgres.make_url()


@pytest.fixture(scope="session")
def postgres_template(postgres_server, tmp_path_factory):
    """The name of a database of the current schema that is copied and not used."""
    name = postgres_server.make_database()
    create_tables(isolated_config(tmp_path_factory.mktemp("template"), database_url=postgres_server.url(name)))
    return name


@pytest.fixture
def current_postgres_url(postgres, postgres_template):
    """The URL of a database of the current schema, nothing in it."""
    return postgres.make_url(postgres_template)
