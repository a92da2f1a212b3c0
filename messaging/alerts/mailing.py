"""Notices mailed over an account that campaigns are sent over."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from messaging.alerts.notices import Notice
from messaging.campaign.rendering import mailbox
from messaging.channels.base import Message, SenderPool
from messaging.errors import NotSent
from schemas.states import Outcome

_NO_CAMPAIGN = 0  # the number that no campaign has


@dataclass(frozen=True, slots=True)
class Desk:
    """An account that mail is sent over, and who reads it."""

    sender_header: str
    open: Callable[[], AbstractAsyncContextManager[SenderPool]]
    to: Sequence[str]


def deliver(desk: Desk, notice: Notice) -> None:
    """Mail a notice to each reader, blocking until all have an answer.

    Raises:
        NotSent: Not everyone's message was taken; some may have it.
        AccountError: The account cannot go on.
        Unknown: The message may have been handed over.
    """
    asyncio.run(_mail(desk, notice))


async def _mail(desk: Desk, notice: Notice) -> None:
    _, address = mailbox("sender", desk.sender_header)
    refused = []
    async with desk.open() as pool, pool.sender() as sender:
        for reader in desk.to:
            message = _message(desk.sender_header, address, reader, notice)
            _, to = mailbox("to", reader)
            handed_over = Message(_NO_CAMPAIGN, address, to, message.as_bytes(policy=SMTP))
            receipt = await sender.send(handed_over, _nothing_to_mark)
            if receipt.outcome is not Outcome.ACCEPTED:
                refused.append(" ".join(filter(None, (str(receipt.code or ""), receipt.status))))
    if refused:
        raise NotSent(f"{len(refused)} of {len(desk.to)} readers were refused ({', '.join(refused)})")


def _message(sender: str, address: str, reader: str, notice: Notice) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = reader
    message["Subject"] = notice.title
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=address.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice answers it
    message.set_content(notice.body)
    return message


async def _nothing_to_mark() -> None:
    """Stand in for the ledger's mark: a notice is none of its attempts."""
