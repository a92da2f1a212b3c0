"""People told what happened: in the run's log, as Prefect's events, and wherever alert targets lead."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from prefect.blocks.core import Block
from prefect.events import emit_event
from pydantic import ValidationError

from blocks.alert_target import AlertTarget
from messaging.alerts import mailing, services, telling
from messaging.alerts.mailing import Desk
from messaging.alerts.notices import Notice
from messaging.alerts.telling import Target
from messaging.errors import InputError, NotSent
from messaging.storage.alerts import Alert
from messaging.storage.engine import engine
from schemas.alerts import AlertTargetShown
from schemas.problems import first_problem
from schemas.states import AlertKind
from tasks.accounts import load_account, names_of, refuse_bad_name, save
from tasks.guarding import guarded, in_thread

_log = logging.getLogger("messaging.alerts")  # the tree that Prefect forwards to the run's page

_SLUG: Final = AlertTarget.get_block_type_slug()
_TEST: Final = Notice("Outflow: a test", "This is how Outflow tells you what happens. Nothing has happened.")


async def tell_alerts() -> None:
    """Tell people what there is to be told; whatever goes wrong with it is logged, and tried again later."""
    try:
        if await in_thread(lambda: telling.is_due(engine())):
            with guarded():
                targets = [await _target(name) for name in await names_of(_SLUG)]
            await in_thread(lambda: telling.tell(engine(), targets, _announce))
    except Exception as error:  # noqa: BLE001 - no alert may fail what it is about; ours name nobody
        _log.warning("alerts could not be told for now: %s", error)


@asynccontextmanager
async def telling_alerts() -> AsyncIterator[None]:
    """Tell what there is to be told when the block ends; cancelled, there is no time for it."""
    try:
        yield
    except Exception:
        await tell_alerts()
        raise
    await tell_alerts()


def _announce(alert: Alert) -> None:
    """Emit Prefect's event of an alert, which people can hang automations on."""
    about, named = (
        (f"outflow.campaign.{alert.campaign_id}", alert.campaign)
        if alert.campaign_id is not None
        else (f"outflow.account.{alert.account}", alert.account)
        if alert.account
        else ("outflow.installation", "Outflow")
    )
    emit_event(
        event=event_of(alert.kind),
        resource={"prefect.resource.id": about, "prefect.resource.name": named},
        occurred=alert.raised_at,
        payload={
            "said": alert.said,
            "campaign": alert.campaign,
            "number": alert.campaign_id,
            "account": alert.account,
            "link": alert.link,
        },
        id=uuid5(NAMESPACE_URL, f"outflow:{alert.id}:{alert.raised_at.isoformat()}"),  # told twice, it is one
    )


def event_of(kind: AlertKind) -> str:
    """Return the name of the event that an alert of a kind is emitted as."""
    return "outflow.account.paused" if kind is AlertKind.ACCOUNT_PAUSED else f"outflow.campaign.{kind}"


async def _target(name: str) -> Target:
    """Return where a target leads; one that cannot be used is one that takes nothing."""
    try:
        block = await AlertTarget.aload(name)
        return await _opened(name, block)
    except InputError as error:
        return Target(name, frozenset(AlertKind), partial(_refuse, str(error)))
    except (ValueError, RuntimeError):  # removed meanwhile, or saved by another version
        return Target(name, frozenset(AlertKind), partial(_refuse, "its block cannot be read: save it again"))


async def _opened(name: str, block: AlertTarget) -> Target:
    kinds = frozenset(block.kinds)
    if not block.account:
        return Target(name, kinds, partial(services.deliver, block.url.get_secret_value()))
    account = await load_account(block.account)
    return Target(name, kinds, partial(mailing.deliver, Desk(account.sender_header, account.open, block.to)))


def _refuse(reason: str, _: Notice) -> None:
    raise NotSent(reason)


async def add_alert_target(name: str, values: dict[str, str]) -> AlertTargetShown:
    """Make or replace a target.

    Raises:
        InputError: Values that do not make one, or an account that does not exist.
    """
    refuse_bad_name(name, "an alert target")
    unknown = sorted(values.keys() - AlertTarget.model_fields.keys())
    if unknown:
        raise InputError(f"alert targets have no {unknown[0]!r}: url, account, to, kinds")
    try:
        block = AlertTarget.model_validate(values)
    except ValidationError as error:
        raise InputError(first_problem(AlertTarget, error)) from None
    if block.account:
        await load_account(block.account)
    else:
        await in_thread(services.check, block.url.get_secret_value())
    await save(block, name)
    return _shown(name, block)


async def list_alert_targets() -> list[AlertTargetShown]:
    """Return the targets, in order."""
    return [_shown(name, await AlertTarget.aload(name)) for name in await names_of(_SLUG)]


async def remove_alert_target(name: str) -> None:
    """Delete a target.

    Raises:
        InputError: There is none of that name.
    """
    try:
        await Block.adelete(f"{_SLUG}/{name}")
    except ValueError:
        raise InputError(_missing(name)) from None


async def try_alert_target(name: str) -> None:
    """Send a target a message that says it is a test.

    Raises:
        InputError: There is no such target.
        NotSent: It did not take it; the text says why.
    """
    if name not in await names_of(_SLUG):
        raise InputError(_missing(name))
    target = await _target(name)
    failed = await in_thread(telling.deliver_all, [(target, _TEST)])
    if failed:
        raise NotSent(f"alert target {name} did not take the test: {failed[name]}")


def _missing(name: str) -> str:
    return f"there is no alert target {name!r}; `outflow alerts list` shows them"


def _shown(name: str, block: AlertTarget) -> AlertTargetShown:
    service = block.url.get_secret_value().partition(":")[0]
    return AlertTargetShown(name=name, service=service, account=block.account, kinds=block.kinds)
