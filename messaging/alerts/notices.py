"""What a message about alerts says: one alert in full, many folded into one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from messaging.storage.alerts import Alert
from schemas.states import AlertKind

MOST_LISTED: Final = 20
_LONGEST: Final = 500  # characters of one alert, where several are listed


class Weight(StrEnum):
    """How grave a notice is, lightest first; the words are Apprise's."""

    SUCCESS = "success"
    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about one or several alerts."""

    title: str
    body: str
    weight: Weight = Weight.INFO


_WEIGHTS: Final = {
    AlertKind.FINISHED: Weight.SUCCESS,
    AlertKind.PAUSED: Weight.WARNING,
    AlertKind.LATE: Weight.WARNING,
    AlertKind.SKIPPED: Weight.WARNING,
    AlertKind.APPROVAL: Weight.INFO,
    AlertKind.CRASHED: Weight.WARNING,
    AlertKind.ACCOUNT_PAUSED: Weight.FAILURE,
}
_TITLES: Final = {
    AlertKind.FINISHED: "finished",
    AlertKind.PAUSED: "paused",
    AlertKind.LATE: "late",
    AlertKind.SKIPPED: "skipped",
    AlertKind.APPROVAL: "waits for approval",
    AlertKind.CRASHED: "crashed",
    AlertKind.ACCOUNT_PAUSED: "cannot go on",
}


def weight_of(alert: Alert) -> Weight:
    """Return how grave an alert is."""
    return _WEIGHTS[alert.kind]


def notice_of(alerts: Sequence[Alert]) -> Notice:
    """Return the one message that tells all of these alerts, of which there is at least one."""
    if len(alerts) == 1:
        [alert] = alerts
        about = alert.account or alert.campaign
        title = " ".join(filter(None, ("Outflow:", about, _TITLES[alert.kind])))
        return Notice(title, _in_full(alert), weight_of(alert))
    counts = Counter(_TITLES[alert.kind] for alert in alerts)
    counted = ", ".join(f"{n} {title}" for title, n in counts.most_common())
    by_weight = sorted(alerts, key=_lightness)
    lines = [f"- {_cut(_in_full(alert))}" for alert in by_weight[:MOST_LISTED]]
    if len(alerts) > MOST_LISTED:
        lines.append(f"… and {len(alerts) - MOST_LISTED} more: see outflow status")
    return Notice(f"Outflow: {len(alerts)} alerts: {counted}", "\n".join(lines), weight_of(by_weight[0]))


def _lightness(alert: Alert) -> int:
    return -list(Weight).index(weight_of(alert))


def _in_full(alert: Alert) -> str:
    return " ".join(filter(None, (alert.said, alert.link)))


def _cut(said: str) -> str:
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"
