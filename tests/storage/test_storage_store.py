"""The write door: one transaction a batch, retries that help and end, errors that are ours."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest
from on_disk import PATIENCE_S
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from storage_cases import at, link, quick_config, rows_of, run, start_python

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.engine import (
    make_engine,
    make_read_engine,
    reading,
    storage_error,
    translated,
    writing,
)
from otel_agent_telemetry.storage.store import Store

HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("free", flush=True)
"""


@pytest.fixture
def store(database):
    """A store of either kind."""
    opened = Store(database.config)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def impatient_store(tmp_path):
    """A file that is hardly waited for when its lock, which SQLite alone has, is held."""
    opened = Store(quick_config(tmp_path, db_busy_timeout_ms=20, db_max_retries=1))
    opened.open()
    yield opened
    opened.close()


def test_a_batch_is_committed_on_return(store, database):
    """Another connection sees runs and commits at once; the result has an outcome for each, in order."""
    result = store.write([run(1), run(2), run(1)], [link(1), link(9)])
    assert result.outcomes == ("inserted", "inserted", "duplicate")
    assert result.linked == (True, False)
    assert (result.count("inserted"), result.count("updated")) == (2, 0)
    assert database.rows("SELECT count(*) FROM agent_runs") == [(2,)]


def test_an_empty_batch_is_nothing(store):
    """Neither an error nor a result."""
    assert store.write([], []).outcomes == ()


def test_a_batch_with_a_refused_value_leaves_nothing(store):
    """The neighbours are not kept either, so that the caller may try them in halves."""
    with pytest.raises(StorageError) as caught:
        store.write([run(1), run(2, run_id=None)])
    assert not isinstance(caught.value, (StoreUnavailableError, SchemaError))
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM agent_runs")).scalar() == 0


@pytest.mark.durability
def test_a_lock_of_another_process_is_an_error_that_may_pass(impatient_store):
    """With the file and the cause in the message; once it is free the same batch goes through."""
    child = start_python(HOLD_LOCK, impatient_store.name)
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(StoreUnavailableError, match="locked") as caught:
        impatient_store.write([run(1)])
    assert impatient_store.name in str(caught.value)
    assert "TELEMETRY_DB_BUSY_TIMEOUT_MS" in caught.value.hint
    child.communicate("\n", timeout=20)
    assert impatient_store.write([run(1)]).outcomes == ("inserted",)


@pytest.mark.durability
def test_a_lock_that_ends_is_waited_for(tmp_path):
    """Within the busy timeout nothing is reported at all."""
    store = Store(quick_config(tmp_path, db_busy_timeout_ms=20_000, db_max_retries=0))
    store.open()
    child = start_python(HOLD_LOCK, store.name)
    assert child.stdout.readline() == "locked\n"
    outcomes = []
    writer = threading.Thread(target=lambda: outcomes.append(store.write([run(1)]).outcomes))
    writer.start()
    child.communicate("\n", timeout=20)
    writer.join(30)
    assert outcomes == [("inserted",)]
    store.close()


