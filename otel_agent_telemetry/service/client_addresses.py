"""Whose request it is: the address behind trusted proxies, and what limits count for it. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig

_HOST_PREFIX: Final = 64
"""Bits of the network that a host with IPv6 has for itself."""


def trusted_proxies(settings: TelemetryConfig) -> frozenset[str]:
    """Return the addresses and networks of the trusted proxies, `*` for any."""
    return frozenset(filter(None, map(str.strip, (settings.trusted_proxies or "").split(","))))


def forwarded_client(peer: str, forwarded: str, trusted: frozenset[str]) -> str:
    """Return whose request it is: of a trusted proxy's, the last address of `X-Forwarded-For` that is no such proxy's.

    The same as over HTTP, where uvicorn does it.
    """
    if not is_trusted(peer, trusted):
        return peer
    addresses = [address.strip() for address in forwarded.split(",") if address.strip()]
    if not addresses:
        return peer
    if "*" in trusted:
        return addresses[0]
    # Each proxy adds the address that it saw at the end; what stands before the last stranger may be invented.
    return next((address for address in reversed(addresses) if not is_trusted(address, trusted)), addresses[0])


@lru_cache(maxsize=4096)
def counted_client(address: str) -> str:
    """Return what limits count for an address: itself, or the network of an IPv6 address.

    A host has a whole network of 64 bits, and could come from another address each time. IPv4
    within IPv6 (`::ffff:192.0.2.1`) is IPv4.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:  # a socket without an address
        return address
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((ip, _HOST_PREFIX), strict=False))


def is_trusted(address: str, trusted: frozenset[str]) -> bool:
    """Return whether an address is a trusted proxy's: named itself, in a named network, or `*`."""
    if not trusted or "*" in trusted or address in trusted:
        return bool(trusted)
    try:
        peer = ip_address(address)
        return any("/" in item and peer in ip_network(item, strict=False) for item in trusted)
    except ValueError:  # a socket without an address, or a name among the proxies
        return False
