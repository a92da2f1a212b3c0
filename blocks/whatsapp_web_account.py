"""WhatsApp accounts of phones, linked as WhatsApp Web."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from pydantic import Field, SecretStr

from blocks.account import SendingAccount
from messaging.channels import whatsapp_web
from messaging.channels.base import SenderPool
from messaging.channels.whatsapp_web import WhatsAppWebSettings
from messaging.channels.whatsapp_web_session import Group, Step
from messaging.errors import InputError
from messaging.storage.engine import engine


class WhatsAppWebAccount(SendingAccount):
    """A phone's own WhatsApp account; Meta's Cloud API is the supported way to send campaigns."""

    _block_type_name = "WhatsApp Web Account"
    _block_type_slug = "whatsapp-web-account"
    _description = "A phone's own WhatsApp account, linked as WhatsApp Web; off until its risk is understood."

    i_understand_the_risk: bool = Field(
        default=False,
        description="Bulk and automated messages break WhatsApp's terms, whatever their pace, and the number "
        "can be banned for good. A WhatsApp Cloud account is the supported way. While this is off nothing is "
        "sent.",
    )
    messages_per_day: int = Field(
        default=100, ge=1, le=1000, description="Messages at most in any 24 hours; less is safer."
    )
    check_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="Days that an answer whether a number is on WhatsApp is kept: asking for many looks "
        "suspicious.",
    )
    proxy: SecretStr = Field(
        default=SecretStr(""),
        description="Address of an HTTP or SOCKS5 proxy, if WhatsApp must be reached through one.",
        examples=["socks5://proxy.example.org:1080"],
    )

    @property
    def sender_header(self) -> str:
        """Nothing: WhatsApp shows the phone's own number and name."""
        return ""

    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the pool; it connects with the first message.

        Raises:
            InputError: Nobody has said that they understand the risk.
        """
        return whatsapp_web.WhatsAppWebPool(self._settings(), engine)

    async def verify(self) -> str:
        """Resume the session, send nothing, and say whose it is."""
        number = await whatsapp_web.verify(self._settings(), engine)
        return f"{number} is linked and ready; at most {self.messages_per_day} messages in 24 hours"

    async def groups(self) -> list[Group]:
        """Return the groups that the linked account is in, by name.

        Raises:
            InputError: Nobody has said that they understand the risk.
            AccountError: The account is not paired any more, or in use.
            NotSent: WhatsApp cannot be reached, or did not tell.
        """
        return await whatsapp_web.groups(self._settings(), engine)

    def pairing(self) -> AsyncGenerator[Step, None]:
        """Link the account to a phone, yielding each state and each code to scan, until it is ready.

        Raises:
            InputError: Nobody has said that they understand the risk.
            AccountError: It was refused, or nobody scanned in time.
            NotSent: WhatsApp cannot be reached.
        """
        return whatsapp_web.pairing(self._settings(), engine)

    def _settings(self) -> WhatsAppWebSettings:
        name = self._block_document_name
        if name is None:
            raise InputError(
                "a WhatsApp Web account keeps its session under its name: save the account first"
            )
        if not self.i_understand_the_risk:
            raise InputError(
                f"whatsapp-web-account/{name} is off, because bulk messages break WhatsApp's terms and can "
                "get the number banned: use a whatsapp-cloud-account, or turn this one on with: "
                f"outflow account add whatsapp-web {name} i_understand_the_risk=true"
            )
        return WhatsAppWebSettings(
            account=name,
            proxy=self.proxy.get_secret_value() or None,
            per_day=self.messages_per_day,
            check_days=self.check_days,
        )