@pytest.mark.durability
def test_stopping_ends_the_waiting_between_attempts(tmp_path):
    """However many attempts with however long waits are configured."""
    stop = threading.Event()
    config = quick_config(tmp_path, db_busy_timeout_ms=0, db_max_retries=50, db_retry_base_delay_s=600)
    store = Store(config, stop=stop)
    store.open()
    with closing(sqlite3.connect(store.name, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        failed = []

        def write():
            try:
                store.write([run(1)])
            except StoreUnavailableError as problem:
                failed.append(problem)

        writer = threading.Thread(target=write)
        writer.start()
        stop.set()
        writer.join(PATIENCE_S)  # a tenth of the first wait between two attempts
        other.execute("ROLLBACK")
    assert failed
    store.close()


@pytest.mark.durability
def test_a_full_disk_is_an_error_that_may_pass(tmp_path):
    """None of the batch that did not fit is there; what fits later is kept."""
    store = Store(quick_config(tmp_path, db_max_retries=0))
    store.open()
    store.write([run(1)])
    with store.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(StoreUnavailableError, match="full") as caught:
        store.write([run(number, output_summary="x" * 5000) for number in range(2, 60)])
    assert "space" in caught.value.hint
    assert store.write([run(2)]).outcomes == ("inserted",)
    assert rows_of(store.name, "SELECT run_id FROM agent_runs ORDER BY id") == [("run-1",), ("run-2",)]
    store.close()


@pytest.mark.parametrize(("journal", "synchronous", "level"), [("DELETE", "FULL", 2), ("WAL", "NORMAL", 1)])
def test_connections_have_the_configured_durability(tmp_path, journal, synchronous, level):
    """Journal mode, synchronous level and busy timeout; reads in WAL mode work too."""
    config = TelemetryConfig(
        base_dir=tmp_path, db_journal_mode=journal, db_synchronous=synchronous, db_busy_timeout_ms=1234
    )
    store = Store(config)
    store.open()
    store.write([run(1)])
    with store.reading() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert settings == [journal.lower(), level, 1234]
    reader = make_read_engine(config)
    with reading(reader, "reading") as connection:
        assert connection.execute(text("SELECT count(*) FROM agent_runs")).scalar() == 1
    reader.dispose()
    store.close()


def test_a_read_engine_makes_no_file(tmp_path):
    """A missing database is an error that may pass, and stays missing."""
    engine = make_read_engine(quick_config(tmp_path))
    with pytest.raises(StoreUnavailableError, match="unable to open"), reading(engine, "reading"):
        pytest.fail("there is no database")
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_url_characters_is_a_path(tmp_path):
    """Question marks, per cents, hashes and spaces in folder names."""
    config = quick_config(tmp_path / "a ?b=1#c%20d")
    store = Store(config)
    store.open()
    store.write([run(1)])
    assert config.db_path.is_file()
    reader = make_read_engine(config)
    with reading(reader, "reading") as connection:
        assert connection.execute(text("SELECT count(*) FROM agent_runs")).scalar() == 1
    reader.dispose()
    store.close()


def test_a_reader_does_not_stop_a_writer_from_beginning(impatient_store):
    """A read is a deferred transaction: the writer begins, and commits once the reader is done."""
    with reading(impatient_store._engine, "reading") as connection:
        connection.execute(text("SELECT count(*) FROM agent_runs")).scalar()
        with closing(sqlite3.connect(impatient_store.name, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")


def test_a_writer_takes_the_lock_before_it_reads(impatient_store):
    """Two writers wait for each other at BEGIN, where nothing has been read yet."""
    with (
        writing(impatient_store._engine, "writing"),
        closing(sqlite3.connect(impatient_store.name, timeout=0, isolation_level=None)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_closing_twice_is_harmless(store):
    """And a closed store opens again when it is used."""
    store.close()
    store.close()
    assert store.write([run(1)]).outcomes == ("inserted",)


@pytest.mark.parametrize("url", ["nonsense", "nosuchdb://host/x", "postgresql+psycopg://me@host:port/x"])
def test_a_url_that_cannot_be_used_is_a_configuration_error(tmp_path, url):
    """At once, when the store is made."""
    with pytest.raises(ConfigurationError, match="TELEMETRY_DATABASE_URL"):
        Store(quick_config(tmp_path, database_url=url))


def test_messages_never_hold_credentials_or_values(tmp_path):
    """Of a URL neither password nor options; of a failed statement neither SQL nor parameters."""
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/db?password=hunter3"
    try:
        store = Store(quick_config(tmp_path, database_url=url, db_max_retries=0))
        with pytest.raises(StoreUnavailableError) as caught:
            store.open()
    except ConfigurationError as missing:
        shown = str(missing) + missing.hint
    else:
        shown = str(caught.value)
    assert "hunter" not in shown
    problem = failure_of("INSERT INTO t VALUES (:v, :v)", "secret-value")
    shown = str(storage_error(problem, "writing to", "x.sqlite"))
    assert "secret-value" not in shown
    assert "INSERT" not in shown
    assert "UNIQUE" in shown


def failure_of(statement, value):
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (a TEXT UNIQUE, b TEXT)"))
        connection.execute(text(statement), {"v": value})
        with pytest.raises(SQLAlchemyError) as caught:
            connection.execute(text(statement), {"v": value})
    engine.dispose()
    return caught.value


def test_our_own_errors_pass_the_boundary_unchanged():
    """What was translated once is not translated again."""
    ours = SchemaError("ours")
    with pytest.raises(SchemaError) as caught, translated("reading", "x"), translated("opening", "y"):
        raise ours
    assert caught.value is ours


def test_a_database_named_by_url_is_the_same_as_by_path(tmp_path):
    """TELEMETRY_DATABASE_URL may name a SQLite file."""
    path = tmp_path / "named.sqlite"
    store = Store(quick_config(tmp_path, database_url=f"sqlite:///{path}"))
    assert store.open().outcome == "created"
    store.write([run(1, created_at=at(0))])
    assert rows_of(path, "SELECT count(*) FROM agent_runs") == [(1,)]
    store.close()


def test_making_an_engine_touches_nothing(tmp_path):
    """Neither file nor folder, until the first connection."""
    make_engine(quick_config(tmp_path)).dispose()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("42P01", SchemaError),
        ("42703", SchemaError),
        ("40P01", StoreUnavailableError),
        ("40001", StoreUnavailableError),
        ("53100", StoreUnavailableError),
        ("54000", StorageError),
    ],
)
def test_errors_of_a_server_are_recognised_by_their_code_in_any_language(state: str, kind: type[StorageError]) -> None:
    """The text is the server's own, in whatever language it was set up."""

    class Gemeldet(Exception):
        sqlstate = state

    assert type(storage_error(Gemeldet("Relation »agent_runs« existiert nicht"), "writing", "somewhere")) is kind
