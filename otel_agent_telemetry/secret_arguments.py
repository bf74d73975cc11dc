"""Secrets in command lines: behind flags that name one, and behind the short flags of known programs.

`mask_arguments` is for a command line as text, `secret_positions` for a list of arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.secret_names import REDACTED, is_secret_key, lowered, words_of

_STEMS: Final = "pass|pwd|secret|token|key|auth|cookie|credential|jwt"
_BETWEEN: Final = r"(?:[ \t]{1,8}|\\{0,7}[\"'],\s{0,8})"
"""Between two arguments: of a command line, of an array in a text."""
# A flag whose name holds a stem, and its value: `--api-key x`, `"--token", "x"`.
_FLAG: Final = lazy(
    rf"(?<![\w-])(--?[a-z0-9_-]{{0,48}}?(?:{_STEMS})[\w.-]{{0,32}}+){_BETWEEN}(\\{{0,7}}[\"'])?([^\s\"'`\\,]{{1,4096}})"
)
_PROSE: Final = frozenset(
    {"flag", "flags", "option", "options", "argument", "arguments", "parameter", "parameters", "switch", "setting"}
    | {"to", "is", "or", "and", "if", "for", "with", "from", "in", "was", "must", "should", "can", "cannot"}
    | {"instead", "when", "value", "values", "are", "has", "have", "may", "will", "the", "a", "an", "that", "which"}
    | {"on", "of", "as", "at", "by", "not", "it", "this", "be", "but", "so", "without", "because", "then", "via"}
    | {"using", "only", "also"}
)
"""Words that follow a flag in a sentence about it."""
_SHORT: Final = {
    "curl": ("-u", "--user", "-U", "--proxy-user"),
    "http": ("-a",),
    "https": ("-a",),
    "xh": ("-a",),
    "mysql": ("-p",),
    "mysqldump": ("-p",),
    "mysqladmin": ("-p",),
    "mariadb": ("-p",),
    "mariadb-dump": ("-p",),
    "sshpass": ("-p",),
    "redis-cli": ("-a",),
    "docker": ("-p",),
    "podman": ("-p",),
    "helm": ("-p",),
    "oc": ("-p",),
    "az": ("-p",),
    "cf": ("-p",),
    "mongo": ("-p",),
    "mongosh": ("-p",),
    "mongodump": ("-p",),
    "mosquitto_pub": ("-P",),
    "mosquitto_sub": ("-P",),
    "ldapsearch": ("-w",),
    "ldapadd": ("-w",),
    "ldapmodify": ("-w",),
    "sqlcmd": ("-P",),
    "bcp": ("-P",),
    "zip": ("-P",),
    "unzip": ("-P",),
    "7z": ("-p",),
    "smbclient": ("-U", "--user"),
    "openssl": ("-passin", "-passout", "-pass"),
    "snmpwalk": ("-A", "-X", "-c"),
}
"""Program → its flags whose value is, or holds, a password."""
_ATTACHED: Final = frozenset({"mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "sshpass", "7z"})
"""Programs that take the password in the flag itself: `-phunter2`."""
_WITH_USER: Final = {"curl": ":", "http": ":", "https": ":", "xh": ":", "smbclient": "%", "openssl": ":"}
"""Programs whose value is a user and a password → what stands between them."""
_ONLY_AFTER: Final = {
    "docker": "login",
    "podman": "login",
    "helm": "login",
    "oc": "login",
    "az": "login",
    "cf": "login",
}
"""Programs whose `-p` is a password in one of their commands only."""
_PROGRAM: Final = lazy(rf"(?<![\w.-])({'|'.join(sorted(_SHORT, key=len, reverse=True))})(?:\.exe)?(?={_BETWEEN})")
# A password stands near its program; further on in a text is another command.
_COMMAND: Final = 2_000
_COMMAND_END: Final = lazy(r"[\r\n;|]|&&")
# `machine m login me password x`
_NETRC: Final = lazy(r"(\blogin\s{1,8}\S{1,256}\s{1,40}passw(?:or)?d\s{1,8})(?!\*\*\*)(\S{1,256})")
# `gh secret set NAME x`, `npm config set //host/:_authToken x`, `heroku config:set` has an equals sign instead.
_SET: Final = lazy(
    rf"(\b(?:config|configure|secrets?|env|vars?|variables?)\s{{1,4}}set\s{{1,4}}(?:-{{1,2}}[\w-]{{1,24}}\s{{1,4}}){{0,2}})"
    rf"(\S{{0,128}}?(?:{_STEMS})[\w.-]{{0,32}}+)\s{{1,4}}([^\s\"'=]{{1,4096}})"
)


def mask_arguments(text: str) -> str:
    """Return the text with the secrets of command lines in it replaced; the same object when there is none."""
    low = lowered(text)
    spans = [*_flag_spans(text, low), *_set_spans(low), *_netrc_spans(low), *_short_spans(text, low)]
    if not spans:
        return text
    parts: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start >= done:
            parts += text[done:start], REDACTED
            done = end
    return "".join((*parts, text[done:]))


def _flag_spans(text: str, low: str) -> list[tuple[int, int]]:
    """Return where the values of flags stand whose names are secrets'."""
    spans = []
    at = 0
    while (found := _FLAG.search(low, at)) is not None:
        start, end = found.span(3)
        at = start  # the value of one flag may be the next flag
        value = text[start:end]
        flag = _name_of(text[found.start(1) : found.end(1)])
        if is_secret_key(flag) and _is_argument(value) and value.lower().rstrip("]") not in words_of(flag):
            spans.append((start, end))
    return spans


