"""A program for tests: runs commands one after the other as children, and ends as the last of them did.

`command_driver.py [--shown] '[["command", "argument"], …]'`: with `--shown` it prints how each ended.
"""

import json
import os
import sys

from otel_agent_telemetry.operations.child_process import NotStarted, hold_signals, start

if __name__ == "__main__":
    mask = hold_signals()
    for command in json.loads(sys.argv[-1]):
        child = start(command, os.environ, mask=mask, outputs={})
        ended = child if isinstance(child, NotStarted) else child.wait()
        if sys.argv[1] == "--shown":
            print(ended.code, ended.reason if isinstance(ended, NotStarted) else int(ended.signal), flush=True)
    sys.exit(ended.code)
