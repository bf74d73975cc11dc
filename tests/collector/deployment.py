"""The deployment files as the tests of them read them."""

from __future__ import annotations

import json
import re

import yaml
from prometheus_server import CONFIG


def compose():
    """docker-compose.yaml."""
    return yaml.safe_load((CONFIG / "docker-compose.yaml").read_text())


def mounts_of(name):
    """Where in the container of a service → what is there: a path beside the compose file, or a volume."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in compose()["services"][name]["volumes"]}


def stage(name):
    """The last stage of a Dockerfile: instruction → its arguments, one entry for each time it stands there."""
    text = re.sub(r"^#.*\n", "", (CONFIG / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in text.rpartition("\nFROM ")[2].splitlines()[1:]:
        if line.strip():
            instruction, _, arguments = line.partition(" ")
            found.setdefault(instruction, []).append(arguments.strip())
    return found


def environment_of(name):
    """The ENV of the last stage."""
    pairs = (pair.partition("=") for line in stage(name).get("ENV", ()) for pair in line.split())
    return {name: value for name, _, value in pairs}


def command_of(name):
    """ENTRYPOINT and CMD, as a container runs them."""
    (entry,), (command,) = stage(name)["ENTRYPOINT"], stage(name)["CMD"]
    return [*json.loads(entry), *json.loads(command)]


def port_of(address):
    """The port at the end of an address."""
    return int(address.rpartition(":")[2])
