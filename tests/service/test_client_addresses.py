"""Whose request it is, and what limits count for it."""

from __future__ import annotations

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from otel_agent_telemetry.service.client_addresses import counted_client, forwarded_client


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.7", "10.0.0.0/24", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.0/24", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "*", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", " , ,", "*", "10.0.0.1"),
        ("203.0.113.9", "198.51.100.1", "10.0.0.1", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "", "203.0.113.9"),
    ],
)
def test_the_client_behind_a_trusted_proxy_is_the_last_stranger(peer, forwarded, trusted, client):
    """As uvicorn decides over HTTP; anybody else's header counts for nothing."""
    assert forwarded_client(peer, forwarded, frozenset(filter(None, trusted.split(",")))) == client
    if trusted and forwarded.strip(" ,"):
        hosts = _TrustedHosts(trusted)
        assert (hosts.get_trusted_client_address(forwarded)[0] if peer in hosts else peer) == client


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_limits_count_the_network_of_an_ipv6_host(address, client):
    """A host may use each of its 2^64 addresses; two networks are two clients."""
    assert counted_client(address) == client
    assert counted_client("2001:db8:1:3::1") != client
