"""The database: tables, migrations, the one write door and the reads. SQLAlchemy stays in here."""
