"""Dealing permits: even, fair, within every limit at once."""

import bisect
import math
from itertools import pairwise

import pytest

from messaging.campaign.permits import FRAME_SECONDS, TICKS, Pace, Wish, deal

FRAMES = 20


def dealt(paces: dict[str, Pace], wishes: list[Wish], frames: int = FRAMES) -> list[tuple[str, str, float]]:
    """Deal some frames; return owner, group and time of each permit."""
    due: dict[str, float] = {}
    found = []
    for frame in range(frames):
        start = frame * FRAME_SECONDS
        granted, due = deal((start, start + FRAME_SECONDS), paces, due, wishes)
        found += [
            (owner, group, start + at / TICKS)
            for owner, groups in granted.items()
            for group, grant in groups.items()
            for at in grant.times
        ]
    return sorted(found, key=lambda permit: permit[2])


def most_in_a_second(times: list[float]) -> int:
    return max(bisect.bisect_left(times, at + 1.0) - index for index, at in enumerate(times))


@pytest.mark.parametrize("processes", [1, 4, 16])
@pytest.mark.parametrize("campaign_rate", [None, 150.0, 200.0])
def test_no_limit_is_exceeded_and_every_binding_one_is_used(processes: int, campaign_rate: float | None):
    paces = {"account": Pace.of_rate(200.0), "gmail": Pace.of_rate(20.0)}
    everywhere = ("account",)
    if campaign_rate:
        paces["campaign"] = Pace.of_rate(campaign_rate)
        everywhere = ("account", "campaign")
    wishes = [Wish(str(n), "", everywhere, None) for n in range(processes)]
    wishes += [Wish(str(n), "gmail.com", (*everywhere, "gmail"), None) for n in range(processes)]

    permits = dealt(paces, wishes)

    for rate, times in [
        (campaign_rate or 200.0, [at for _, _, at in permits]),
        (20.0, [at for _, group, at in permits if group]),
    ]:
        seconds = FRAMES * FRAME_SECONDS
        assert most_in_a_second(times) <= rate + 1
        assert len(times) >= 0.98 * rate * seconds - 1


def test_processes_share_alike_and_their_permits_lie_between_each_other():
    paces = {"account": Pace.of_rate(200.0)}
    permits = dealt(paces, [Wish(str(n), "", ("account",), None) for n in range(4)])

    counts = [sum(owner == str(n) for owner, _, _ in permits) for n in range(4)]
    assert max(counts) - min(counts) <= FRAMES
    one = [at for owner, _, at in permits if owner == "0"]
    assert max(later - at for at, later in pairwise(one)) < 0.06


def test_what_one_does_not_wish_for_goes_to_the_others():
    paces = {"account": Pace.of_rate(200.0)}
    permits = dealt(paces, [Wish("idle", "", ("account",), 5), Wish("busy", "", ("account",), None)])

    assert sum(owner == "idle" for owner, _, _ in permits) == 5 * FRAMES
    assert len(permits) >= 0.98 * 200 * FRAMES * FRAME_SECONDS


def test_the_general_kind_does_not_starve_beside_limited_groups():
    paces = {"account": Pace.of_rate(20.0), "gmail": Pace.of_rate(20.0)}
    wishes = [Wish("a", "", ("account",), None), Wish("a", "gmail.com", ("account", "gmail"), None)]

    permits = dealt(paces, wishes)

    groups = [group for _, group, _ in permits]
    assert min(groups.count(""), groups.count("gmail.com")) >= 0.4 * len(groups)


def test_slow_limits_deal_one_permit_when_it_is_due():
    paces = {"campaign": Pace.of_rate(1 / 3)}
    permits = dealt(paces, [Wish("a", "", ("campaign",), None)])

    gaps = [later[2] - at[2] for at, later in pairwise(permits)]
    assert permits[0][2] == 0.0
    assert all(3.0 <= gap < 3.2 for gap in gaps)


def test_fast_limits_deal_several_at_once_and_still_hold():
    paces = {"account": Pace.of_rate(5000.0)}
    times = [at for _, _, at in dealt(paces, [Wish("a", "", ("account",), None)], frames=6)]

    assert most_in_a_second(times) <= 5001
    assert len(times) >= 0.98 * 5000 * 3


def test_a_pause_is_never_shorter_than_asked_even_when_one_permit_is_used_late():
    pace = Pace.of_interval(2.0, 2.0)
    times = [at for _, _, at in dealt({"campaign": pace}, [Wish("a", "", ("campaign",), None)])]

    assert min(later - (at + pace.late) for at, later in pairwise(times)) >= 2.0 - 1e-4


def test_a_person_is_imitated_by_pauses_of_random_length():
    pace = Pace.of_interval(1.0, 2.5)
    times = [at for _, _, at in dealt({"campaign": pace}, [Wish("a", "", ("campaign",), None)], frames=200)]

    gaps = [later - at for at, later in pairwise(times)]
    assert 1.0 <= min(gaps) < 1.3
    assert 2.2 < max(gaps) <= 2.5 + 1e-4


def test_lateness_leaves_room_for_the_way_to_the_server():
    for rate in (0.5, 1.0, 7.0, 20.0, 200.0, 500.0, 1000.0, 5000.0):
        pace = Pace.of_rate(rate)
        # Permits of one second and of what may be late: in no window more than the limit and one.
        most = math.floor((1.0 + pace.moved + pace.late + 0.004) / pace.shortest) + pace.at_once
        assert most <= math.ceil(rate) + 1, rate
