"""Writing an agent's settings into its own file, and undoing it.

Everything that is not ours stays to the byte: comments, order, indentation, line ends, permissions, links. The file
as it was is kept first, and replaced in one step. A setting of the user's that leads telemetry elsewhere is named and
left, unless it is to be replaced; `undo` brings it back. What the user has edited since stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.connect.agents import Agent
from otel_agent_telemetry.connect.json_text import JsonText
from otel_agent_telemetry.connect.place import MISSING, Document, NotReadableError, Place
from otel_agent_telemetry.connect.record import Container, Record, Records, Written, digest_of
from otel_agent_telemetry.connect.toml_text import TomlText
from otel_agent_telemetry.errors import ConfigurationError

_FORMS: Final[Mapping[str, type[JsonText | TomlText]]] = {"json": JsonText, "toml": TomlText}
_MAX_BYTES: Final = 16 << 20
_NEW_FILE: Final = 0o600
_NEW_FOLDER: Final = 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Standing(NamedTuple):
    """A settings file as it stands: its bytes, None where there is none, and what is known of it."""

    file: Path
    content: bytes | None
    mode: int = _NEW_FILE
    owner: tuple[int, int] | None = None
    """User and group."""

    def document(self, form: str) -> Document:
        """Return the file's text, to be changed. Raises NotReadableError."""
        with self.named():
            try:
                return _FORMS[form]((self.content or b"").decode())
            except UnicodeDecodeError:
                raise NotReadableError("it is not UTF-8") from None

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Put the file's name into the message of a NotReadableError of the block."""
        try:
            yield
        except NotReadableError as problem:
            raise NotReadableError(f"{self.file}: {problem}") from None


class Undone(NamedTuple):
    """What `undo` did: the settings that are as before, and those that the user has changed since."""

    restored: list[Place]
    kept: list[Place]


def new_document(form: str) -> Document:
    """Return an empty settings file of a form."""
    return _FORMS[form]("")


