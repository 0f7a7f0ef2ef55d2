"""Where a call comes from, as far as it can be believed. Pure; whom to believe is a setting.

Everybody can write an `x-forwarded-for`, so only the word of a proxy of ours counts, and of its word only the last entry: that is
the one it has seen itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_REMEMBERED = 4096
_LONGEST = 64
"""Characters of an IPv6 address with its zone, spaces around it included."""


def normalised(text: str) -> str:
    """An address in its one spelling: IPv4 for what is mapped into IPv6, no zone. Empty when it is none."""
    try:
        parsed = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)


def network(text: str) -> Network:
    """An address or a network in CIDR notation, in its one spelling.

    Raises:
        ValueError: it is neither, or an address within a network instead of the network's own.
    """
    parsed = ip_network(text)
    if isinstance(parsed, IPv6Network) and parsed.prefixlen >= 96 and parsed.network_address.ipv4_mapped is not None:
        return IPv4Network((parsed.network_address.ipv4_mapped, parsed.prefixlen - 96))
    return parsed


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether a normalised address lies in one of the networks; an unknown one lies in none."""
    if not address:
        return False
    parsed = ip_address(address)
    return any(parsed.version == block.version and parsed in block for block in networks)


def neighbourhood(address: str) -> str:
    """What counts as one place for limits: an IPv4 address, or the /64 that one IPv6 connection has all to itself."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, 64), strict=False).network_address)


def resolver(trusted: Iterable[str]) -> Callable[[str, str], str]:
    """A function from the transport's peer and `x-forwarded-for` to the client's address; it remembers what it was asked.

    Raises:
        ValueError: a trusted proxy is neither an address nor a network.
    """
    proxies = tuple(network(text) for text in trusted)

    @lru_cache(_REMEMBERED)
    def resolved(peer: str, last: str) -> str:
        address = normalised(peer)
        if last and is_within(address, proxies):
            return normalised(last) or address
        return address

    def resolve(peer: str, forwarded_for: str) -> str:
        # Of what anybody may write, as long as they like, only what could be an address is looked at and remembered.
        last = forwarded_for.rpartition(",")[2]
        return resolved(peer, last if len(last) <= _LONGEST else "")

    return resolve
