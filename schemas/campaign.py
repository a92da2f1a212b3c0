"""A campaign's definition: the file in git and the parameter form are this one model."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from schemas.accounts import channel_of
from schemas.base import OptionalPart, OptionalText, Schema
from schemas.controlling import Batches, Because, CampaignName
from schemas.durations import seconds_of
from schemas.pacing import Pacing
from schemas.states import AttemptState, Channel
from schemas.times import LocalTime, TimeZone, hours_of
from schemas.whatsapp import WhatsAppTemplate

MAX_TEMPLATE_SIZE = 200_000  # characters; Prefect takes 524,288 bytes of parameters in all
MAX_ATTACHMENTS = 10
MAX_ATTACHED_SIZE = 10_000_000  # bytes of all files together; base64 makes them a third larger in the message
LONGEST_NOT_AFTER = 366 * 86400.0
_ACCOUNT = r"^[a-z0-9-]+/[a-z0-9-]+$"
MAX_GROUPS = 1000
GROUP = r"^[0-9-]{5,40}@g\.us$"
WEB = "whatsapp-web-account/"


def _quiet_hours(value: str) -> str:
    return value and "{:%H:%M}-{:%H:%M}".format(*hours_of(value))


class Tracking(Schema):
    """What is to be known of who reads a campaign's emails; nothing unless it is asked for."""

    opens: bool = Field(
        default=False,
        description="Have a picture of one pixel in the HTML tell when a message is opened. Many mail "
        "programs load it unasked, or never.",
    )
    clicks: bool = Field(
        default=False,
        description="Lead the web links of the HTML over OUTFLOW_PUBLIC_URL, where clicks are counted; not "
        "those with the attribute data-no-track.",
    )


