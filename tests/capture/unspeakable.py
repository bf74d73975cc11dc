"""A value that answers nothing."""

from __future__ import annotations


class Unspeakable:
    """Every way of asking it raises."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __iter__(self):
        raise RuntimeError("no items")

    def __eq__(self, other):
        raise RuntimeError("no equality")

    __hash__ = None
