"""Test messages: a campaign's message to named people, now and apart from its recipients.

Nothing is written to the ledger, so a test neither plans the campaign nor counts as one of its messages.
"""

import asyncio
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from typing import Final, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, Engine

from messaging.audience.emails import judge_email
from messaging.audience.phones import judge_phone
from messaging.campaign.definition import read_attachments
from messaging.campaign.links import NOBODYS_KEY, Links
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead, Recipient, Renderer, RenderError
from messaging.campaign.skeleton import Attachment
from messaging.campaign.templates import check_fields, compile_templates
from messaging.campaign.tracking import tracking_report
from messaging.channels.base import Message, Receipt, Sender, SenderPool
from messaging.errors import AccountError, InputError, NotSent, Unknown
from messaging.settings import settings
from messaging.storage import audiences, samples
from messaging.storage.campaigns import CampaignFile
from messaging.storage.link_keys import newest_key
from messaging.storage.samples import Sample
from messaging.tokens import LinkKey
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.report import TrackingReport
from schemas.states import Channel

MOST_ADDRESSES: Final = 20
# Amazon SES Developer Guide, "Using the mailbox simulator": each answers as its name says, and none of them
# counts against the account.
SIMULATOR: Final = tuple(
    f"{deed}@simulator.amazonses.com"
    for deed in ("success", "bounce", "complaint", "ooto", "suppressionlist")
)
_SUBJECT_START: Final = "[Test] "
_NO_CAMPAIGN: Final = 0  # the number that no campaign has


class Ending(StrEnum):
    """What became of one test message."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_SENT = "not sent"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody whom a test message goes to."""

    typed: str
    """The address as it was typed."""
    recipient: Recipient
    withheld: str = ""
    """Why nothing may be sent there; empty: it may."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A campaign, ready to be tried over one of its accounts."""

    spec: CampaignSpec
    account: str
    readers: Sequence[Reader]
    files: Sequence[Attachment]
    key: LinkKey
    """What links are signed with: those of a test lead where they would."""
    tracking: TrackingReport | None
    """What tells who reads it; None: nothing was asked for."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One test message, and what was said to it."""

    to: str
    ending: Ending
    said: str
    """The provider's words, or ours."""
    provider_message_id: str | None = None


class _Address(NamedTuple):
    typed: str
    key: str
    """As the ledger compares it."""
    to: str
    """As the provider takes it."""


def prepare(  # noqa: PLR0913 - what a test consists of
    engine: Engine,
    spec: CampaignSpec,
    account: str | None,
    addresses: Sequence[str],
    *,
    simulator: bool = False,
    files: Sequence[CampaignFile] | None = None,
) -> Trial:
    """Check the campaign, and find for each address whose data its message is made with.

    That is the contact of the ledger with this address; for a stranger, the next of the audience's first
    members; for a group of the campaign, nobody. `account` is one of the campaign's, its first if None;
    `simulator` adds the addresses of Amazon's mailbox simulator.

    Raises:
        InputError: The templates or the attachments cannot be used; the campaign has no such account, or
            there is no such audience or nobody in it; an address is none of the account's channel; or they
            are too many or none.
    """
    chosen = account or spec.account
    if chosen not in spec.accounts:
        raise InputError(
            f"the campaign does not send over {chosen}: choose one of {', '.join(spec.accounts)}"
        )
    if simulator and not chosen.startswith("ses-account/"):
        raise InputError(f"{chosen} cannot reach the mailbox simulator: only Amazon SES has one")
    all_typed = [*map(str.strip, addresses), *(SIMULATOR if simulator else ())]
    found = {
        address.key: address
        for address in (_address(typed, number, chosen) for number, typed in enumerate(all_typed, 1))
    }
    if not 0 < len(found) <= MOST_ADDRESSES:
        raise InputError(f"a test goes to 1 to {MOST_ADDRESSES} addresses: name them after --to")
    attachments = [Attachment(*file) for file in (read_attachments(spec) if files is None else files)]
    public_url = settings().public_url
    templates = compile_templates(spec, Links(public_url, NOBODYS_KEY))
    with engine.begin() as connection:
        members, attributes = [samples.NOBODY], {}
        if spec.audience:
            audience_id = audiences.named(connection, spec.audience)
            attributes = audiences.attributes(connection, audience_id)
            members = samples.first_members(connection, audience_id, spec.where, len(found))
        check_fields(templates, attributes)
        if not members:
            raise InputError(
                f"audience {spec.audience!r} has nobody whose data a test could be made with: import contacts"
            )
        readers = list(_readers(connection, channel_of(chosen), found, members, spec.groups))
        key = newest_key(connection)
    tracking = tracking_report(spec, templates.tracked, public_url)
    return Trial(spec, chosen, readers, attachments, key, tracking)


