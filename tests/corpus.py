"""The corpora of texts with secrets and of harmless texts, and samples of what a pattern matches."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path
from re import _constants, _parser  # the same names from Python 3.11 on

_ALPHABETS = {
    "A": string.ascii_letters + string.digits,
    "B": string.ascii_letters + string.digits + "+/",
    "D": string.digits,
    "H": "0123456789abcdef",
    "L": string.ascii_lowercase,
    "U": string.ascii_uppercase + string.digits,
    "W": string.ascii_letters + string.digits + "-_",
}


def _lines(name: str) -> list[str]:
    text = (Path(__file__).parent / name).read_text("utf-8")
    lines = [line for line in text.split("\n") if line and not line.startswith("# ")]
    return [line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\") for line in lines]


HARMLESS = _lines("harmless_corpus.txt")
SECRETS = _lines("secret_corpus.txt")


def filled(line: str, seed: int) -> str:
    """A line of the corpus of secrets with its `{A36}` replaced: the first character is a letter or a digit."""
    chosen = random.Random(f"{seed} {line}")

    def fill(found: re.Match[str]) -> str:
        alphabet = _ALPHABETS[found[1]]
        first = chosen.choice([sign for sign in alphabet if sign.isalnum()])
        return first + "".join(chosen.choices(alphabet, k=int(found[2]) - 1))

    return re.sub(r"\{([ABDHLUW])(\d+)\}", fill, line)


def samples_of(pattern: str, *, longer: int = 0) -> list[str]:
    """Short texts that show every alternative of a pattern once, beside the first ones of the others.

    What looks ahead or behind is ignored. What may be repeated without a bound is, at least `longer` times.
    """
    return list(dict.fromkeys(_samples(_parser.parse(pattern), longer)))


def _samples(tree, longer: int) -> list[str]:
    parts = [_samples_of_item(kind, value, longer) for kind, value in tree]
    firsts = [part[0] for part in parts]
    others = ["".join((*firsts[:at], other, *firsts[at + 1 :])) for at, part in enumerate(parts) for other in part[1:]]
    return ["".join(firsts), *others]


def _samples_of_item(kind, value, longer: int) -> list[str]:
    samples = [""]  # what is asserted about the place
    if kind is _constants.LITERAL:
        samples = [chr(value)]
    elif kind is _constants.ANY:
        samples = ["x"]
    elif kind is _constants.IN:  # alternatives of one character each are compiled to a class of characters
        literals = [chr(one) for sort, one in value if sort is _constants.LITERAL]
        samples = literals if len(literals) == len(value) else [_member(value)]
    elif kind is _constants.BRANCH:
        samples = [sample for branch in value[1] for sample in _samples(branch, longer)]
    elif kind is _constants.SUBPATTERN:
        samples = _samples(value[3], longer)
    elif kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        least, most, inner = value
        times = max(least, longer if most is _constants.MAXREPEAT else 0, 1)
        samples = [sample * times for sample in _samples(inner, longer)]
    return samples


def _member(items) -> str:
    """A character of a class."""
    kind, value = items[0]
    if kind is _constants.NEGATE:
        return "a"
    if kind is _constants.LITERAL:
        return chr(value)
    if kind is _constants.RANGE:
        return chr(value[1])
    return {_constants.CATEGORY_DIGIT: "1", _constants.CATEGORY_SPACE: " "}.get(value, "a")
