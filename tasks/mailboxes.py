"""Mailboxes that bounces come back to."""

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.imap_mailbox import ImapMailbox
from messaging.errors import InputError
from messaging.feedback import reading_mail
from messaging.feedback.progress import running
from messaging.storage.engine import engine
from schemas.feedback import BouncesRequest, FeedbackReport
from tasks.accounts import load
from tasks.feedback import read_each, sources_of
from tasks.guarding import guarded, in_thread


@task(cache_policy=NO_CACHE)
async def find_mailboxes(request: BouncesRequest) -> list[str]:
    """Return the references of the mailbox that is asked for, or of all."""
    return await sources_of("imap-mailbox", request.mailbox)


async def read_mailboxes(mailboxes: list[str], request: BouncesRequest) -> list[FeedbackReport]:
    """Read mailboxes, a task run each."""
    return await read_each(mailboxes, lambda mailbox: read_imap_mailbox(mailbox, request), "bounces")


@task(task_run_name="read-{mailbox}", cache_policy=NO_CACHE)
async def read_imap_mailbox(mailbox: str, request: BouncesRequest) -> FeedbackReport:
    """Read what is new in one mailbox, as long as there is time, record it, mark it."""
    with guarded():
        account = await load(mailbox)
        if not isinstance(account, ImapMailbox):
            raise InputError(f"{mailbox!r} is no mailbox: write imap-mailbox/NAME")
        settings = account.settings()
        try:
            return await in_thread(
                lambda: reading_mail.read_mailbox(
                    engine(), mailbox, settings, again=request.again, seconds=request.seconds
                )
            )
        except asyncio.CancelledError:
            for progress in running():
                if progress.mailbox == mailbox:
                    progress.stop()
            raise
