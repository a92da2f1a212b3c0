"""SMTP accounts."""

from contextlib import AbstractAsyncContextManager
from typing import Literal

from pydantic import Field, SecretStr

from blocks.account import Mailbox, ReturnPath, SendingAccount
from messaging.channels import smtp
from messaging.channels.base import SenderPool
from schemas.base import OptionalText


class SmtpAccount(SendingAccount):
    """A login at an SMTP server: your own relay, or a provider's."""

    _block_type_name = "SMTP Account"
    _block_type_slug = "smtp-account"
    _description = "An SMTP server that Outflow sends campaigns through."

    host: str = Field(description="Host name of the SMTP server.", examples=["smtp.example.org"])
    port: int = Field(default=587, ge=1, le=65535, description="Port: usually 587 for STARTTLS, 465 for TLS.")
    security: Literal["none", "starttls", "tls"] = Field(
        default="starttls",
        description="How the connection is protected. Certificates are always verified; none is for a server "
        "on this machine or in your own network.",
    )
    username: OptionalText = Field(default="", description="Login name, if the server asks for one.")
    password: SecretStr = Field(default=SecretStr(""), description="Login password.")
    sender: Mailbox = Field(
        description="Who the reader sees, as in Example Shop <news@example.org>.",
        examples=["Example Shop <news@example.org>"],
    )
    return_path: ReturnPath = Field(
        default="",
        title="Return path",
        description="Where bounces go, as in bounces@shop.example.org. Each message gets an address of its "
        "own there, as in bounces+TOKEN@shop.example.org, so the mailbox must take these. Empty: they go to "
        "the sender.",
        examples=["bounces@shop.example.org"],
    )
    connections: int = Field(
        default=8, ge=1, le=100, description="Connections kept open at once; ask your provider for its limit."
    )
    messages_per_connection: int = Field(
        default=100, ge=1, description="Messages after which a connection is closed and opened anew."
    )

    @property
    def sender_header(self) -> str:
        """Who the reader sees."""
        return self.sender

    @property
    def bounce_address(self) -> str:
        """Where bounces go."""
        return self.return_path

    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the pool of connections; each connects when it is first used."""
        return smtp.SmtpPool(self._settings())

    async def verify(self) -> str:
        """Connect and log in, send nothing, and say what was met."""
        facts = await smtp.verify(self._settings())
        login = f"logged in as {self.username}" if facts.authenticated else "no login"
        return f"{facts.server}:{self.port} answers, {facts.tls_version or 'not encrypted'}, {login}"

    def _settings(self) -> smtp.SmtpSettings:
        return smtp.SmtpSettings(
            host=self.host,
            port=self.port,
            security=self.security,
            username=self.username or None,
            password=self.password.get_secret_value() or None,
            connections=self.connections,
            messages_per_connection=self.messages_per_connection,
        )