class CampaignSpec(Schema):
    """One message template sent once to one audience."""

    name: str = Field(
        description="Unique name. A name is sent once: the same name again sends only what is missing.",
        examples=["spring-offer"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$",
    )
    channel: Channel = Field(default=Channel.EMAIL, description="How the message travels.")
    account: str = Field(
        description="The account that sends, as type/name of a block: smtp-account/main.",
        examples=["smtp-account/main"],
        pattern=_ACCOUNT,
    )
    fallback: list[Annotated[str, Field(pattern=_ACCOUNT)]] = Field(
        default_factory=list,
        description="Accounts to try, in this order, for those who cannot be reached on the one before: they "
        "have no address for it, or it leads to nobody. Who was accepted, or may have been, is left alone.",
        examples=[["whatsapp-cloud-account/main"]],
        max_length=4,
    )
    audience: OptionalText = Field(
        default="",
        description="Name of the audience to write to. Empty: nobody but the groups.",
        examples=["customers"],
    )
    groups: list[Annotated[str, Field(pattern=GROUP)]] = Field(
        default_factory=list,
        title="WhatsApp groups",
        description="Groups that get the message as well, by their ids, which outflow whatsapp groups NAME "
        "lists: over the first whatsapp-web account of the campaign, and over no other.",
        examples=[["120363025246125486@g.us"]],
        max_length=MAX_GROUPS,
    )
    where: OptionalText = Field(
        default="",
        description="Only members for whom this holds, as the audience is when the campaign is planned. "
        "Empty: all of them.",
        examples=['country = "DE" and plan in ("pro", "team")'],
        max_length=10_000,
    )
    subject: OptionalText = Field(
        default="",
        description='Subject line of an email; merge fields as in {{ name | default("Hello") }}.',
        examples=['{{ name | default("Hello") }}, our spring offer'],
        max_length=1000,
    )
    html: OptionalText = Field(
        default="",
        title="HTML part",
        description="The HTML template itself, or the path of a file that holds it: examples/campaign.html. "
        "A path starts from the campaign's file, or in the UI from the folder where Outflow is installed.",
        examples=["examples/campaign.html"],
        max_length=MAX_TEMPLATE_SIZE,
    )
    text: OptionalText = Field(
        default="",
        title="Text part",
        description="The text template itself, or the path of a .txt file; made from the HTML when empty. On "
        "WhatsApp it is the message, which the Cloud API takes only within a day of their last message.",
        max_length=MAX_TEMPLATE_SIZE,
    )
    template: Annotated[WhatsAppTemplate, OptionalPart] = Field(
        default_factory=WhatsAppTemplate,
        title="WhatsApp template",
        description="The approved template that the WhatsApp Cloud API sends.",
    )
    reply_to: OptionalText = Field(
        default="",
        title="Reply-To",
        description="Address that answers go to, when it is not the sender's.",
        examples=["help@example.org"],
    )
    attachments: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Paths of files that every message carries: at most 10, of 10 MB in all. They start from "
        "where the paths of templates do, and are read once, when the campaign is planned.",
        examples=[["terms.pdf"]],
        max_length=MAX_ATTACHMENTS,
    )
    pacing: Pacing = Field(default_factory=Pacing, description="How fast to go.")
    send_at: LocalTime = Field(
        default="",
        title="Send at",
        description="When to start, as local time of the time zone. Empty: at once.",
        examples=["2027-03-20T09:00"],
    )
    time_zone: TimeZone = Field(
        default="UTC",
        title="Time zone",
        description="The zone of send_at and of the quiet hours, and of recipients whose own is not known.",
        examples=["Europe/London"],
    )
    recipient_local: bool = Field(
        default=False,
        title="At the recipient's time",
        description="Send at the time of send_at in each recipient's own time zone: the contact's, else that "
        "of the phone number, else the campaign's. Quiet hours are then each recipient's too.",
    )
    quiet_hours: Annotated[OptionalText, AfterValidator(_quiet_hours)] = Field(
        default="",
        title="Quiet hours",
        description="Nothing is sent in these hours of each day: 21:00-08:00. Empty: at any time.",
        examples=["21:00-08:00"],
    )
    not_after: OptionalText = Field(
        default="",
        description="After this time, counted from send_at, or from the launch without it, nothing more is "
        "sent and the campaign is paused: 4h, 2d. Empty: no limit.",
        examples=["4h", "2d"],
    )
    approval: bool = Field(
        default=False,
        description="Send nothing before a person has looked at it and approved. Messages go to test_to "
        "first.",
    )
    test_to: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        title="Test to",
        description="Who gets the test messages of a campaign that is to be approved.",
        examples=[["marketing@example.org"]],
        max_length=20,
    )
    workers: int = Field(
        default=1,
        description="Flow runs that send at the same time, each on another worker when there are as many.",
        ge=1,
        le=64,
    )
    batch_size: int | Literal["auto"] = Field(
        default="auto",
        description="Recipients per task run. auto: some seconds of sending, at least 500, "
        "and at most 200 batches.",
    )
    verify_domains: bool = Field(
        default=False,
        title="Verify domains",
        description="Leave out e-mail addresses whose domain takes no mail, as DNS says. Domains of which "
        "nothing is known are asked about when the campaign is planned; no answer leaves nobody out.",
    )
    subject_tag: bool = Field(
        default=False,
        description="Add [CID:n] to the subject, which some mailboxes need to match bounces.",
    )
    tracking: Annotated[Tracking, OptionalPart] = Field(
        default_factory=Tracking, description="What is to be known of who reads it; by default nothing."
    )

    @field_validator("batch_size")
    @classmethod
    def _is_a_size(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 100_000:  # noqa: PLR2004 - the bounds say themselves
            raise ValueError("batch_size is auto or a number from 1 to 100000")
        return value

    @model_validator(mode="after")
    def _has_times(self) -> "CampaignSpec":
        if self.recipient_local and not self.send_at:
            raise ValueError("recipient_local needs send_at: the time of day of each recipient")
        return self

    @field_validator("not_after")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if value.strip() and not 0 < seconds_of(value) <= LONGEST_NOT_AFTER:
            raise ValueError("not_after is longer than nothing and at most 366d; leave it out for no limit")
        return value.strip()

    @model_validator(mode="after")
    def _has_content(self) -> "CampaignSpec":
        accounts = [self.account, *self.fallback]
        if len(set(accounts)) < len(accounts):
            raise ValueError("fallback names an account twice, or the campaign's own")
        if (channel := channel_of(self.account)) is not self.channel:
            raise ValueError(f"{self.account} sends {channel}: write channel: {channel}")
        channels = {channel_of(account) for account in accounts}
        if Channel.EMAIL in channels:
            if not self.subject:
                raise ValueError("an email needs a subject")
            if not self.html and not self.text:
                raise ValueError("an email needs html or text")
        if Channel.WHATSAPP in channels and not self.text and not self.template.name:
            raise ValueError("a WhatsApp message needs a template or text")
        for account in accounts:
            if account.startswith(WEB) and not self.text:
                raise ValueError(f"{account} sends text: write text, as it cannot send a template")
        return self

    @model_validator(mode="after")
    def _has_recipients(self) -> "CampaignSpec":
        if not self.audience and not self.groups:
            raise ValueError("audience is missing: name the people to write to, or groups")
        if not self.audience and (self.where or self.fallback):
            raise ValueError("where and fallback are for the members of an audience: name one")
        if self.groups and self.group_leg is None:
            raise ValueError("groups are written to over WhatsApp Web: name a whatsapp-web-account")
        if len(set(self.groups)) < len(self.groups):
            raise ValueError("groups names one twice")
        return self

    @property
    def group_leg(self) -> int | None:
        """The place of the account that groups are written to over."""
        return next((leg for leg, account in enumerate(self.accounts) if account.startswith(WEB)), None)

    @property
    def accounts(self) -> list[str]:
        """The accounts in the order they are tried; one's place is the leg of its batches."""
        return [self.account, *self.fallback]


class SendRequest(Schema):
    """Parameters of the send-batches flow: ids only."""

    campaign_id: int = Field(description="Number of the campaign, as `outflow status` shows it.", ge=1)
    batches: list[int] | None = Field(
        default=None, description="Only these batch numbers of the campaign; empty: all of them."
    )
    shard: int = Field(
        default=0,
        ge=0,
        description="Set by Outflow in further runs of a campaign with workers. 0: the run that starts them.",
    )


class StartRequest(Schema):
    """Parameters of the start-campaign flow: ids only."""

    campaign_id: int = Field(description="Number of the campaign, as `outflow status` shows it.", ge=1)


class RetryRequest(Schema):
    """Parameters of the retry-campaign flow."""

    campaign: CampaignName
    batches: Batches = Field(default_factory=list)
    states: list[Literal[AttemptState.REJECTED, AttemptState.UNKNOWN]] = Field(
        default_factory=list,
        description="Also send again to recipients in these states. Someone who is unknown may already "
        "have the message: choose it only after a look at the recipients.",
    )
    limit: Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)] = Field(
        default=0,
        ge=0,
        description="At most so many recipients of the chosen states are sent to again, those planned first. "
        "0: all of them. Whoever is still queued is sent to in any case.",
    )
    because: Because = ""

    @model_validator(mode="after")
    def _limits_what_is_chosen(self) -> "RetryRequest":
        if self.limit and not self.states:
            raise ValueError("limit is of those sent to again: choose states too, rejected or unknown")
        return self
