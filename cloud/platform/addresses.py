"""Where this cloud may send requests that somebody else asked for: rules on URLs and on numeric addresses. No I/O.

Refused is everything that is not plainly the public Internet, because such a request is made with our rights: metadata services,
neighbours in the data centre, ourselves. The standard library's `is_global` is not used: it calls multicast, 6to4 and several
spellings of IPv4 in IPv6 global.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

MAX_URL = 2048
PORTS = (443, 8443)
"""An allow list is shorter than a list of all ports that speak something dangerous."""

# IANA special-purpose registries (RFC 6890 and successors), multicast and class E.
_FORBIDDEN_4 = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Only global unicast is handed out to anybody; everything else (mapped, translated, local) falls outside this one block …
_ALLOWED_6 = IPv6Network("2000::/3")
# … except these within it: Teredo and other protocol use, documentation, 6to4, direct delegation of AS112.
_FORBIDDEN_6 = tuple(ip_network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48"))
# What a development machine may reach on top. Link-local is not among them: that is where metadata services live.
_PRIVATE = tuple(
    ip_network(block) for block in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_INTERNAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa")


class ForbiddenTarget(OSError):
    """A request that must not be made. The text never says where the name led; `detail` does, for the operator's log.

    It is an OSError so that it passes unchanged through the places of a connection attempt where it is raised.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("The address is not one that may be called.")
        self.detail = detail


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a connection to this numeric address may be opened; `private` adds loopback and private networks."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if private and any(parsed.version == block.version and parsed in block for block in _PRIVATE):
        return True
    if isinstance(parsed, IPv4Address):
        return not any(parsed in block for block in _FORBIDDEN_4)
    return parsed in _ALLOWED_6 and not any(parsed in block for block in _FORBIDDEN_6)


def problems(url: str, *, private: bool) -> list[tuple[str, str]]:
    """Everything that is wrong with a URL as (reason, what to do instead); empty when it may be called."""
    if not url:
        return [("REQUIRED", "url is required: the https address that gets the events.")]
    if len(url) > MAX_URL:
        return [("TOO_LONG", f"url must have at most {MAX_URL} characters.")]
    if _UNPRINTABLE.search(url):
        return [("INVALID", "url must not contain spaces, control characters or backslashes.")]
    try:
        parsed = URL(url)
        host = _host(parsed)
    except ValueError:
        return [("INVALID", "url is not a valid address; it should look like https://example.com/webhooks.")]
    found = []
    if parsed.scheme not in (("https", "http") if private else ("https",)):
        found.append(("SCHEME_NOT_ALLOWED", f"url must begin with https://{' or http://' if private else ''}."))
    if parsed.user is not None or parsed.password is not None:
        found.append(("CREDENTIALS_NOT_ALLOWED", "url must not contain a user name or password; deliveries are signed instead."))
    if "#" in url:
        found.append(("FRAGMENT_NOT_ALLOWED", "url must not contain a fragment (#…); it would never be sent."))
    port = parsed.port
    if port is not None and (port == 0 or (not private and port not in PORTS)):
        found.append(("PORT_NOT_ALLOWED", f"url must use port {' or '.join(map(str, PORTS))}."))
    found.extend(_host_problems(host, private=private))
    return found


def target(url: str, *, private: bool) -> URL:
    """The URL in the one form that is to be used from here on: host in ASCII, lower case, without a trailing dot.

    Raises:
        ForbiddenTarget: it breaks a rule.
    """
    found = problems(url, private=private)
    if found:
        raise ForbiddenTarget(f"url: {', '.join(reason for reason, _ in found)}")
    parsed = URL(url)
    return parsed.with_host(_host(parsed))


def _host(parsed: URL) -> str:
    host = (parsed.raw_host or "").lower()
    return host.removesuffix(".")


def _host_problems(host: str, *, private: bool) -> list[tuple[str, str]]:
    labels = host.split(".")
    literal = _literal(host)
    if literal is None and (
        len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or _NUMERIC.fullmatch(labels[-1])
    ):
        # A last label of digits makes `getaddrinfo` read the whole as one of the old spellings of IPv4 (017700000001, 127.1).
        return [("INVALID", "url does not contain a valid host name.")]
    if literal is not None and not private:
        return [("TARGET_FORBIDDEN", "url must contain a host name, not an IP address.")]
    if literal is not None and not is_allowed(host, private=True):
        return [("TARGET_FORBIDDEN", "url must not point to a reserved address.")]
    if literal is None and not private and (len(labels) == 1 or labels[-1] in _INTERNAL_NAMES):
        return [("TARGET_FORBIDDEN", "url must contain a public host name such as example.com.")]
    return []


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None