def _address(typed: str, number: int, account: str) -> _Address:
    """Judge what was typed; errors name its place, never the address."""
    if channel_of(account) is Channel.EMAIL:
        email = judge_email(typed)
        if email.email is None or email.email_key is None:
            raise InputError(f"address {number} is no e-mail address, and {account} sends email")
        return _Address(typed, email.email_key, email.email)
    if account.startswith("whatsapp-web-account/") and typed.endswith("@g.us"):
        return _Address(typed, typed, typed)
    phone = judge_phone(typed, None).phone
    if phone is None:
        raise InputError(
            f"address {number} is no phone number with its country, as in +447400000001, and {account} "
            "sends to those"
        )
    return _Address(typed, phone, phone)


def _readers(
    connection: Connection,
    channel: Channel,
    addresses: Mapping[str, _Address],
    members: Sequence[Sample],
    groups: Collection[str],
) -> Iterator[Reader]:
    known = samples.with_addresses(connection, addresses)
    suppressed = samples.suppressed(connection, channel, addresses)
    strangers = cycle(members)
    for key, address in addresses.items():
        own = known.get(key)
        sample = samples.NOBODY if key in groups else own or next(strangers)
        withheld = ""
        if key in suppressed:
            withheld = f"suppressed: {suppressed[key]}"
        elif own is not None and not own.subscribed:
            withheld = "this contact has unsubscribed, or has not confirmed yet"
        recipient = Recipient(
            token=uuid4(),  # an unsubscribe link with it belongs to nobody
            address=address.to,
            name=sample.name,
            phone=sample.phone,
            attributes=sample.attributes,
            email=sample.email,
        )
        yield Reader(address.typed, recipient, withheld)


async def send_tests(
    trial: Trial, sender_header: str, pool: SenderPool, *, return_path: str = ""
) -> list[Tried]:
    """Make the campaign's message for each reader and hand it over, one after another at the campaign's pace.

    The subject of an email begins with [Test]. What goes wrong with a message is said of it; once the account
    is refused, the others are not tried.

    Raises:
        InputError: The account's sender, its return path or the public URL cannot be used.
    """
    spec = trial.spec.model_copy(update={"subject": f"{_SUBJECT_START}{trial.spec.subject}"})
    letterhead = Letterhead(sender_header, trial.key, return_path)
    renderer = renderer_for(trial.account, spec, _NO_CAMPAIGN, letterhead, trial.files)
    tried: list[Tried] = []
    refused = ""
    async with pool.sender() as sender:
        for reader in trial.readers:
            if reader.withheld or refused:
                tried.append(Tried(reader.typed, Ending.NOT_SENT, reader.withheld or refused))
                continue
            if tried:
                await asyncio.sleep(_pause(spec.pacing))
            try:
                tried.append(await _tried(reader, renderer, sender))
            except AccountError as error:
                refused = str(error)
                tried.append(Tried(reader.typed, Ending.NOT_SENT, refused))
    return tried


async def _tried(reader: Reader, renderer: Renderer, sender: Sender) -> Tried:
    recipient = reader.recipient
    try:
        rendered = renderer.render(recipient)
        message = Message(
            _NO_CAMPAIGN,
            rendered.envelope_sender,
            recipient.address,
            rendered.content,
            recipient.token.hex,
            _NO_CAMPAIGN,
        )
        receipt = await sender.send(message, _nothing_to_mark)
    except (RenderError, NotSent) as error:
        return Tried(reader.typed, Ending.NOT_SENT, str(error))
    except Unknown as error:
        return Tried(reader.typed, Ending.UNKNOWN, f"{error}; it may have arrived")
    return Tried(reader.typed, Ending(receipt.outcome), _words(receipt), receipt.provider_message_id)


async def _nothing_to_mark() -> None:
    """Stand in for the ledger's mark: a test message is none of its attempts."""


def _words(receipt: Receipt) -> str:
    code = str(receipt.code) if receipt.code is not None else ""
    status = receipt.status if receipt.status and receipt.status not in receipt.reply else ""
    return " ".join(filter(None, (code, status, receipt.reply)))


def _pause(pacing: Pacing) -> float:
    """Return the seconds between two messages at a campaign's pace."""
    if pacing.interval is not None:
        return random.uniform(*pacing.interval)  # noqa: S311 - chance, not secrecy
    return 1 / pacing.per_second if pacing.per_second else 0.0
