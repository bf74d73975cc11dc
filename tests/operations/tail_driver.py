"""A program for tests: runs a command with its standard error read, and writes what was kept to a file.

`tail_driver.py FILE COMMAND…`; it ends as the command did.
"""

import json
import os
import sys
from pathlib import Path

from otel_agent_telemetry.operations.child_process import hold_signals, start
from otel_agent_telemetry.operations.output_tail import OutputTail

if __name__ == "__main__":
    mask = hold_signals()
    tail = OutputTail()
    child = start(sys.argv[2:], os.environ, mask=mask, outputs=tail.outputs)
    tail.begin()
    ended = child.wait()
    tail.finish()
    Path(sys.argv[1]).write_text(json.dumps(tail.lines()))
    sys.exit(ended.code)
