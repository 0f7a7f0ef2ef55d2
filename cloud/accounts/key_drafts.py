"""What an API key or an OAuth client may be like. Pure: every violation at once, nothing is stored."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from cloud.platform import checks, peers
from cloud.platform.calls import Caller
from gipos.v1.keys_pb2 import ApiKey, OAuthClient
from kernel.errors import PermissionDenied, Violation
from kernel.scopes import SCOPES

ALL_SCOPES = tuple(SCOPES)
KEYS_WRITE = "api_keys:write"
"""Who has it can let others in. Never given to an application of somebody else."""
MAX_NAME = 100
MAX_ADDRESSES = 100
MAX_ORIGINS = 20
MAX_RATE = 10_000
MAX_REDIRECT_URIS = 10
GRANT_TYPES = ("client_credentials", "authorization_code")

_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?")
_FORBIDDEN = frozenset("\"'<>\\^`{|} ")
_LOOPBACK_NAMES = ("localhost",)


def key_violations(draft: ApiKey, now: datetime, paths: Collection[str]) -> list[Violation]:
    """Everything that is wrong with the fields named."""
    found: list[Violation] = []
    if "name" in paths:
        found += _name(draft.name)
    if "mode" in paths:
        found += _mode(draft.mode)
    if "scopes" in paths:
        found += _scopes(draft.scopes)
    if "allowed_addresses" in paths:
        found += _addresses(draft.allowed_addresses)
    if "allowed_origins" in paths:
        found += _origins(draft.allowed_origins)
    if "expire_time" in paths and draft.HasField("expire_time"):
        found += _expiry(draft, now)
    if "requests_per_second" in paths and not 0 <= draft.requests_per_second <= MAX_RATE:
        message = f"requests_per_second must be between 1 and {MAX_RATE}, or 0 for the plan's limit."
        found.append(Violation("requests_per_second", "OUT_OF_RANGE", message))
    return found


def client_violations(draft: OAuthClient) -> list[Violation]:
    """Everything that is wrong with an OAuth client."""
    found = [*_name(draft.name), *_mode(draft.mode), *_scopes(draft.scopes)]
    if len(draft.grant_types) > 2 * len(GRANT_TYPES):
        found.append(Violation("grant_types", "TOO_MANY", f"There are {len(GRANT_TYPES)} grant types."))
    for index, grant_type in enumerate(draft.grant_types[: 2 * len(GRANT_TYPES)]):
        if grant_type not in GRANT_TYPES:
            message = f"grant_types holds {' and '.join(GRANT_TYPES)} only."
            found.append(Violation(f"grant_types[{index}]", "INVALID", message))
    asks_merchants = "authorization_code" in draft.grant_types
    if draft.public and set(draft.grant_types) != {"authorization_code"}:
        message = "A public client has no secret, so its grant_types must be just authorization_code."
        found.append(Violation("grant_types", "INVALID", message))
    if asks_merchants and KEYS_WRITE in draft.scopes:
        message = f"An application that merchants connect cannot ask for {KEYS_WRITE}."
        found.append(Violation("scopes", "NOT_ALLOWED", message))
    if asks_merchants and not draft.redirect_uris:
        found.append(Violation("redirect_uris", "REQUIRED", "redirect_uris is required for authorization_code."))
    if draft.redirect_uris and not asks_merchants:
        found.append(Violation("redirect_uris", "NOT_ALLOWED", "redirect_uris belong to authorization_code only."))
    if len(draft.redirect_uris) > MAX_REDIRECT_URIS:
        found.append(Violation("redirect_uris", "TOO_MANY", f"redirect_uris has at most {MAX_REDIRECT_URIS} entries."))
    for index, uri in enumerate(draft.redirect_uris[:MAX_REDIRECT_URIS]):
        if not _is_redirect_uri(uri):
            message = "A redirect URI is an https address (or http on loopback) in ASCII, without user name and fragment."
            found.append(Violation(f"redirect_uris[{index}]", "INVALID_URL", message))
    return found


def require_scopes(wanted: Collection[str], own: Collection[str]) -> None:
    """Nobody hands on what they do not have.

    Raises:
        PermissionDenied: a wanted scope is not among the caller's own.
    """
    missing = sorted(set(wanted) - set(own))
    if missing:
        raise PermissionDenied(
            f"Your key lacks the scope {missing[0]} itself, so it can neither hand it on nor manage a key that has it. "
            "Use a key that has it.",
            scope=missing[0],
        )


def require_not_longer(ends_at: datetime | None, by: Caller) -> None:
    """A key that ends cannot let anybody in for longer, itself included; `ends_at` is None for what never ends.

    Raises:
        PermissionDenied: it would.
    """
    if by.ends_at is not None and (ends_at is None or ends_at > by.ends_at):
        raise PermissionDenied(
            f"Your key ends at {by.ends_at.isoformat()} and cannot let anybody in for longer, neither by a key nor by an "
            "application. Give the key an expire_time accordingly, or use another key for this."
        )


def addresses(given: Sequence[str]) -> list[str]:
    """Valid addresses and networks in their one spelling, without repetitions."""
    return list(dict.fromkeys(str(peers.network(text)) for text in given))


def origin_of(uri: str) -> str:
    """The origin a browser sends for a page at this address."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def moment_of(draft: ApiKey) -> datetime:
    """The expire_time, with its zone."""
    return draft.expire_time.ToDatetime(tzinfo=UTC)


