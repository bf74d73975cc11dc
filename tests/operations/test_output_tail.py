"""Standard error on its way through us: unchanged, in order, at once; and the lines that are kept of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
import tail_driver
from on_disk import PATIENCE_S, ROOT, child_environment

from otel_agent_telemetry.operations.output_tail import MAX_LINES, last_lines

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")


def started(kept, *command, **more):
    return subprocess.Popen(
        [sys.executable, tail_driver.__file__, str(kept), *command], cwd=ROOT, env=child_environment(), **more
    )


def test_both_streams_in_one_place_keep_their_order(tmp_path):
    """`2>&1`: a pipe for standard error alone would let its lines overtake, or fall behind."""
    script = "for i in $(seq 300); do echo out $i; echo err $i >&2; done; exit 3"
    process = started(tmp_path / "kept", "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shown = process.communicate(timeout=PATIENCE_S)[0].decode().splitlines()
    assert shown == [f"{stream} {number}" for number in range(1, 301) for stream in ("out", "err")]
    assert process.returncode == 3
    assert json.loads((tmp_path / "kept").read_text()) == shown[-MAX_LINES:]


def test_two_places_stay_two_and_bytes_stay_bytes(tmp_path):
    """A megabyte that is no text, on standard error; standard output is the command's own, and not kept."""
    blob = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(32 << 10))
    (tmp_path / "blob").write_bytes(blob)
    script = f"cat '{tmp_path / 'blob'}' >&2; echo result; echo >&2; echo last >&2"
    process = started(tmp_path / "kept", "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (out, err) == (b"result\n", blob + b"\nlast\n")
    lines = json.loads((tmp_path / "kept").read_text())
    assert lines[-1] == "last"
    assert len(lines) <= MAX_LINES


def test_a_question_without_an_end_of_line_is_shown_before_its_answer(tmp_path):
    """`read -p` and password prompts write to standard error and wait."""
    script = "printf 'name? ' >&2; read name; echo hello $name"
    with started(
        tmp_path / "kept", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert os.read(process.stderr.fileno(), 6) == b"name? "
        process.stdin.write(b"you\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello you\n"


def test_a_daemon_that_the_command_leaves_keeps_its_standard_error(tmp_path):
    """We end with the command and do not wait for the daemon; what it writes later still arrives, and does not kill it."""
    os.mkfifo(tmp_path / "go")
    script = f"(read line < '{tmp_path / 'go'}'; echo late >&2; echo alive >&2) & echo early >&2; exit 3"
    with started(tmp_path / "kept", "bash", "-c", script, stderr=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 3
        with (tmp_path / "go").open("w") as daemon:
            daemon.write("go\n")
        assert process.stderr.read() == b"early\nlate\nalive\n"
    assert json.loads((tmp_path / "kept").read_text()) == ["early"]


def test_a_reader_that_goes_away_ends_the_command_as_without_us(tmp_path):
    """By SIGPIPE at its next write."""
    process = started(tmp_path / "kept", "sh", "-c", "while echo x >&2; do :; done", stderr=subprocess.PIPE)
    process.stderr.read(2)
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 141


def test_secrets_are_masked_before_lines_are_cut():
    """A private key whose first line is not among the last twenty, a password in a URL, and in a coloured line."""
    key = ["-----BEGIN PRIVATE KEY-----", *[f"{number:064d}" for number in range(30)], "-----END PRIVATE KEY-----"]
    rest = ["fatal: https://me:hunter2hunter2@git.example/x", "\x1b[31mexport API_TOKEN=\x1b[1mabcdef0123456789\x1b[0m"]
    lines = last_lines("\n".join([*key, *rest, ""]).encode(), is_cut=False)
    text = "\n".join(lines)
    assert "0" * 60 not in text
    assert "hunter2" not in text
    assert "abcdef0123456789" not in text
    assert lines[-1] == "export API_TOKEN=***REDACTED***"


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"one\n\ntwo\n", ["one", "", "two"]),
        (b" 10%\r 50%\r100%\ndone\r\n", ["100%", "done"]),
        (b"\x1b]0;title\x07\x1b[1;31merror\x1b[0m: x\n", ["error: x"]),
        (b"caf\xc3\xa9 \xff\x00\n", ["caf\u00e9 \ufffd"]),
    ],
)
def test_lines_are_kept_as_they_were_last_shown(kept, expected):
    """Progress bars, colours, titles, and bytes that are no text."""
    assert last_lines(kept, is_cut=False) == expected


def test_half_a_line_is_not_kept():
    """What is left of the first line may be the second half of a secret."""
    assert last_lines(b"alf-a-token\nnext\n", is_cut=True) == ["next"]
    assert last_lines(b"alf-a-token" + b"x" * 2_000, is_cut=True) == ["…" + "x" * 1_000]
