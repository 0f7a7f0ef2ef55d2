"""Who really called, when proxies stand in front: their headers are believed as far as configured proxies wrote them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from gateway_rest.errors import Refusal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The proxies whose word counts."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """`networks` are addresses or CIDR networks.

        Raises:
            ValueError: one of them is neither.
        """
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(item.strip(), strict=False) for item in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def settle(self, scope: Any) -> None:
        """Puts the caller's own address and scheme into an ASGI scope that came by a trusted proxy.

        The rightmost address that is no proxy of ours wins: everything to its left was written by strangers.

        Raises:
            Refusal: 400, X-Forwarded-For and Forwarded tell different stories, so one of them is the caller's own.
        """
        peer = _address(scope["client"][0]) if scope.get("client") else None
        if peer is None or not self._trusts(peer):
            return
        forwarded, chain, proto = _read(scope["headers"])
        address = self._caller(peer, chain)
        if forwarded is not None:
            told = self._caller(peer, [item.get("for", "") for item in forwarded])
            if chain and told != address:
                raise Refusal(400, "FORWARDED_AMBIGUOUS")
            address = told
            proto = proto or (forwarded[-1].get("proto", "") if forwarded else "")
        scope["client"] = (str(address), 0)
        if proto in {"https", "wss"}:
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"

    def _trusts(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)

    def _caller(self, peer: Address, chain: Sequence[str]) -> Address:
        current = peer
        for text in reversed(chain):
            if not self._trusts(current):
                break
            before = _address(text)
            if before is None:
                break
            current = before
        return current


def _read(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[dict[str, str]] | None, list[str], str]:
    """The elements of Forwarded (None without it), the addresses of X-Forwarded-For, and the scheme of the nearest proxy."""
    forwarded: list[dict[str, str]] | None = None
    chain: list[str] = []
    proto = ""
    for name, value in headers:
        if name == b"x-forwarded-for":
            chain += [item.strip() for item in value.decode("latin-1").split(",")]
        elif name == b"x-forwarded-proto":
            proto = value.decode("latin-1").rpartition(",")[2].strip().lower()
        elif name == b"forwarded":
            forwarded = (forwarded or []) + [_element(item) for item in value.decode("latin-1").split(",")]
    return forwarded, chain, proto


def _element(text: str) -> dict[str, str]:
    """One hop as RFC 7239 writes it: `for="[2001:db8::1]:4711";proto=https`."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip().strip('"').lower() for name, _, value in pairs}


def _address(text: str) -> Address | None:
    """An address, with or without port and brackets; None for anything else. IPv4 within IPv6 becomes IPv4."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
