"""A pool or a sender at a scripted server, and messages to give it."""

import contextlib

from messaging.channels.base import Message
from messaging.channels.smtp import SmtpPool, SmtpSettings
from tests.fakes.scripted_smtp import CHUNKS, EXTENSIONS, HOST, STEPS, ScriptedSmtp

CONTENT = b"Subject: hello\r\n\r\nHello Ada\r\n"
RECIPIENT = "ada@example.org"
WAYS = {"steps": STEPS, "groups": EXTENSIONS, "chunks": CHUNKS}
"""How a transaction can be written → what a server offers that makes us write it so."""


def a_message(recipient=RECIPIENT, content=CONTENT, envelope_sender="bounce+7@example.com", token=""):
    return Message(7, envelope_sender, recipient, content, token)


async def dispatched():
    """Agree, as the ledger does."""


@contextlib.asynccontextmanager
async def a_pool(script=None, *, extensions=EXTENSIONS, **settings):
    async with ScriptedSmtp(script or {}, extensions=extensions).running() as server:
        # Short only where it is waited for: the machine may be busy.
        patience = 0.3 if "stalls=True" in repr(script) else 10
        timeouts = dict.fromkeys(("command_timeout", "content_timeout", "final_timeout"), patience)
        timeouts["connect_timeout"] = patience if "CONNECT" in server.script else 10
        account = SmtpSettings(HOST, server.port, "none", **({"chunking": True} | timeouts | settings))
        async with SmtpPool(account) as pool:
            yield server, pool


@contextlib.asynccontextmanager
async def a_sender(script=None, **others):
    async with a_pool(script, **others) as (server, pool), pool.sender() as sender:
        yield server, sender
