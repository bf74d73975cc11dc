"""Write `storage/sqlite_ddl.py` anew from the migrations: run this after adding one.

python tests/storage/freeze_ddl.py
"""

from __future__ import annotations

import sqlite3
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path

from otel_agent_telemetry.storage.schema import KNOWN_REVISIONS
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config

HEAD = '''"""What a new SQLite file of this version holds, as SQL: made from the migrations, kept here frozen.

A recording process makes its file from this, without Alembic; a test holds the two together.
Written by `tests/storage/freeze_ddl.py`, not by hand.
"""

from __future__ import annotations

from typing import Final

KNOWN_REVISIONS: Final = {revisions}
"""Every revision of the schema, oldest first."""
HEAD_REVISION: Final = KNOWN_REVISIONS[-1]
STATEMENTS: Final = """
{statements}
""".strip().split("\\n\\n")
"""In the order in which they are run."""
'''


def migrated_statements() -> list[str]:
    """Return the SQL of everything in a file that the migrations have made, white space collapsed."""
    with tempfile.TemporaryDirectory() as folder:
        config = isolated_config(folder)
        store = Store(config)
        store.open()
        store.close()
        with closing(sqlite3.connect(config.db_path)) as connection:
            return statements_of(connection)


def statements_of(connection: sqlite3.Connection) -> list[str]:
    """Return the SQL of everything in a database, white space collapsed, in the order in which it was made."""
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    return [" ".join(sql.split()).replace("( ", "(").replace(" )", ")") for (sql,) in rows]


def module_text() -> str:
    """Return what `storage/sqlite_ddl.py` must hold."""
    wrapped = ("\n".join(textwrap.wrap(sql, 116, break_on_hyphens=False)) for sql in migrated_statements())
    # One a line: in one line they would pass its length.
    revisions = "(\n" + "".join(f'    "{revision}",\n' for revision in KNOWN_REVISIONS) + ")"
    return HEAD.format(revisions=revisions, statements="\n\n".join(wrapped))


if __name__ == "__main__":
    target = Path(__file__).parents[2] / "otel_agent_telemetry" / "storage" / "sqlite_ddl.py"
    target.write_text(module_text(), "utf-8")