def standing(path: Path) -> Standing:
    """Return a settings file as it stands, links followed. Raises OSError, ConfigurationError for what is no file."""
    try:
        file = path.resolve()
        status = file.stat()
    except FileNotFoundError:
        return Standing(file, None)
    except RuntimeError:  # links in a circle, before Python 3.13
        raise ConfigurationError(f"{path} is a link that leads to itself") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
        raise ConfigurationError(f"{file} is no file of settings")
    return Standing(file, file.read_bytes(), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def in_the_way(document: Document, wanted: Mapping[Place, Any], record: Record | None) -> list[Place]:
    """Return the settings of the user's own that would have to be replaced."""
    return [
        place
        for place, value in wanted.items()
        if (stands := document.value(place)) is not MISSING
        and (value is MISSING or stands != value)
        and (record is None or not record.is_ours(place, stands))
    ]


def write(
    agent: Agent, path: Path, wanted: Mapping[Place, Any], records: Records, *, has_secret: bool, replace: bool
) -> list[Place]:
    """Write settings into an agent's file and return those that changed; none when all stood there.

    `has_secret`: a value holds a token, so the file must be readable by its owner alone. Raises
    ConfigurationError when it is not, when settings of the user's own are in the way and `replace` is not set, or
    when the file cannot be changed in place; OSError.
    """
    before = standing(path)
    document = before.document(agent.form)
    record = _record_in_force(records.read(agent.name, before.file), document)
    if has_secret and before.content is not None and before.mode & _OTHERS:
        raise ConfigurationError(
            f"{before.file} can be read by others, and a token would stand in it", hint=f"chmod 600 {before.file}"
        )
    conflicts = in_the_way(document, wanted, record)
    if conflicts and not replace:
        raise ConfigurationError(
            f"{before.file} has settings of its own for telemetry: {', '.join(map('.'.join, conflicts))}",
            hint="--replace replaces them; --undo brings them back.",
        )
    missing = {place: value for place, value in agent.if_missing.items() if document.value(place) is MISSING}
    changes = {place: value for place, value in {**wanted, **missing}.items() if document.value(place) != value}
    if not changes:
        return []
    is_first = record is None
    record = record or Record(str(before.file), is_new=before.content is None)
    with before.named():
        for place, value in changes.items():
            _note(record, document, place, value)
            document.remove(place) if value is MISSING else document.put(place, value)
    record.left = _digest(document.text)
    if is_first:
        records.keep_original(agent.name, before.file, before.content)
    # Before the file itself: a crash in between leaves a record of what did not happen, which undo finds out.
    records.keep(agent.name, before.file, record)
    _replace(before, document.text.encode())
    return list(changes)


def undo(agent: Agent, path: Path, records: Records) -> Undone | None:
    """Take back what `write` wrote and return what that was; None when nothing is known of the file.

    A file that nobody has edited since is as it was, to the byte. In one that was edited our settings go, and what
    they replaced comes back; a setting of ours that was changed since is the user's, and stays.
    """
    now = standing(path)
    record = records.read(agent.name, now.file)
    if record is None or now.content is None:
        return None
    if _digest(now.content.decode(errors="replace")) == record.left:
        original = None if record.is_new else records.original(agent.name, now.file).read_bytes()
        undone = Undone([tuple(one.place) for one in record.written], [])
    else:
        document = now.document(agent.form)
        with now.named():
            undone = _undone_in(document, record)
        is_left = record.is_new and document.data == {} and not document.text.strip("{} \t\r\n")
        original = None if is_left else document.text.encode()
    if original is None:
        now.file.unlink()
    else:
        _replace(now, original)
    records.forget(agent.name, now.file)
    return undone


def _record_in_force(record: Record | None, document: Document) -> Record | None:
    """Return a record of which something still stands in the file; None for one that others have undone."""
    places = [tuple(one.place) for one in record.written] if record is not None else []
    return record if record is not None and any(record.is_ours(one, document.value(one)) for one in places) else None


def _note(record: Record, document: Document, place: Place, value: Any) -> None:
    """Add to a record what is about to be written, and what stands there; of our own what stood before it."""
    stands, ours = document.value(place), record.of(place)
    if ours is not None and record.is_ours(place, stands):
        ours.digest = digest_of(value)
        return
    record.written = [one for one in record.written if one is not ours]
    written = Written(list(place), digest_of(value))
    if stands is not MISSING:
        written = Written(list(place), digest_of(value), had=True, source=document.source(place) or "", value=stands)
    record.written.append(written)
    known = [one.place for one in record.containers]
    for depth in range(len(place)):
        above = place[:depth]
        if list(above) not in known and document.is_made_for(above):
            record.containers.append(Container(list(above), document.inside(above)))


def _undone_in(document: Document, record: Record) -> Undone:
    """Take our settings back in a file that was edited since; what the user changed or removed stays so."""
    undone = Undone([], [])
    for one in reversed(record.written):
        place = tuple(one.place)
        stands = document.value(place)
        if not record.is_ours(place, stands):
            undone.kept.extend([place] if stands is not MISSING else [])
            continue
        undone.restored.append(place)
        if one.had:
            document.put_source(place, one.source, one.value)
        else:
            document.remove(place)
    # From the inside out: an object is empty only when those in it are gone.
    for container in sorted(record.containers, key=lambda one: -len(one.place)):
        document.empty(tuple(container.place), container.inside)
    return undone


def _replace(before: Standing, content: bytes) -> None:
    """Replace a file in one step, with the permissions that it had. Raises OSError, ConfigurationError."""
    before.file.parent.mkdir(mode=_NEW_FOLDER, parents=True, exist_ok=True)
    # The agent itself, or another installer, may have written the file since it was read.
    if standing(before.file).content != before.content:
        raise ConfigurationError(f"{before.file} has changed meanwhile", hint="Run this again.")
    # In the same folder, since a rename does not cross file systems, and hidden from whoever lists it.
    scratch = before.file.with_name(f".{before.file.name}.{secrets.token_hex(4)}")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _NEW_FILE)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(fd)
        if before.owner is not None:
            with contextlib.suppress(OSError):  # root edits a user's file, who is to own it afterwards too
                os.chown(scratch, *before.owner)
        scratch.chmod(before.mode)
        scratch.replace(before.file)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _digest(text: str) -> str:
    """Return the digest of a file's text."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
