"""How long a campaign will take under its limits, and whether it ends in time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from messaging.campaign.forecasting import Arrival, Cap, Forecast, Load, QuietUntil, forecast
from messaging.campaign.local_time import moment_of
from messaging.campaign.provider_groups import provider_group
from messaging.campaign.windows import quiet_until
from messaging.campaign.zones import zones_for
from messaging.storage import audiences, limits, plans, preflight_figures, throttles
from messaging.storage.campaigns import Campaign
from messaging.storage.limits import Limit, account_key, counts_people
from messaging.storage.plans import Legs
from schemas.campaign import CampaignSpec
from schemas.durations import seconds_of
from schemas.limits import rate_text
from schemas.pacing import WarmUp
from schemas.preflight import Line, Verdict
from schemas.times import hours_of, local_time, moments_on_earth, zone_named

_WHAT: Final = "finish"
_MOST_GROUPS: Final = 3  # limits of provider groups that are named


@dataclass(frozen=True, slots=True)
class _Part:
    """What one account is to send, and what it is told."""

    account: str
    arrivals: list[Arrival]
    rate: float | None
    said: str
    """Its limits in words; empty: none."""

    @property
    def total(self) -> int:
        """How many recipients it has."""
        return sum(arrival.recipients for arrival in self.arrivals)


def judge_time(connection: Connection, spec: CampaignSpec, planned: Campaign | None) -> list[Line]:
    """Return a line on the expected end, and one for each account that stands still now.

    Raises:
        InputError: The audience, or its filter, cannot be used.
    """
    begin = _begin(spec, planned)
    parts = _parts(connection, spec, planned, begin)
    total = sum(part.total for part in parts)
    if not total:
        return [Line(what=_WHAT, verdict=Verdict.OK, said="there is nobody to send to")]
    deadline = _deadline(spec, planned, begin)
    quiet = _quiet(spec)
    ends = [forecast(_load(connection, spec, planned, part, total), quiet, deadline) for part in parts]
    line = _line(spec, parts, ends, begin, deadline)
    if line.verdict is Verdict.REFUSE and planned is not None and planned.planned_at is not None:
        line = line.model_copy(update={"verdict": Verdict.WARN})  # whoever is left is told of when it goes on
    return [line, *_standing_still(connection, parts)]


def _begin(spec: CampaignSpec, planned: Campaign | None) -> datetime:
    now = datetime.now(UTC)
    if planned is not None and planned.due_at is not None:
        return max(now, planned.due_at)
    due = moment_of(local_time(spec.send_at), zone_named(spec.time_zone)) if spec.send_at else now
    if spec.recipient_local:
        due, _ = moments_on_earth(local_time(spec.send_at))
    return max(now, due)


def _deadline(spec: CampaignSpec, planned: Campaign | None, begin: datetime) -> datetime | None:
    if not spec.not_after:
        return None
    since = (planned.due_at or planned.planned_at) if planned is not None else None
    if spec.recipient_local:
        _, since = moments_on_earth(local_time(spec.send_at))
    return (since or begin) + timedelta(seconds=seconds_of(spec.not_after))


def _quiet(spec: CampaignSpec) -> QuietUntil:
    if not spec.quiet_hours:
        return lambda _now, _zone: None
    hours = hours_of(spec.quiet_hours)
    return lambda now, zone: quiet_until(now, hours, zone_named(zone or spec.time_zone))


def _parts(
    connection: Connection, spec: CampaignSpec, planned: Campaign | None, begin: datetime
) -> list[_Part]:
    holding = [limits.limits_of(connection, account) for account in spec.accounts]
    arrivals: dict[int, list[Arrival]] = {}
    groups: dict[int, Counter[str]] = {}
    if planned is not None and planned.planned_at is not None:
        for share in preflight_figures.left(connection, planned.id):
            at = max(begin, share.not_before or begin)
            arrivals.setdefault(share.leg, []).append(Arrival(at, share.recipients, share.zone))
    else:
        audience_id = audiences.named(connection, spec.audience) if spec.audience else None
        by_domain = any(key.startswith("domain:") for each in holding for key in each)
        found = plans.by_account(connection, audience_id, Legs.of(spec), spec.where, by_domain=by_domain)
        for (leg, domain), n in found.items():
            groups.setdefault(leg, Counter())[provider_group(domain) if domain else ""] += n
        over_time = _over_time(connection, spec, audience_id, begin)
        arrivals = {leg: _shared(sum(each.values()), over_time) for leg, each in groups.items()}
    return [
        _part(spec.accounts[leg], arrivals[leg], holding[leg], groups.get(leg, Counter()))
        for leg in sorted(arrivals)
    ]


def _over_time(
    connection: Connection, spec: CampaignSpec, audience_id: int | None, begin: datetime
) -> list[Arrival]:
    """Return how many may be sent to from when on; all of them at the beginning unless at their own time."""
    zones = zones_for(spec)
    if zones is None:
        return [Arrival(begin, 1)]
    found = plans.zones_of(connection, audience_id, Legs.of(spec), zones, spec.where)
    return [Arrival(max(begin, zone.at), zone.recipients, zone.zone) for zone in found] or [Arrival(begin, 1)]


def _shared(n: int, over_time: Sequence[Arrival]) -> list[Arrival]:
    """Spread an account's recipients over moments as those of the whole campaign are."""
    whole = sum(part.recipients for part in over_time)
    ends = [0]
    for part in over_time:
        ends.append(ends[-1] + part.recipients)
    return [
        part._replace(recipients=share)
        for part, start, end in zip(over_time, ends, ends[1:], strict=False)
        if (share := n * end // whole - n * start // whole)
    ]


def _part(account: str, arrivals: list[Arrival], holding: dict[str, Limit], groups: Counter[str]) -> _Part:
    own = holding.get(account_key(account), Limit())
    begins = limits.domains(account)
    of_groups = {
        key.removeprefix(begins): limit.rate
        for key, limit in holding.items()
        if key.startswith(begins) and limit.rate and groups[key.removeprefix(begins)]
    }
    # The slowest group is done last, as the others go on meanwhile.
    slowest = max((groups[group] / rate for group, rate in of_groups.items()), default=0.0)
    total = sum(arrival.recipients for arrival in arrivals)
    rates = [own.rate, total / slowest if slowest else None]
    said = [rate_text(own.rate)] if own.rate else []
    said += [
        f"{cap:,} {'people' if counts_people(key) else 'a day'}" + (" a day" if counts_people(key) else "")
        for key, cap in limits.daily_caps(holding, account).items()
    ]
    said += [f"{rate_text(rate)} to {group}" for group, rate in list(of_groups.items())[:_MOST_GROUPS]]
    return _Part(
        account,
        arrivals,
        min((rate for rate in rates if rate is not None), default=None),
        f"account {account} allows {' and '.join(said)}" if said else "",
    )


def _load(
    connection: Connection, spec: CampaignSpec, planned: Campaign | None, part: _Part, total: int
) -> Load:
    """Return what one account sends; the campaign's own pace and warm-up are shared by all of them."""
    share = part.total / total
    pace = spec.pacing.per_second
    rates = [part.rate, pace * share if pace else None]
    holding = limits.limits_of(connection, part.account)
    caps = [
        Cap(most, [(c.until, c.messages) for c in preflight_figures.counted(connection, key)])
        for key, most in limits.daily_caps(holding, part.account).items()
    ]
    began = preflight_figures.warm_up_began(connection, planned.id) if planned is not None else None
    return Load(
        part.arrivals,
        min((rate for rate in rates if rate is not None), default=None),
        caps,
        partial(_warm_up, spec.pacing.warm_up, share),
        began,
    )


def _warm_up(warm_up: WarmUp, share: float, day: int) -> int | None:
    cap = warm_up.cap(day)
    return None if cap is None else max(1, int(cap * share))


def _line(
    spec: CampaignSpec,
    parts: Sequence[_Part],
    ends: Sequence[Forecast],
    begin: datetime,
    deadline: datetime | None,
) -> Line:
    why = [part.said for part in parts if part.said]
    if spec.pacing.per_second:
        why.append(f"the campaign's pace is {spec.pacing.rate or rate_text(spec.pacing.per_second)}")
    if spec.pacing.warm_up.start:
        why.append(
            f"its warm-up begins with {spec.pacing.warm_up.start:,} a day and grows by "
            f"{spec.pacing.warm_up.growth:g} times"
        )
    if spec.quiet_hours:
        whose = " by each recipient's clock" if spec.recipient_local else ""
        why.append(f"nothing is sent at {spec.quiet_hours}{whose}")
    finishes = [end.finish for end in ends if end.finish is not None]
    if len(finishes) < len(ends):
        said = f"it would take years: {'; '.join(why)}"
        return Line(what=_WHAT, verdict=Verdict.WARN, said=said, do="raise the limits, or write to fewer")
    finish = max(finishes)
    zone = zone_named(spec.time_zone)
    if not why and not spec.recipient_local:
        accounts = " and ".join(part.account for part in parts)
        said = f"no limit is set: as fast as {accounts} takes them"
    else:
        own_time = ["each recipient's own time counts"] if spec.recipient_local else []
        said = f"about {span(finish - begin)}, until {finish.astimezone(zone):%a %F %H:%M %Z}"
        said += f": {'; '.join([*why, *own_time])}"
    if begin > datetime.now(UTC) + timedelta(minutes=1):
        said = f"from {begin.astimezone(zone):%a %F %H:%M %Z} on {said}"
    if deadline is None or finish <= deadline:
        return Line(what=_WHAT, verdict=Verdict.OK, said=said)
    return _too_late(
        sum(end.in_time for end in ends), parts, said, f"{deadline.astimezone(zone):%F %H:%M %Z}"
    )


def _too_late(in_time: int, parts: Sequence[_Part], said: str, deadline: str) -> Line:
    total = sum(part.total for part in parts)
    do = "raise the limits, begin earlier, or give it a later not_after"
    if not in_time:
        said = f"nobody could be sent to by {deadline}, when not_after ends it: {said}"
        return Line(what=_WHAT, verdict=Verdict.REFUSE, said=said, do=do)
    said = f"{in_time:,} of {total:,} would be sent to by {deadline}, when not_after ends it: {said}"
    return Line(what=_WHAT, verdict=Verdict.WARN, said=said, do=do)


def _standing_still(connection: Connection, parts: Sequence[_Part]) -> list[Line]:
    still = [(part.account, throttles.standstill(connection, part.account)) for part in parts]
    return [
        Line(
            what="account now",
            verdict=Verdict.WARN,
            said=f"{account} stands still until {until.until:%F %H:%M %Z}: {until.reason}",
            do="wait until then, or send over another account",
        )
        for account, until in still
        if until is not None and until.until is not None
    ]


def span(length: timedelta) -> str:
    """Return a length of time as a person would say it."""
    minutes = round(length.total_seconds() / 60)
    if minutes < 1:
        return "a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    words = [f"{days} day{'s' * (days != 1)}"] if days else []
    words += [f"{hours} h"] if hours else []
    words += [f"{minutes} min"] if minutes and not days else []
    return " ".join(words)
