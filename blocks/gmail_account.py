"""Gmail accounts: mailboxes at Google, by a person's consent or a domain's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import cast

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from pydantic import Field, SecretStr
from sqlalchemy import Connection, text

from blocks.account import Mailbox, SendingAccount
from messaging.campaign.rendering import mailbox
from messaging.channels.base import SenderPool
from messaging.channels.gmail import UNITS_PER_MESSAGE, GmailPool, GmailSettings
from messaging.channels.gmail_login import GMAIL, TOKEN_URI, Identity, Tokens
from messaging.storage.engine import engine
from messaging.storage.failing import database_errors
from schemas.base import OptionalText

_SLUG = "gmail-account"


class GmailAccount(SendingAccount):
    """A mailbox at Gmail or Google Workspace, reached over the Gmail API."""

    _block_type_name = "Gmail Account"
    _block_type_slug = _SLUG
    _description = "A mailbox at Gmail or Google Workspace that Outflow sends campaigns from."

    sender: Mailbox = Field(
        description="Who the reader sees, as in Example Shop <news@example.org>: the mailbox's own address, "
        "or one that it may send as. Bounces go to the mailbox.",
        examples=["Example Shop <news@example.org>"],
    )
    client_id: OptionalText = Field(
        default="",
        description="Of an OAuth client of type Desktop app; `outflow gmail login` reads it from its file.",
    )
    client_secret: SecretStr = Field(default=SecretStr(""), description="The secret of that client.")
    refresh_token: SecretStr = Field(
        default=SecretStr(""), description="What a person allowed, kept by `outflow gmail login`."
    )
    access_token: SecretStr = Field(
        default=SecretStr(""), description="The hour's token, kept by Outflow; leave it as it is."
    )
    access_token_expires: datetime | None = Field(
        default=None, description="When that token ends, kept by Outflow; leave it as it is."
    )
    service_account: SecretStr = Field(
        default=SecretStr(""),
        description="Instead of a person's consent: the JSON key of a service account with domain-wide "
        "delegation.",
    )
    subject: OptionalText = Field(
        default="",
        description="The mailbox that the service account sends from.",
        examples=["news@example.org"],
    )
    units_per_minute: int = Field(
        default=6000,
        ge=UNITS_PER_MESSAGE,
        description="Quota units a minute and user of the Google Cloud project; a message costs 100. "
        "Projects made before May 2026 have 15,000.",
    )
    messages_per_day: int = Field(
        default=2000,
        ge=1,
        description="Messages in any 24 hours: 2,000 with Google Workspace, 500 on trial and with gmail.com.",
    )
    connections: int = Field(
        default=2, ge=1, le=10, description="Connections kept open at once; the quota needs no more than two."
    )
    endpoint: str = Field(default=GMAIL, description="Where the Gmail API is.")
    token_uri: str = Field(default=TOKEN_URI, description="Where Google gives out tokens.")

    @property
    def sender_header(self) -> str:
        """Who the reader sees."""
        return self.sender

    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the pool of connections; each connects when it is first used."""
        return self._pool()

    async def verify(self) -> str:
        """Sign in at Google, ask Gmail to send nothing, and say whose mailbox it is and what it may send."""
        async with self._pool() as pool:
            who = await pool.verify()
        _, sender = mailbox("sender", self.sender)
        signed_in = f"signed in at Google as {who}" if who else "signed in at Google"
        alias = (
            f"; {sender} must be among that mailbox's addresses to send as" if who not in {"", sender} else ""
        )
        a_minute = self.units_per_minute // UNITS_PER_MESSAGE
        return (
            f"{signed_in}, may send{alias}; at most {a_minute:,} messages a minute "
            f"and {self.messages_per_day:,} in 24 hours"
        )

    @property
    def tokens(self) -> Tokens:
        """What Google gave out."""
        return Tokens(
            self.refresh_token.get_secret_value(),
            self.access_token.get_secret_value(),
            self.access_token_expires,
        )

    def _pool(self) -> GmailPool:
        name = self._block_document_name
        # A service account needs no token of yesterday: its key makes one.
        kept = name is not None and not self.service_account.get_secret_value()
        return GmailPool(self._settings(), _StoredTokens(str(name)) if kept else None)

    def _settings(self) -> GmailSettings:
        return GmailSettings(
            sender=mailbox("sender", self.sender)[1],
            identity=Identity(
                client_id=self.client_id,
                client_secret=self.client_secret.get_secret_value(),
                tokens=self.tokens,
                service_account=self.service_account.get_secret_value(),
                subject=self.subject,
                token_uri=self.token_uri,
                login=f"outflow gmail login {self._block_document_name or 'NAME'}",
            ),
            units_per_minute=self.units_per_minute,
            messages_per_day=self.messages_per_day,
            connections=self.connections,
            endpoint=self.endpoint,
        )


class _StoredTokens:
    """The tokens of a stored account, of the name given."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def load(self) -> Tokens:
        """Read the account anew."""
        account = cast("GmailAccount", await GmailAccount.aload(self._name))
        return account.tokens

    async def save(self, tokens: Tokens, before: Tokens) -> None:
        """Store new tokens, unless somebody has signed in since `before`."""
        async with alone_with(self._name):
            if (await self.load()).refresh_token == before.refresh_token:
                await change(self._name, token_fields(tokens))


def token_fields(tokens: Tokens) -> dict[str, str]:
    """Return the fields of an account that hold tokens."""
    return {
        "refresh_token": tokens.refresh_token,
        "access_token": tokens.access_token,
        **({"access_token_expires": tokens.expires_at.isoformat()} if tokens.expires_at else {}),
    }


async def change(name: str, values: Mapping[str, str]) -> None:
    """Change these fields of a stored account and no others; call it `alone_with` the account.

    The server puts them in (`merge_existing_data`): what others changed meanwhile stays.
    """
    async with get_client() as client:
        found = await client.read_block_document_by_name(name=name, block_type_slug=_SLUG)
        await client.update_block_document(
            found.id, BlockDocumentUpdate(data=dict(values), merge_existing_data=True)
        )


@contextlib.asynccontextmanager
async def alone_with(name: str) -> AsyncIterator[None]:
    """Let no other process, on any machine, change an account's tokens meanwhile.

    Raises:
        DatabaseError: The ledger, which keeps the lock, cannot be reached.
    """
    connection = await asyncio.to_thread(_lock, f"{_SLUG}/{name}")
    try:
        yield
    finally:
        await asyncio.to_thread(connection.close)


def _lock(account: str) -> Connection:
    """Take a lock that lasts as long as the connection's transaction."""
    with database_errors():
        connection = engine().connect()
        try:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:account, 0))"), {"account": account}
            )
        except BaseException:
            connection.close()
            raise
        return connection
