"""Points in time and durations as people type and read them."""

import re

import typer

from otel_agent_telemetry.clock import iso_utc, parse_iso

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_SECONDS = 100 * 366 * 86_400
_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})", re.ASCII)


def duration_ns(text: str) -> int:
    """Nanoseconds of `90s`, `2h`, `1d12h`. Raises typer.BadParameter."""
    word = text.strip().lower()
    parts = _PART.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 30m, 2h, 3d or 1w")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > _MAX_SECONDS:
        raise typer.BadParameter(f"{text!r} is longer than a hundred years")
    return int(seconds * 1e9)


def moment(text: str, now_ns: int) -> str:
    """Our text of an ISO 8601 time, or of so long ago (`2h`). Raises typer.BadParameter."""
    if _PART.match(text.strip().lower()):
        return iso_utc(now_ns - duration_ns(text))
    try:
        return iso_utc(parse_iso(text))
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither an ISO 8601 time nor a duration like 2h or 3d") from None


def day(text: str) -> str:
    """`YYYYMMDD` of a day written so or as `YYYY-MM-DD`. Raises typer.BadParameter."""
    found = _DAY.fullmatch(text.strip())
    try:
        parse_iso("-".join(found.groups()) if found else "")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: write YYYYMMDD or YYYY-MM-DD") from None
    assert found is not None
    return "".join(found.groups())


def clock_text(iso: str | None) -> str:
    """`2026-01-31 12:00:00` of our text of an instant, UTC."""
    return (iso or "-")[:19].replace("T", " ")


def duration_text(milliseconds: int) -> str:
    """`350 ms`, `12.3 s`, `5m 07s`, `3h 20m`, `2d 03h`."""
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    if seconds < 60:  # noqa: PLR2004
        return f"{milliseconds / 1000:.1f} s"
    for size, small, big_unit, small_unit in ((3600, 60, "m", "s"), (86_400, 3600, "h", "m")):
        if seconds < size:
            big, rest = divmod(seconds, small)
            return f"{big}{big_unit} {rest // (1 if small_unit == 's' else 60):02d}{small_unit}"
    days, rest = divmod(seconds, 86_400)
    return f"{days}d {rest // 3600:02d}h"


def size_text(number: float) -> str:
    """`512 B`, `3.4 KiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
