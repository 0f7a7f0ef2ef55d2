from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.storage import times
from edge.storage.times import ABSURD_MS, EARLIEST_MS, SLACK_MS, Anchor, Floor, Known, Now, Sample
from gipos.edge.v1.link_pb2 import ClockState

SYNCED, UNVERIFIED, WRONG = (
    ClockState.CLOCK_STATE_SYNCED,
    ClockState.CLOCK_STATE_UNVERIFIED,
    ClockState.CLOCK_STATE_WRONG,
)
TRUE = EARLIEST_MS + 200 * 24 * 3600 * 1000
DAY = 24 * 3600 * 1000
SEEN = Floor("boot", 1_000, TRUE)


@pytest.mark.parametrize(
    ("now", "known", "shown", "state"),
    [
        # A brand-new till: the wall clock, if it can be right at all.
        (Now(TRUE, 5, "boot"), Known(), TRUE, UNVERIFIED),
        (Now(0, 5, "boot"), Known(), EARLIEST_MS, WRONG),
        (Now(TRUE + 20 * ABSURD_MS, 5, "boot"), Known(), EARLIEST_MS, WRONG),
        # Asked in this boot: the cloud's time and the ticks, whatever the wall clock says.
        (Now(0, 9_000, "boot"), Known(Anchor("boot", 4_000, TRUE, 30), SEEN), TRUE + 5_000, SYNCED),
        (Now(TRUE + 5_000, 9_000, "boot"), Known(Anchor("boot", 4_000, TRUE, 30), SEEN), TRUE + 5_000, SYNCED),
        # Restarted since: the wall clock if it is not before what was seen (and the ticks since the start), else those.
        (Now(TRUE + DAY, 60_000, "next"), Known(Anchor("boot", 4_000, TRUE, 30), SEEN), TRUE + DAY, UNVERIFIED),
        (Now(TRUE - DAY, 60_000, "next"), Known(None, SEEN), TRUE + 60_000, WRONG),
        (Now(0, 60_000, "next"), Known(Anchor("boot", 4_000, TRUE, 30), SEEN), TRUE + 60_000, WRONG),
        (Now(TRUE + 2 * ABSURD_MS, 60_000, "next"), Known(None, SEEN), TRUE + 60_000, WRONG),
        # A clock that is a little behind is believed, but time does not go back.
        (Now(TRUE - SLACK_MS // 2, 10, "next"), Known(None, SEEN), TRUE + 10, UNVERIFIED),
        # Same boot, never asked: the ticks say how much time has passed at least.
        (Now(TRUE - DAY, 61_000, "boot"), Known(None, SEEN), TRUE + 60_000, WRONG),
    ],
)
def test_what_time_it_is(now: Now, known: Known, shown: int, state: int) -> None:
    reading = times.read(now, known)
    assert (reading.now_ms, reading.state) == (shown, state)
    assert reading.device_ms + reading.offset_ms == shown


def test_the_sample_with_the_smallest_round_trip_is_believed() -> None:
    slow = Sample(0, TRUE + 900, TRUE + 900, 1_000)
    quick = Sample(2_000, TRUE + 2_010, TRUE + 2_012, 2_022)
    anchor = times.best([slow, quick], "boot")
    assert anchor == Anchor("boot", 2_022, TRUE + 2_022, 11)
    later = Sample(DAY, TRUE + DAY + 5_030, TRUE + DAY + 5_030, DAY + 60)
    assert times.best([quick, later], "boot", DAY + 60) == Anchor("boot", DAY + 60, TRUE + DAY + 5_060, 31), "crystals run away"
    assert times.best([Sample(10, TRUE, TRUE, 5), Sample(0, 1, 1, 9), Sample(0, TRUE + 9, TRUE, 50)], "boot") is None


def test_uncertainty_grows_while_nobody_is_asked() -> None:
    known = Known(Anchor("boot", 0, TRUE, 20))
    assert times.read(Now(TRUE, 0, "boot"), known).uncertainty_ms == 20
    assert times.read(Now(TRUE, DAY, "boot"), known).uncertainty_ms == 20 + DAY // 10_000


@given(
    offset=st.integers(-(10**12), 10**12),
    there=st.integers(0, 5_000),
    thinking=st.integers(0, 5_000),
    back=st.integers(0, 5_000),
    sent=st.integers(0, 10**10),
)
def test_the_truth_is_always_within_the_uncertainty(offset: int, there: int, thinking: int, back: int, sent: int) -> None:
    base = TRUE + 10**12 + offset
    sample = Sample(sent, sent + base + there, sent + base + there + thinking, sent + there + thinking + back)
    anchor = times.best([sample], "boot")
    assert anchor is not None
    assert abs(anchor.true_ms - (anchor.ticks_ms + base)) <= anchor.uncertainty_ms


steps = st.lists(
    st.tuples(st.sampled_from(["pass", "set", "reboot", "sync"]), st.integers(0, 3 * DAY), st.integers(-400 * DAY, 400 * DAY)),
    max_size=30,
)


@given(steps=steps)
def test_without_a_cloud_time_never_goes_back_and_elapsed_time_is_never_given_back(
    steps: list[tuple[str, int, int]],
) -> None:
    now, known = Now(TRUE, 1_000, "boot"), Known()
    known = times.seen(now, known)
    stamp = known.floor
    assert stamp is not None
    last, awake = times.read(now, known).now_ms, 0
    for number, (what, duration, shift) in enumerate(steps):
        if what == "pass":
            now = replace(now, wall_ms=now.wall_ms + duration, ticks_ms=now.ticks_ms + duration)
            awake += duration
        elif what == "set":
            now = replace(now, wall_ms=max(0, now.wall_ms + shift))
        elif what == "reboot":
            now = Now(now.wall_ms + duration, 500, f"boot-{number}")
            awake += 500
        known = times.seen(now, known)
        shown = times.read(now, known).now_ms
        assert shown >= last
        last = shown
        assert times.since_ms(stamp, now, known) >= awake, "turning the clock back must not extend what was allowed"


@given(steps=steps)
def test_once_the_cloud_was_asked_the_wall_clock_can_say_what_it_likes(steps: list[tuple[str, int, int]]) -> None:
    now, known, true = Now(0, 1_000, "boot"), Known(), TRUE
    for what, duration, shift in steps:
        if what == "pass":
            now = replace(now, wall_ms=now.wall_ms + duration, ticks_ms=now.ticks_ms + duration)
            true += duration
        elif what == "set":
            now = replace(now, wall_ms=max(0, now.wall_ms + shift))
        elif what == "sync":
            anchor = times.best([Sample(now.ticks_ms, true, true, now.ticks_ms)], now.boot_id)
            known = times.seen(now, replace(known, anchor=anchor))
        if known.anchor is not None:
            reading = times.read(now, known)
            assert reading.state == SYNCED
            assert abs(reading.now_ms - true) <= reading.uncertainty_ms


@pytest.mark.parametrize("wall_ms", [-(10**15), 0, TRUE, 10**15])
def test_any_wall_clock_fits_an_operation(wall_ms: int) -> None:
    message = times.read(Now(wall_ms, 5, "boot"), Known()).to_message()
    message.device_time.ToJsonString()
    assert message.state in (UNVERIFIED, WRONG)


def test_a_moment_noted_by_a_clock_that_was_far_ahead_passes_by_the_ticks() -> None:
    ahead = Floor("boot", 50_000, TRUE + 300 * DAY)
    known = Known(Anchor("next", 20_000, TRUE, 30), Floor("next", 20_000, TRUE))
    assert times.since_ms(ahead, Now(TRUE, 20_000, "next"), known) == 20_000
    assert times.since_ms(ahead, Now(TRUE, 30 * DAY, "next"), known) == 30 * DAY
    later = replace(known, anchor=Anchor("next", 0, TRUE + DAY, 30))
    assert times.since_ms(SEEN, Now(TRUE, 30_000, "next"), later) == DAY + 30_000, "the time the tablet was off counts, too"


@pytest.mark.parametrize(
    ("now", "anchor", "told"),
    [
        (Now(TRUE, 5, "boot"), None, EARLIEST_MS),
        (Now(0, 9_000, "boot"), Anchor("boot", 4_000, TRUE, 30), TRUE + 5_000),
        (Now(TRUE + 300 * DAY, 9_000, "next"), Anchor("boot", 4_000, TRUE, 30), TRUE + 9_000),
    ],
)
def test_no_wall_clock_adds_to_what_the_cloud_has_said_of_the_time(now: Now, anchor: Anchor | None, told: int) -> None:
    assert times.surely_told(now, Known(anchor, Floor("boot", 1, TRUE + 200 * DAY))) == told
