"""Accounts at Meta's WhatsApp Cloud API."""

from contextlib import AbstractAsyncContextManager

from pydantic import Field, SecretStr

from blocks.account import SendingAccount
from messaging.channels import whatsapp_cloud
from messaging.channels.base import SenderPool
from messaging.channels.whatsapp_cloud_settings import (
    API_VERSION,
    MESSAGES_PER_SECOND,
    META,
    PORTFOLIO_LIMIT,
)
from schemas.base import OptionalText


class WhatsAppCloudAccount(SendingAccount):
    """One phone number of a WhatsApp Business account."""

    _block_type_name = "WhatsApp Cloud Account"
    _block_type_slug = "whatsapp-cloud-account"
    _description = "A phone number at Meta's WhatsApp Cloud API that Outflow sends campaigns through."

    phone_number_id: str = Field(
        description="Phone number ID, as WhatsApp Manager shows it; not the phone number itself.",
        examples=["106540352242922"],
    )
    token: SecretStr = Field(
        description="Access token of a system user, with whatsapp_business_messaging and "
        "whatsapp_business_management."
    )
    app_secret: SecretStr = Field(
        default=SecretStr(""),
        description="App secret of the Meta app: proves that reports of deliveries come from Meta.",
    )
    verify_token: SecretStr = Field(
        default=SecretStr(""),
        description="A word of your own choice that Meta repeats when the webhook is set up.",
    )
    api_version: str = Field(default=API_VERSION, description="Version of the Graph API.")
    portfolio: OptionalText = Field(
        default="",
        description="Name of the business portfolio, the same on each of its accounts: they share one limit "
        "of people a day. Empty: this number is the only one.",
        examples=["example-shop"],
    )
    portfolio_limit: int = Field(
        default=PORTFOLIO_LIMIT,
        ge=0,
        description="People that the portfolio may write to in any 24 hours, as WhatsApp Manager shows it: "
        "250, 2000, 10000 or 100000. 0: no limit.",
    )
    messages_per_second: float = Field(
        default=MESSAGES_PER_SECOND,
        gt=0,
        le=1000,
        description="The number's throughput: 80, or 1000 after Meta's upgrade; 20 when it is also used in "
        "the WhatsApp Business app.",
    )
    connections: int = Field(default=16, ge=1, le=500, description="Requests on their way at once.")
    endpoint: str = Field(default=META, description="Where the API is; another one is for tests and proxies.")

    @property
    def sender_header(self) -> str:
        """Nothing: WhatsApp shows the number's verified name by itself."""
        return ""

    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the pool; each connection is made when it is first used."""
        return whatsapp_cloud.WhatsAppCloudPool(self._settings())

    async def verify(self) -> str:
        """Ask Meta about the phone number, send nothing, and say what was met."""
        facts = await whatsapp_cloud.verify(self._settings())
        said = {
            "quality": facts.quality_rating,
            "people in 24 hours": facts.messaging_limit,
            "throughput": facts.throughput,
            "code verification": facts.code_verification_status,
            "name": facts.name_status,
        }
        known = [f"{what} {value}" for what, value in said.items() if value]
        return ", ".join([f"{facts.verified_name or 'a number without a name'} answers", *known])

    def _settings(self) -> whatsapp_cloud.WhatsAppCloudSettings:
        return whatsapp_cloud.WhatsAppCloudSettings(
            phone_number_id=self.phone_number_id,
            token=self.token.get_secret_value(),
            api_version=self.api_version,
            base_url=self.endpoint,
            connections=self.connections,
            messages_per_second=self.messages_per_second,
            portfolio=self.portfolio,
            portfolio_limit=self.portfolio_limit,
        )