def _name(name: str) -> Iterator[Violation]:
    yield from checks.text("name", name, MAX_NAME, required=True)


def _expiry(draft: ApiKey, now: datetime) -> Iterator[Violation]:
    try:
        is_past = moment_of(draft) <= now
    except (ValueError, OverflowError):  # no moment of our calendar; only a caller of gRPC can say such a thing
        yield Violation("expire_time", "INVALID", "expire_time must be a moment in the years 1 to 9999.")
        return
    if is_past:
        yield Violation("expire_time", "OUT_OF_RANGE", "expire_time must be in the future. To end a key now, revoke it.")


def _mode(mode: str) -> Iterator[Violation]:
    if mode not in {"", "test", "live"}:
        yield Violation("mode", "INVALID", 'mode must be "test" or "live".')


def _scopes(scopes: Sequence[str]) -> Iterator[Violation]:
    if not scopes:
        yield Violation("scopes", "REQUIRED", 'scopes is required, for example ["products:read"].')
    if len(scopes) > 2 * len(ALL_SCOPES):
        yield Violation("scopes", "TOO_MANY", f"There are {len(ALL_SCOPES)} scopes.")
        return
    for index, scope in enumerate(scopes):
        if scope not in ALL_SCOPES:
            yield Violation(f"scopes[{index}]", "UNKNOWN_SCOPE", f"There is no such scope. Use one of {', '.join(ALL_SCOPES)}.")


def _addresses(given: Sequence[str]) -> Iterator[Violation]:
    if len(given) > MAX_ADDRESSES:
        yield Violation("allowed_addresses", "TOO_MANY", f"allowed_addresses has at most {MAX_ADDRESSES} entries.")
    for index, text in enumerate(given[:MAX_ADDRESSES]):
        try:
            peers.network(text)
        except ValueError:
            message = "This is neither an address nor a network, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32."
            yield Violation(f"allowed_addresses[{index}]", "INVALID_ADDRESS", message)


def _origins(given: Sequence[str]) -> Iterator[Violation]:
    if len(given) > MAX_ORIGINS:
        yield Violation("allowed_origins", "TOO_MANY", f"allowed_origins has at most {MAX_ORIGINS} entries.")
    for index, text in enumerate(given[:MAX_ORIGINS]):
        if text != "*" and not _ORIGIN.fullmatch(text):
            message = 'An origin is a scheme and a host in lower case, and nothing more: "https://toko.example". "*" means any.'
            yield Violation(f"allowed_origins[{index}]", "INVALID_ORIGIN", message)


def _is_redirect_uri(uri: str) -> bool:
    if len(uri) > 2000 or not uri.isascii() or not uri.isprintable() or not _FORBIDDEN.isdisjoint(uri):
        return False
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or "#" in uri or "*" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES
