"""Mailboxes that bounces come back to."""

import asyncio
from typing import Literal

from pydantic import Field, SecretStr

from blocks.account import Account
from messaging.feedback import mailbox
from messaging.feedback.access_tokens import TokenSource
from messaging.feedback.mailbox import AccessToken, MailboxSettings
from schemas.base import OptionalText


class ImapMailbox(Account):
    """A folder of a mailbox, read over IMAP."""

    _block_type_name = "IMAP Mailbox"
    _block_type_slug = "imap-mailbox"
    _description = "A mailbox that bounces and complaints come back to, which Outflow reads."

    host: str = Field(
        description="Host name of the IMAP server.", examples=["imap.example.org"], pattern=r"^[!-~]+$"
    )
    port: int = Field(
        default=993, ge=1, le=65535, description="Port: usually 993 for TLS, 143 for STARTTLS and none."
    )
    security: Literal["none", "starttls", "tls"] = Field(
        default="tls",
        description="How the connection is protected. Certificates are always verified; none is for a server "
        "on this machine or in your own network.",
    )
    username: str = Field(description="Login name, often the address.", examples=["bounces@example.org"])
    password: SecretStr = Field(
        default=SecretStr(""), description="Login password; providers may want an app password."
    )
    access_token: SecretStr = Field(
        default=SecretStr(""), description="Instead of a password: an OAuth 2 access token, as it is."
    )
    token_url: OptionalText = Field(
        default="",
        description="Instead of a password: where the provider gives out OAuth 2 access tokens.",
        examples=["https://oauth2.googleapis.com/token"],
    )
    client_id: OptionalText = Field(default="", description="Id of the OAuth client.")
    client_secret: SecretStr = Field(default=SecretStr(""), description="The secret of that client.")
    refresh_token: SecretStr = Field(
        default=SecretStr(""),
        description="What a person allowed the client. Empty: the client asks in its own name.",
    )
    scope: OptionalText = Field(
        default="",
        description="What the access token is for, when the provider asks.",
        examples=["https://outlook.office365.com/.default"],
    )
    folder: str = Field(default="INBOX", min_length=1, description="Folder that is read.")
    done: Literal["mark seen", "move"] = Field(
        default="mark seen", description="What becomes of bounces once the ledger has them."
    )
    processed_folder: str = Field(
        default="Processed",
        min_length=1,
        description="Folder that bounces are moved to, with done=move; made when it is not there.",
    )
    opened_too: bool = Field(
        default=False,
        description="Read also new mail that somebody has opened already. Without it, who opens a bounce "
        "first hides it.",
    )
    mark_others: bool = Field(
        default=False, description="Mark also mail that is no bounce as seen; else it is left as it is."
    )

    async def verify(self) -> str:
        """Connect, log in, select the folder, mark nothing, and say how many mails it holds."""
        return await asyncio.to_thread(mailbox.verify, self.settings())

    def settings(self) -> MailboxSettings:
        """Return how to reach the mailbox.

        Raises:
            InputError: The settings do not go together.
        """
        return MailboxSettings(
            host=self.host,
            port=self.port,
            security=self.security,
            username=self.username,
            password=self.password.get_secret_value(),
            access_token=self._access_token(),
            folder=self.folder,
            processed_folder=self.processed_folder if self.done == "move" else "",
            opened_too=self.opened_too,
            mark_others=self.mark_others,
        )

    def _access_token(self) -> AccessToken | None:
        if self.token_url:
            return TokenSource(
                token_url=self.token_url,
                client_id=self.client_id,
                client_secret=self.client_secret.get_secret_value(),
                refresh_token=self.refresh_token.get_secret_value(),
                scope=self.scope,
            ).fetch
        if given := self.access_token.get_secret_value():
            return lambda: given
        return None
