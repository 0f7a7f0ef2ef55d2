"""What a till may do without the cloud: rules signed by the cloud, checked here before they count.

A till that was given no rules yet sells under the built-in ones, see docs/decisions/0026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from gipos.edge.v1.link_pb2 import OfflinePolicy, OfflineRules

SIGNED_PREFIX = b"gipos offline policy\0"


class PolicyRefused(Exception):
    """The rules do not count; the message says why, for people."""


@dataclass(frozen=True)
class Rules:
    """The rules as the checkout reads them. 0 means no limit."""

    version: int = 0
    """0 for the built-in rules."""
    longest_hours: int = 72
    most_sales: int = 0
    most_amount: int = 0
    """Rupiah."""
    tenders: frozenset[str] = field(default_factory=frozenset)
    """Payment methods that may be taken offline; empty for all. The cloud never signs an empty list."""
    override_minutes: int = 0
    supervisor_pins: tuple[str, ...] = ()
    """PHC texts."""

    @property
    def is_built_in(self) -> bool:
        """Whether the cloud has said nothing yet. Then nobody has a PIN that could lift a limit, and cash is always taken."""
        return self.version == 0


BUILT_IN = Rules(tenders=frozenset({"cash"}))
"""72 hours, and without the internet cash only: nobody here can tell whether any other money has come."""


def verify(policy: OfflinePolicy, keys: Mapping[str, bytes]) -> OfflineRules:
    """The rules, if one of the cloud's keys has signed exactly these bytes.

    Raises:
        PolicyRefused: nobody this till knows has signed them.
    """
    key = keys.get(policy.key_id)
    if key is None:
        raise PolicyRefused(f"The offline rules are signed with key {policy.key_id!r}, which this till was not given.")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(policy.signature, SIGNED_PREFIX + policy.rules)
    except (InvalidSignature, ValueError) as error:
        raise PolicyRefused("The signature of the offline rules is wrong.") from error
    return parse(policy)


def parse(policy: OfflinePolicy) -> OfflineRules:
    """The rules in a policy whose signature was checked before.

    Raises:
        PolicyRefused: they cannot be read.
    """
    try:
        return OfflineRules.FromString(policy.rules)
    except DecodeError as error:
        raise PolicyRefused("The offline rules cannot be read.") from error


def check_address(rules: OfflineRules, *, tenant_id: str, till_id: str, version: int) -> None:
    """Sees to it that rules are meant for this till and are not older than those it has.

    Raises:
        PolicyRefused: they are not.
    """
    if (rules.tenant_id, rules.till_id) != (tenant_id, till_id):
        raise PolicyRefused("The offline rules are meant for another till.")
    if rules.version < 1 or rules.version < version:
        raise PolicyRefused(f"The offline rules have version {rules.version}; this till has version {version} already.")


def read(rules: OfflineRules) -> Rules:
    """Signed rules as the checkout reads them. A negative limit is none at all."""
    return Rules(
        version=rules.version,
        longest_hours=max(0, rules.longest_hours),
        most_sales=max(0, rules.most_sales),
        most_amount=max(0, rules.most_amount),
        tenders=frozenset(rules.tenders),
        override_minutes=max(0, rules.override_minutes),
        supervisor_pins=tuple(rules.supervisor_pins),
    )
