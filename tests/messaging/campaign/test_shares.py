"""What a process holds: permits that run out in time, shares of a day that are given back."""

import math

from messaging.campaign.clock import LedgerClock
from messaging.campaign.shares import LEAST_RESERVED, People, Permits, Share
from messaging.storage.caps import Reserved
from messaging.storage.reached import Answer, Reach


def with_permits(*times: float, late: float = 0.01, own_late: float = 0.01) -> Permits:
    permits = Permits(asked_at=0.0)
    permits.add(list(times), late, own_late)
    return permits


def test_a_permit_is_good_from_its_time_until_it_is_late():
    permits = with_permits(1.0, 1.1, 1.2)

    assert not permits.take(0.99)
    assert permits.take(1.0)
    assert not permits.take(1.05)
    assert permits.take(1.205)  # that of 1.1 was forfeited
    assert permits.due_at() == math.inf


def test_late_permits_are_not_used_together():
    permits = with_permits(*(1.0 + n / 100 for n in range(20)))

    assert sum(permits.take(1.15) for _ in range(20)) <= 2


def test_a_permit_that_was_not_needed_is_put_back_while_it_is_good():
    permits = with_permits(1.0)
    assert permits.take(1.0)
    permits.put_back(1.005)
    assert permits.take(1.006)
    permits.put_back(1.5)

    assert not permits.take(1.5)


def test_a_permit_of_a_group_serves_anybody_before_it_is_lost_and_the_group_keeps_its_turn():
    permits = with_permits(1.0, late=0.01, own_late=0.05)

    assert not permits.take_spare(1.004)
    assert permits.take_spare(1.006)
    assert permits.has_turn(1.04)
    permits.take_turn()
    assert not permits.has_turn(1.04)


def test_a_pause_drops_what_is_due_before_its_end():
    permits = with_permits(1.0, 2.0, 3.0)
    permits.hold(2.5)

    assert permits.due_at() == 3.0


def test_who_waits_wishes_for_all_who_is_busy_for_what_it_can_use_and_who_is_idle_for_none():
    waiting, busy, idle = (Permits(asked_at=0.0) for _ in range(3))
    for permits in (waiting, busy, idle):
        assert permits.wish(0.0, 0.5) is None
        permits.add([n / 100 for n in range(50)], 0.005, 0.005)
    for tick in range(500):
        waiting.take(tick / 1000)
        if tick % 50 == 0:
            busy.take(tick / 1000)

    assert waiting.wish(0.5, 0.5) is None
    assert 10 <= busy.wish(0.5, 0.5) <= 13
    assert idle.wish(6.0, 0.5) == 0
    assert not idle.is_wished_for


def test_nothing_is_wished_for_a_group_that_nobody_writes_to():
    permits = Permits()
    assert permits.wish(100.0, 0.5) == 0
    permits.take(100.1)
    assert permits.wish(100.2, 0.5) is None


def test_a_share_is_used_oldest_first_and_the_rest_comes_back_in_time():
    share = Share()
    share.add(Reserved(2, minute=0.0, until=60.0))
    share.add(Reserved(3, minute=60.0, until=120.0))
    share.use()
    share.use()
    share.use()
    share.put_back()

    assert share.left == 3
    assert share.expired(100.0) == []
    assert sum(part.n for part in share.expired(120.0)) == 3
    assert share.left == 0


def test_as_much_is_reserved_as_will_soon_be_used():
    share = Share()
    assert share.wanted == LEAST_RESERVED
    share.add(Reserved(100, 0.0, 60.0))
    for _ in range(60):
        share.use()

    assert share.wanted == 120 + LEAST_RESERVED - 40


def test_the_ledgers_clock_is_known_within_the_quickest_answer():
    clock = LedgerClock()
    clock.observe(10.0, 1000.3, 11.0)
    clock.observe(20.0, 1010.001, 20.002)
    clock.observe(30.0, 1020.3, 31.0)

    assert abs(clock.local(1020.0) - 30.0) < 0.005


def test_a_ledger_whose_clock_was_set_is_followed():
    clock = LedgerClock()
    clock.observe(10.0, 1000.0, 10.001)
    clock.observe(11.0, 2001.0, 11.001)

    assert abs(clock.local(2001.0) - 11.0) < 0.002


def people(*allowed: str, until: float = 100.0) -> People:
    """Return people of whom these were asked for and allowed."""
    found = People("portfolio:shop")
    found.first(allowed)
    found.asked()
    found.hear(Answer({address: Reach(0.0, None, until) for address in allowed}), 0.0)
    return found


def test_whoever_is_allowed_goes_past_others_and_those_are_asked_for():
    shop = people("bo")

    assert "ada" not in shop
    assert shop.first(["ada", "bo"]) == 1
    assert not shop.asks  # one is as many as there were
    shop.use("bo")
    assert shop.first(["ada", "cy"]) is None
    assert shop.asked() == ["ada", "cy"]
    assert not shop.asks


def test_whoever_was_written_to_is_not_asked_for_by_an_old_list():
    shop = people("ada", "bo")
    shop.use("ada")
    assert shop.first(["bo", "ada", "cy"]) == 0  # half of them are left
    shop.use("bo")

    assert shop.asked() == ["ada", "cy"]  # who is named again has another turn


def test_whoever_is_put_back_is_still_allowed_unless_it_is_too_late():
    shop = people("ada", "bo", until=60.0)
    shop.use("ada")
    shop.use("bo")
    shop.put_back("ada")
    assert "ada" in shop

    assert shop.expired(60.0).keys() == {"ada"}
    shop.put_back("bo")
    assert "bo" not in shop


def test_whom_the_day_has_no_room_for_is_told_once_and_not_for_long():
    shop = people()
    shop.hear(Answer(refused={"ada", "bo"}), 10.0)
    assert shop.refuses
    assert shop.refused("ada")
    assert not shop.refused("ada")
    shop.hear(Answer(), 20.0)

    assert not shop.refuses


def test_the_more_were_written_to_the_more_are_wanted():
    shop = people(*map(str, range(LEAST_RESERVED)))
    assert 0 < shop.wanted < LEAST_RESERVED  # some of those may be nobody's turn any more
    for number in range(LEAST_RESERVED):
        shop.use(str(number))

    assert shop.wanted == 3 * LEAST_RESERVED
