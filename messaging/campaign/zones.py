"""Time zones of recipients, and when a local time comes in each of them.

The zone of a phone number is that of its area, by the prefixes that phonenumbers has of libphonenumber's
data. Where several zones share a prefix, as those of Australia share that of its mobile numbers, the one
counts that has most of the numbers with area codes: it is right for most people there. Where they lie further
apart than a quarter of a day, as for the freephone numbers of North America, the number says nothing.
"""

from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

from messaging.campaign.local_time import moment_of
from messaging.storage.plans import Zones
from schemas.campaign import CampaignSpec
from schemas.times import local_time

_FURTHEST_APART: Final = timedelta(hours=6)
_NO_PLACES: Final = {"Factory", "localtime"}  # the second is that of this machine


def zones_for(spec: CampaignSpec) -> Zones | None:
    """Return when a campaign's time comes in each zone, the first first; None: it comes for all at once."""
    if not spec.recipient_local:
        return None
    moments = _moments(local_time(spec.send_at), spec.time_zone)
    places = {name: place for place, name in enumerate(moments, 1)}
    starts, numbers = [0], [0]
    for start, name, names in _areas():
        known = [moments[one] for one in names if one in moments]
        is_one_place = name in moments and max(known) - min(known) <= _FURTHEST_APART
        place = places[name] if is_one_place else 0
        if place != numbers[-1]:
            starts.append(start)
            numbers.append(place)
    return Zones(
        names=list(moments),
        moments=list(moments.values()),
        own=places[spec.time_zone],
        digits=TIMEZONE_LONGEST_PREFIX,
        starts=starts,
        places=numbers,
    )


def _moments(local: datetime, own: str) -> dict[str, datetime]:
    names = (available_timezones() - _NO_PLACES) | {own}
    moments = {name: moment_of(local, ZoneInfo(name)) for name in names}
    return dict(sorted(moments.items(), key=lambda item: (item[1], item[0])))


@cache
def _areas() -> list[tuple[int, str, tuple[str, ...]]]:
    """Return where in the order of numbers, cut to so many digits, an area begins; its zone, and all of them.

    Longer prefixes lie within shorter ones, so that an area may begin again behind another.
    """
    edges = set[int]()
    for prefix in TIMEZONE_DATA:
        step = 10 ** (TIMEZONE_LONGEST_PREFIX - len(prefix))
        edges |= {int(prefix) * step, (int(prefix) + 1) * step}
    current = _current_names()
    likeliest = {prefix: _likeliest(prefix, names) for prefix, names in TIMEZONE_DATA.items()}
    zones = {prefix: current.get(name, name) for prefix, name in likeliest.items()}
    areas = []
    for edge in sorted(edges):
        digits = str(edge)
        cuts = (digits[:length] for length in range(len(digits), 0, -1))
        prefix = next((cut for cut in cuts if cut in TIMEZONE_DATA), "")
        areas.append((edge, zones.get(prefix, ""), TIMEZONE_DATA.get(prefix, ())))
    return areas


def _current_names() -> dict[str, str]:
    """Return old names of zones, such as Asia/Calcutta, and what IANA calls them now, as imports do."""
    folder = resources.files("tzdata").joinpath("zoneinfo")
    lines = [line.split() for line in folder.joinpath("zone.tab").read_text("utf-8").splitlines()]
    # IANA links Europe/Stockholm to Europe/Berlin too: whoever lives there would wonder.
    used = {words[2] for words in lines if words and not words[0].startswith("#")}
    rules = [line.split() for line in folder.joinpath("tzdata.zi").read_text("utf-8").splitlines()]
    return {words[2]: words[1] for words in rules if words[0] == "L" and words[2] not in used}


def _likeliest(prefix: str, names: tuple[str, ...]) -> str:
    """Return that of several zones which most numbers have, of those in areas of one zone nearby."""
    if len(names) == 1:
        return names[0]
    numbers = Counter[str]()
    while prefix and not numbers:
        for area, zones in TIMEZONE_DATA.items():
            if len(zones) == 1 and zones[0] in names and area.startswith(prefix):
                numbers[zones[0]] += 10 ** (TIMEZONE_LONGEST_PREFIX - len(area))
        prefix = prefix[:-1]
    return max(sorted(names), key=lambda name: numbers[name])
