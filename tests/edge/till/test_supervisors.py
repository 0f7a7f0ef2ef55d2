from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.storage.folder import Storage
from edge.storage.policies import Rules
from edge.till import pins
from edge.till.refusals import OverrideNotPossible, PinLocked, PinWrong
from edge.till.supervisors import MINUTE_MS, Attempts, Supervisors


def phc(pin: str, cost: int = 4, salt: bytes = b"0123456789abcdef") -> str:
    made = hashlib.scrypt(pin.encode(), salt=salt, n=2**cost, r=8, p=1, dklen=32)
    text = "$".join(base64.b64encode(part).decode().rstrip("=") for part in (salt, made))
    return f"$scrypt$ln={cost},r=8,p=1${text}"


RULES = Rules(version=1, override_minutes=30, supervisor_pins=(phc("1111"), phc("2468")))


@pytest.fixture
def supervisors(storage: Storage) -> Supervisors:
    storage.rules = RULES
    return Supervisors(storage)


async def left_ms(storage: Storage) -> int:
    return await storage.store.read(Supervisors(storage).left_ms)


@pytest.mark.parametrize(
    ("text", "pin", "matches"),
    [
        (phc("2468"), "2468", True),
        (phc("2468"), "2469", False),
        (phc("2468"), "", False),
        (phc("kata sandi é", cost=10), "kata sandi é", True),
        (phc("2468").replace("ln=4", "ln=5"), "2468", False),
        (phc("2468").replace("ln=4", "ln=40"), "2468", False),
        (phc("2468").replace("r=8", "r=0"), "2468", False),
        (phc("2468")[:-30], "2468", False),
        ("2468", "2468", False),
        ("", "", False),
        ("$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "2468", False),
        ("$argon2id$nonsense", "2468", False),
    ],
)
def test_a_pin_is_checked_against_its_hash(text: str, pin: str, matches: bool) -> None:
    assert pins.matches(text, pin) is matches


def test_argon2_hashes_are_understood_too() -> None:
    made = Argon2id(salt=b"saltsaltsaltsalt", length=32, iterations=1, lanes=1, memory_cost=64).derive_phc_encoded(b"2468")
    assert pins.matches(made, "2468")
    assert not pins.matches(made, "1357")


async def test_any_supervisors_pin_lifts_the_limits_for_the_minutes_the_owner_gave(
    storage: Storage, supervisors: Supervisors, hands: Any
) -> None:
    assert await left_ms(storage) == 0
    assert await supervisors.permit("2468") == 30
    hands.pass_ms(29 * MINUTE_MS)
    assert await left_ms(storage) == MINUTE_MS
    hands.wall_ms -= 24 * 3600 * 1000
    assert await left_ms(storage) == MINUTE_MS, "turning the clock back buys nothing"
    hands.pass_ms(MINUTE_MS)
    assert await left_ms(storage) == 0


async def test_a_permission_does_not_outlive_its_time_over_a_restart_either(
    storage: Storage, supervisors: Supervisors, hands: Any
) -> None:
    await supervisors.permit("1111")
    hands.reboot(off_ms=31 * MINUTE_MS)
    assert await left_ms(storage) == 0


async def test_a_permission_given_while_the_clock_was_far_ahead_ends_in_its_time(
    storage: Storage, supervisors: Supervisors, hands: Any
) -> None:
    true = hands.wall_ms
    hands.wall_ms += 300 * 24 * 3600 * 1000
    await supervisors.permit("2468")
    storage.clock.measured(hands.ticks_ms, true, true, hands.ticks_ms)
    await storage.store.write(storage.clock.save)
    hands.reboot()
    hands.wall_ms = true
    assert await left_ms(storage) > 0
    hands.pass_ms(30 * MINUTE_MS)
    assert await left_ms(storage) == 0


async def test_guessing_is_slowed_down_and_restarts_and_clocks_do_not_help(
    storage: Storage, supervisors: Supervisors, hands: Any
) -> None:
    for _ in range(5):
        with pytest.raises(PinWrong):
            await supervisors.permit("0000")
    with pytest.raises(PinLocked, match="5 menit"):
        await supervisors.permit("2468")
    hands.reboot()
    hands.wall_ms -= 3600 * 1000
    with pytest.raises(PinLocked):
        await Supervisors(storage).permit("2468")
    hands.wall_ms += 3600 * 1000
    hands.pass_ms(5 * MINUTE_MS)
    with pytest.raises(PinWrong):
        await supervisors.permit("0000")
    with pytest.raises(PinLocked, match="10 menit"):
        await supervisors.permit("2468")
    hands.pass_ms(10 * MINUTE_MS)
    assert await supervisors.permit("2468") == 30
    with pytest.raises(PinWrong):
        await supervisors.permit("0000")


def test_the_wait_doubles_up_to_an_hour() -> None:
    waits = [Attempts(wrong).wait_ms // MINUTE_MS for wrong in range(12)]
    assert waits == [0, 0, 0, 0, 0, 5, 10, 20, 40, 60, 60, 60]


@pytest.mark.parametrize("rules", [replace(RULES, override_minutes=0), replace(RULES, supervisor_pins=()), Rules()])
async def test_an_owner_who_gave_no_pin_gave_no_override(storage: Storage, rules: Rules) -> None:
    storage.rules = rules
    with pytest.raises(OverrideNotPossible):
        await Supervisors(storage).permit("2468")
