"""Entries of an array file, and what a reader of JSON finds in one."""

from __future__ import annotations

import json

import orjson

MAX_BYTES = 1 << 20


def entry(number, **more):
    return orjson.dumps({"n": number, "text": 'quotes " and ] and },{ and \n', **more})


def numbers(path):
    """What any reader of JSON finds."""
    return [item["n"] for item in json.loads(path.read_text("utf-8"))]
