"""Dealing an account's permits: the first process that needs a frame deals it for all."""

from typing import Any

from sqlalchemy import Connection

from messaging.campaign.permits import FRAME_SECONDS, TICKS, Granted, Pace, Wish, deal
from messaging.storage import limits, permits, throttles
from messaging.storage.limits import account_key, campaign_key, domain_key
from messaging.storage.permits import Holder
from messaging.storage.throttles import rate_now
from schemas.pacing import Pacing

_SOON = 0.01  # permits that are due earlier would not reach their owners in time


def pace_of(pacing: Pacing) -> Pace | None:
    """Return the pace that a campaign asks for, or None when it asks for none."""
    if pacing.interval is not None:
        return Pace.of_interval(*pacing.interval)
    return None if pacing.per_second is None else Pace.of_rate(pacing.per_second)


def deal_frames(connection: Connection, account: str, frames: list[int]) -> dict[int, dict[str, Any]]:
    """Return the permits of consecutive frames by owner and group, dealing those that nobody dealt before."""
    throttles.lock(connection, [account_key(account)])  # one at a time
    done = permits.dealt(connection, account, frames[0])
    missing = [frame for frame in frames if frame not in done]
    if not missing:
        return done
    now = throttles.now_of(connection)
    holders = permits.holders(connection, account)
    paces = _paces(connection, account, holders, now)
    due = _due(connection, paces, max(now + _SOON, missing[0] * FRAME_SECONDS))
    wishes = [wish for holder in holders for wish in _wishes(holder, account, paces)]
    made = {}
    for frame in missing:
        begin = frame * FRAME_SECONDS
        start = max(begin, now + _SOON)
        if start < begin + FRAME_SECONDS:
            granted, due = deal((start, begin + FRAME_SECONDS), paces, due, wishes)
            made[frame] = _told(granted, start - begin)
    if made:
        permits.save(connection, account, made, due)
    return done | made


def _paces(connection: Connection, account: str, holders: list[Holder], now: float) -> dict[str, Pace]:
    limited = limits.limits_of(connection, account)
    throttled = throttles.of_all(connection, account)
    rates = {key: rate_now(limited.get(key), throttled.get(key), now) for key in limited | throttled}
    paces = {key: Pace.of_rate(rate) for key, rate in rates.items() if rate is not None}
    for holder in holders:
        if (pace := pace_of(holder.pacing)) is not None:
            paces[campaign_key(holder.campaign_id)] = pace
    return paces


def _due(connection: Connection, paces: dict[str, Pace], start: float) -> dict[str, float]:
    due = {}
    for key, throttled in throttles.lock(connection, sorted(paces)).items():
        # A limit may have been slower before: its long interval is not owed any more.
        at = min(throttled.next_at, start + paces[key].longest)
        due[key] = max(at, throttled.pause_until or 0.0)
    return due


def _wishes(holder: Holder, account: str, paces: dict[str, Pace]) -> list[Wish]:
    everywhere = [key for key in (account_key(account), campaign_key(holder.campaign_id)) if key in paces]
    found = []
    for group, most in holder.wishes.items():
        own = domain_key(account, group)
        keys = (*everywhere, own) if group and own in paces else tuple(everywhere)
        if keys and (not group or own in paces):
            found.append(Wish(holder.owner, group, keys, most))
    return found


def _told(granted: Granted, offset: float) -> dict[str, Any]:
    ticks = int(offset * TICKS)
    return {
        owner: {
            group: {"late": grant.late, "own_late": grant.own_late, "at": [ticks + at for at in grant.times]}
            for group, grant in groups.items()
            if grant.times
        }
        for owner, groups in granted.items()
    }
