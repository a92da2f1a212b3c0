"""Alerts told: to the log, and to every target that wants them, each once."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from messaging.alerts.notices import Notice, Weight, notice_of, weight_of
from messaging.errors import MessagingError
from messaging.storage import alerts
from messaging.storage.alerts import Alert
from messaging.storage.failing import database_errors
from schemas.states import AlertKind

_log = logging.getLogger(__name__)

DELIVERY_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where alerts of some kinds go."""

    name: str
    kinds: frozenset[AlertKind]
    deliver: Callable[[Notice], None]
    """Blocks until the notice is taken, and raises a MessagingError that says why it was not."""


def is_due(engine: Engine) -> bool:
    """Say whether there is something to tell now.

    Raises:
        DatabaseError: The ledger is away.
    """
    with database_errors(), engine.begin() as connection:
        return alerts.is_due(connection)


def tell(
    engine: Engine,
    targets: Sequence[Target],
    announce: Callable[[Alert], None],
    seconds: float = DELIVERY_SECONDS,
) -> int:
    """Tell what is to be told and return how many alerts that were.

    Each new alert is logged and announced. Each target gets one message with all it wants and does not have;
    what it does not take within `seconds` is told it again later, after growing waits, and told to no other.
    A process that dies in the middle may tell twice, never not at all.

    Raises:
        DatabaseError: The ledger is away; what was not noted is told again.
    """
    with database_errors(), engine.begin() as connection:
        found = alerts.untold(connection)
        for alert in found:
            if alert.tries == 0:
                grave = weight_of(alert) in {Weight.WARNING, Weight.FAILURE}
                _log.log(logging.WARNING if grave else logging.INFO, "%s", alert.said)
                announce(alert)
        wanted = {target.name: [each for each in found if _wants(target, each)] for target in targets}
        due = [target for target in targets if wanted[target.name]]
        failed = deliver_all(((target, notice_of(wanted[target.name])) for target in due), seconds)
        for alert in found:
            wanting = {target.name for target in due if alert in wanted[target.name]}
            missing = wanting & failed.keys()
            alerts.told(connection, alert.id, alert.told | (wanting - missing), everyone=not missing)
    for name, reason in sorted(failed.items()):
        _log.warning("alert target %s was told nothing: %s; it is tried again later", name, reason)
    return len(found)


def _wants(target: Target, alert: Alert) -> bool:
    return alert.kind in target.kinds and target.name not in alert.told


def deliver_all(
    notices: Iterable[tuple[Target, Notice]], seconds: float = DELIVERY_SECONDS
) -> Mapping[str, str]:
    """Deliver each target its notice, all at the same time, and return why which of them failed.

    One that takes longer than `seconds` has failed, whatever it does later.
    """
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    silent = {}
    for target, notice in notices:
        silent[target.name] = f"it did not answer within {seconds:g} seconds"
        # A thread that nobody waits for: a service that never answers holds up neither us nor our end.
        threading.Thread(target=_deliver, args=(target, notice, answers), daemon=True).start()
    failed = {}
    until = time.monotonic() + seconds
    while silent:
        try:
            name, reason = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        del silent[name]
        if reason:
            failed[name] = reason
    return failed | silent


def _deliver(target: Target, notice: Notice, answers: "queue.SimpleQueue[tuple[str, str]]") -> None:
    try:
        target.deliver(notice)
    except MessagingError as error:
        answers.put((target.name, str(error)))
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may name people
        answers.put((target.name, f"unexpected {type(error).__name__}"))
    else:
        answers.put((target.name, ""))
