from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.storage import outlets, papers, policies
from edge.storage.clocks import Clock
from edge.storage.folder import Storage
from edge.storage.policies import BUILT_IN, PolicyRefused
from edge.storage.space import Space
from gipos.edge.v1.link_pb2 import OfflinePolicy, OfflineRules
from gipos.v1.accounts_pb2 import Outlet, Till

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {"k1": KEY.public_key().public_bytes_raw()}


def rules(version: int = 3, **fields: Any) -> OfflineRules:
    given: dict[str, Any] = {"tenant_id": "ten_1", "till_id": "dev_kasa2", "longest_hours": 24, **fields}
    return OfflineRules(version=version, **given)


def signed(what: OfflineRules, key: Ed25519PrivateKey = KEY, key_id: str = "k1") -> OfflinePolicy:
    body = what.SerializeToString()
    return OfflinePolicy(rules=body, signature=key.sign(b"gipos offline policy\0" + body), key_id=key_id)


@pytest.fixture
def till(stocked: Storage) -> Storage:
    stocked.policy_keys = KEYS
    return stocked


async def test_rules_the_cloud_has_signed_count_at_once_and_after_a_restart(
    till: Storage, tmp_path: Path, hands: Any, budget: Any
) -> None:
    assert till.rules is BUILT_IN
    assert await till.adopt_policy(signed(rules(most_sales=200, tenders=["cash", "qris"]))) == ""
    assert (till.rules.version, till.rules.longest_hours, till.rules.most_sales) == (3, 24, 200)
    assert till.rules.tenders == {"cash", "qris"}
    kept = await till.store.read(papers.find_policy)
    assert kept is not None
    copy = tmp_path / "copy"
    other = Storage.open(copy, Clock(hands), policy_keys=KEYS, space=Space(copy, budget))
    other.store.write_and_wait(lambda connection: papers.put_policy(connection, kept))
    other.close()
    again = Storage.open(copy, Clock(hands), policy_keys=KEYS, space=Space(copy, budget))
    assert again.rules == till.rules
    again.close()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (signed(rules(), key_id="k2"), "not given"),
        (signed(rules(), key=Ed25519PrivateKey.generate()), "signature"),
        (OfflinePolicy(rules=rules().SerializeToString(), signature=b"short", key_id="k1"), "signature"),
        (
            OfflinePolicy(rules=rules(longest_hours=999).SerializeToString(), signature=signed(rules()).signature, key_id="k1"),
            "signature",
        ),
        (signed(rules(till_id="dev_other")), "another till"),
        (signed(rules(tenant_id="ten_2")), "another till"),
        (signed(rules(version=1)), "version 2 already"),
        (signed(rules(version=0)), "version 0"),
    ],
)
async def test_rules_that_are_not_genuine_not_ours_or_old_change_nothing(till: Storage, policy: OfflinePolicy, why: str) -> None:
    await till.adopt_policy(signed(rules(version=2, longest_hours=12)))
    assert why in await till.adopt_policy(policy)
    assert (till.rules.version, till.rules.longest_hours) == (2, 12)
    kept = await till.store.read(papers.find_policy)
    assert kept == signed(rules(version=2, longest_hours=12))


async def test_a_signature_over_the_rules_alone_is_none(till: Storage) -> None:
    body = rules().SerializeToString()
    assert "signature" in await till.adopt_policy(OfflinePolicy(rules=body, signature=KEY.sign(body), key_id="k1"))


async def test_rules_before_the_first_welcome_are_refused(storage: Storage) -> None:
    storage.policy_keys = KEYS
    assert await storage.replica.read(outlets.find) is None
    assert "whose till" in await storage.adopt_policy(signed(rules()))


async def test_rules_changed_in_the_store_by_hand_do_not_count(till: Storage) -> None:
    policy = signed(rules())
    policy.rules = rules(longest_hours=9999).SerializeToString()
    assert till._stored_rules(policy) is BUILT_IN
    assert till._stored_rules(signed(rules())).longest_hours == 24
    other = outlets.Identity("ten_1", Outlet(id="out_kemang"), Till(id="dev_other"))
    assert till._stored_rules(signed(rules()), other) is BUILT_IN
    till.policy_keys = {}
    assert till._stored_rules(signed(rules())).longest_hours == 24, (
        "a key that was replaced does not undo what was checked with it"
    )


def test_rules_that_cannot_be_read_are_refused() -> None:
    body = b"\xff\xff"
    with pytest.raises(PolicyRefused, match="cannot be read"):
        policies.verify(OfflinePolicy(rules=body, signature=KEY.sign(b"gipos offline policy\0" + body), key_id="k1"), KEYS)


def test_negative_limits_are_none() -> None:
    found = policies.read(rules(most_sales=-1, most_amount=-5, override_minutes=-2))
    assert (found.most_sales, found.most_amount, found.override_minutes) == (0, 0, 0)
