"""What `connect` wrote into a settings file, kept so that it can be undone when the user has edited the file since.

`{base}/connections/{agent}-{digest of the file's path}.json`, beside it `….original`, the file as it was before. Values
that we wrote are kept as digests, since they may hold a token; those of the user, which come back, as they were.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.connect.place import MISSING, Place
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.trusted_files import make_private_dir, read_bytes, replace_content

_FOLDER: Final = "connections"
_NO_VALUE: Final = "missing"


@dataclass(slots=True)
class Written:
    """One setting that we wrote or removed."""

    place: list[str]
    digest: str
    """Of the value that we wrote; `missing` where we removed one."""
    had: bool = False
    """Whether the user had a value here."""
    source: str = ""
    """Its text."""
    value: Any = None


@dataclass(slots=True)
class Container:
    """An object or a table that was missing, or had nothing in it, before a setting went into it."""

    place: list[str]
    inside: str | None
    """The text in it; None where it was missing."""


@dataclass(slots=True)
class Record:
    """What was done to one settings file."""

    file: str
    is_new: bool = False
    """Whether there was no such file."""
    left: str = ""
    """Digest of the file's text as we left it."""
    written: list[Written] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)

    def of(self, place: Place) -> Written | None:
        """Return what we did at a place."""
        return next((one for one in self.written if tuple(one.place) == place), None)

    def is_ours(self, place: Place, value: Any) -> bool:
        """Return whether a value that stands at a place is the one that we wrote there."""
        found = self.of(place)
        return found is not None and found.digest == digest_of(value)


class Records:
    """The records of one base directory. Files of the user's alone, 0600."""

    def __init__(self, base_dir: Path) -> None:
        self._folder = base_dir / _FOLDER

    def original(self, agent: str, file: Path) -> Path:
        """Return where the file is kept as it was before."""
        return self._path(agent, file).with_suffix(".original")

    def read(self, agent: str, file: Path) -> Record | None:
        """Return what was done to a file; None when nothing was.

        Raises OSError, ConfigurationError for a damaged record.
        """
        path = self._path(agent, file)
        try:
            data = json.loads(read_bytes(path))
            written = [Written(**one) for one in data.pop("written")]
            containers = [Container(**one) for one in data.pop("containers")]
            return Record(**data, written=written, containers=containers)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigurationError(
                f"{path} is damaged", hint=f"Remove it; {self.original(agent, file)} is the settings file as it was."
            ) from None

    def keep_original(self, agent: str, file: Path, content: bytes | None) -> None:
        """Keep the file as it was; None where there was none. Raises OSError."""
        make_private_dir(self._folder)
        if content is None:
            self.original(agent, file).unlink(missing_ok=True)  # of an earlier connection
        else:
            replace_content(self.original(agent, file), content)

    def keep(self, agent: str, file: Path, record: Record) -> None:
        """Keep a record. Raises OSError."""
        make_private_dir(self._folder)
        replace_content(self._path(agent, file), json.dumps(asdict(record), indent=1).encode())

    def forget(self, agent: str, file: Path) -> None:
        """Remove a record; the file as it was stays. Raises OSError."""
        self._path(agent, file).unlink(missing_ok=True)

    def _path(self, agent: str, file: Path) -> Path:
        """Return the path of a record."""
        return (
            self._folder / f"{agent}-{hashlib.sha256(str(file).encode(errors='surrogateescape')).hexdigest()[:8]}.json"
        )


def digest_of(value: Any) -> str:
    """Return the digest of a value, `missing` for none."""
    if value is MISSING:
        return _NO_VALUE
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
