"""Record what a coding agent sends: `python tests/emitters/record_agents.py AGENT FOLDER`, a tool of maintainers.

Fetches the agent into the cache of `tests/components.py`, runs it with a model on loopback through the scenes
below and writes each request to FOLDER, one a file, `AGENT_SIGNAL_SCENE_NUMBER.json`, as `captures/README.md` describes them. What
names a user, a host, a folder or a machine is replaced, long texts are cut. Prints what the agent printed, and what a command
that it ran had in its environment of the trace. Which requests become fixtures, and what is kept of large ones, is decided by
hand.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from components import CACHE

from tests.emitters.coding_agents import AGENTS, Place
from tests.emitters.coding_model import CodingModel
from tests.emitters.otlp_receiver import OtlpReceiver

PROMPT = "say done"
_LONGEST = 200
_NAMED = {
    "host.name": "<host>",
    "host.id": "<host>",
    "os.version": "<kernel>",
    "os_release": "<kernel>",
    "process.owner": "<owner>",
    "process.executable.path": "<path>",
    "process.command_args": "<argv>",
    "process.command": "<cmd>",
    "process.command_line": "<cmd>",
    "installation.id": "<installation-id>",
    "user.id": "<user-id>",
    "user.account_uuid": "<user-id>",
    "organization.id": "<organization-id>",
    "user.email": "<user-email>",
    "process.pid": "1",
}


def tool_call(agent, place, model):
    """A prompt, a command that the agent runs, its answer."""
    yield agent.run(place, PROMPT)


def api_error(agent, place, model):
    """A prompt that the model's server answers with 500 for good; gives up after a while."""
    model.status = 500
    yield agent.run(place, PROMPT)


def two_prompts_one_session(agent, place, model):
    """A prompt, and in the session of it another."""
    yield agent.run(place, PROMPT)
    yield agent.run(place, "say done again", again=True)


def _ended_by(number):
    def scene(agent, place, model):
        """A prompt, and the agent's end while it waits for the model."""
        model.hold()
        process = agent.start(place, PROMPT)
        model.was_asked()
        os.killpg(process.pid, number)
        printed, _ = process.communicate()
        yield process.returncode, printed

    return scene


def prompts_logged(agent, place, model):
    """A prompt and a command, with the agent's own switches for content on."""
    switches = ("OTEL_LOG_USER_PROMPTS", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT")
    yield agent.run(place, PROMPT, extra=dict.fromkeys(switches, "1"))


def context_of_children(agent, place, model):
    """A command that writes down its environment: what it learns of its trace and of the session."""
    found = place.home / "environment"
    model.command = f"env > {found}"
    yield agent.run(place, PROMPT)
    own = agent.environment(place)
    for line in sorted(found.read_text().splitlines()):
        if line.partition("=")[0] not in own:
            print("  environment:", line)


SCENES = {
    "tool_call": tool_call,
    "api_error": api_error,
    "two_prompts_one_session": two_prompts_one_session,
    "sigterm": _ended_by(signal.SIGTERM),
    "sigkill": _ended_by(signal.SIGKILL),
    "prompts_logged": prompts_logged,
    "context_of_children": context_of_children,
}


def cleaned(value, replaced):
    """Return a decoded request without what names a user, a host or a folder; long texts are cut."""
    if isinstance(value, list):
        return [cleaned(item, replaced) for item in value]
    if isinstance(value, str):
        for text, instead in replaced.items():
            value = value.replace(text, instead)
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]} …"
    if not isinstance(value, dict):
        return value
    if value.get("key") in _NAMED and value.get("value"):
        return {"key": value["key"], "value": {"stringValue": _NAMED[value["key"]]}}
    return {key: cleaned(item, replaced) for key, item in value.items()}


def main(name, folder, *scenes):
    agent, folder = AGENTS[name], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for scene in scenes or SCENES:
        with tempfile.TemporaryDirectory() as scratch, OtlpReceiver() as receiver, CodingModel() as model:
            place = Place(Path(scratch) / "home", Path(scratch) / "work", model.url, receiver.url)
            for code, printed in SCENES[scene](agent, place, model):
                print(f"== {name} {scene}: exit code {code}\n{printed[-1500:]}")
            print("the model:", model.taken())
            places = {
                str(CACHE): "/opt",
                scratch: "/home/user",
                model.url: "http://127.0.0.1:8000",
                "/$bunfs/root": "/$bunfs",
            }
            quoted = {quote(place, safe=""): quote(instead, safe="") for place, instead in places.items()}
            _write(folder, name, scene, receiver.received, {**places, **quoted, platform.node(): "<host>"})


def _write(folder, name, scene, received, replaced):
    numbers: dict[str, int] = {}
    for request in received:
        number = numbers[request.signal] = numbers.get(request.signal, 0) + 1
        body = cleaned(request.body(), replaced)
        captured = {"path": request.path, "content_type": request.content_type, "body": body}
        text = json.dumps(captured, separators=(",", ":"), ensure_ascii=False)
        (folder / f"{name}_{request.signal}_{scene}_{number}.json").write_text(text + "\n")
        names = re.findall(r'"event.name","value":\{"stringValue":"([^"]*)"', text) or re.findall(
            r'"name":"([^"]*)"', text
        )
        print("  ", request.path, request.content_type, len(text), names[:60])


if __name__ == "__main__":
    main(*sys.argv[1:])