def _set_spans(low: str) -> list[tuple[int, int]]:
    """Return where the values stand that a command stores under a secret's name."""
    return [
        found.span(3)
        for found in _SET.finditer(low)
        if is_secret_key(found[2].rpartition(":")[2]) and _is_argument(found[3])
    ]


def _name_of(flag: str) -> str:
    """Return what a flag is called: `token` for `--token` and `--with-token`."""
    return flag.lstrip("-").removeprefix("with-")


def _is_argument(value: str) -> bool:
    """Return whether what follows a flag can be a secret, and no other flag, variable or word of a sentence."""
    return not value.startswith(("-", "$", "<", "{", "***", "[", "|")) and value.lower().rstrip(".,:;)") not in _PROSE


def _netrc_spans(low: str) -> list[tuple[int, int]]:
    """Return where the passwords of lines of `.netrc` stand."""
    return [found.span(2) for found in _NETRC.finditer(low)] if "login" in low else []


def _short_spans(text: str, low: str) -> list[tuple[int, int]]:
    """Return where passwords stand behind the short flags of known programs: `curl -u user:password`."""
    spans: list[tuple[int, int]] = []
    programs = list(_PROGRAM.finditer(low))
    for found, following in zip_longest(programs, programs[1:]):
        # A command ends where the next one begins, too: each part of a text is looked at once.
        limit = min(found.end() + _COMMAND, following.start() if following is not None else len(text))
        end = _COMMAND_END.search(text, found.end(), limit)
        spans += _spans_in_command(text, found[1], found.end(), end.start() if end is not None else limit)
    return spans


def _spans_in_command(text: str, program: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return where passwords stand in one command, from its program's name to its end."""
    only_after = _ONLY_AFTER.get(program)
    if only_after is not None and text.find(only_after, start, min(end, start + 64)) < 0:
        return []
    spans = []
    for found in _short_pattern(program).finditer(text, start, end):
        value_start, value_end = found.span(1)
        separator = _WITH_USER.get(program)
        if separator is not None:
            at = text.find(separator, value_start, value_end)
            if at < 0:
                continue
            value_start = at + 1
        if value_start < value_end and not text.startswith(("-", "$", "***"), value_start):
            spans.append((value_start, value_end))
    return spans


_short_patterns: dict[str, Any] = {}


def _short_pattern(program: str) -> Any:
    """Return the pattern of one program's flags and what follows; compiled at its first use."""
    pattern = _short_patterns.get(program)
    if pattern is None:
        flags = "|".join(sorted(_SHORT[program], key=len, reverse=True))
        behind = rf"(?:{_BETWEEN}|=)"
        if program in _ATTACHED or program in _WITH_USER:
            # With a blank, `mysql -p db` names a database.
            behind = f"{behind}?" if program == "sshpass" or program in _WITH_USER else "=?"
        pattern = lazy(rf"(?<=[\s\"'])(?:{flags}){behind}\\{{0,7}}[\"']?([^\s\"'`\\]{{1,1024}})")
        _short_patterns[program] = pattern
    return pattern


def secret_positions(arguments: Sequence[Any]) -> dict[int, str]:
    """Return position → replacement for the arguments of a command that are secrets by the flag before them."""
    replaced: dict[int, str] = {}
    program = _program_of(arguments)
    for at, argument in enumerate(arguments):
        if not (type(argument) is str and argument.startswith("-")):
            continue
        following = arguments[at + 1] if at + 1 < len(arguments) else None
        if _attached(program, argument):
            replaced[at] = argument[:2] + REDACTED
        elif type(following) is not str or following.startswith("-") or following == REDACTED:
            continue
        elif "=" not in argument and is_secret_key(_name_of(argument)):
            replaced[at + 1] = REDACTED
        elif argument in _SHORT.get(program, ()) and program not in _ATTACHED - {"sshpass"}:
            replaced[at + 1] = _without_password(program, following, arguments)
    return replaced


def _program_of(arguments: Sequence[Any]) -> str:
    """Return the program of a list of arguments, which may stand behind `sudo` or `env A=b`; "" for an unknown one."""
    for argument in arguments[:8]:
        name = argument.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") if type(argument) is str else ""
        if name in _SHORT:
            return name
    return ""


def _attached(program: str, argument: str) -> bool:
    """Return whether an argument is a flag and a password in one: `-phunter2`."""
    return program in _ATTACHED and argument.startswith("-p") and len(argument) > 2 and argument[2:] != REDACTED  # noqa: PLR2004


def _without_password(program: str, value: str, arguments: Sequence[Any]) -> str:
    """Return the value of a short flag as it may be stored: of `user:password` the user."""
    if program in _ONLY_AFTER and _ONLY_AFTER[program] not in arguments:
        return value
    separator = _WITH_USER.get(program)
    if separator is None:
        return REDACTED
    user, found, password = value.partition(separator)
    return f"{user}{found}{REDACTED}" if password else value
