"""What a process listens on, from /proc."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"
_FAMILIES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}


def listening(pid):
    """`(address, port)` of each TCP socket on which the process listens."""
    inodes = _sockets_of(pid)
    return {
        _address(fields[1], family)
        for table, family in _FAMILIES.items()
        for fields in map(str.split, Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:])
        if fields[3] == _LISTEN and fields[9] in inodes
    }


def _sockets_of(pid):
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            name = str(link.readlink())
            if name.startswith("socket:["):
                found.add(name[8:-1])
    return found


def _address(text, family):
    """The kernel writes addresses as words of this machine's byte order, ports in hex."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)
