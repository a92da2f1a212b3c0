"""What we learn about a message after it was sent, as a value: from a mailbox, a queue, a webhook, a page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind


@dataclass(frozen=True, slots=True)
class Bounce:
    """What a bounce or a complaint means."""

    bounce_class: BounceClass
    reason: BounceReason
    suppress: Suppress
    """When it is enough to stop writing to the address."""

    status: str = ""
    """RFC 3463, as in 5.1.1."""
    reply: str = ""
    """The three digits of the SMTP reply."""
    rule: str = ""
    """What decided."""
    confidence: float = 1.0
    diagnostic: str = ""
    """What was said; it may hold addresses."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that became known about one message to one recipient.

    Which message: any of `token`, `campaign_id`, `message_id`, `provider_message_id` and `recipient` may be
    missing; whoever records it finds the attempt by what is there.
    """

    kind: EventKind
    channel: Channel
    source: str
    """Who told us, as in imap-mailbox/bounces, ses-queue/events, whatsapp-cloud-account/main, web."""
    source_id: str
    """The source's own name for it: the same evidence is recorded once."""
    occurred_at: datetime

    token: UUID | None = None
    """The attempt's."""
    campaign_id: int | None = None
    message_id: str | None = None
    """The Message-ID header with its angle brackets."""
    provider_message_id: str | None = None
    recipient: str = ""
    """The address as the source writes it: e-mail, or E.164."""
    aliases: tuple[str, ...] = ()
    """Other addresses for the same recipient."""

    bounce: Bounce | None = None
    """Of `bounced`, `delayed`, `complained` and `failed`."""
    everywhere: bool = True
    """Of `unsubscribed`: from everything, or from the campaign's audience alone."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping, as JSON: link, user agent, machine (why it is taken for no person)."""
