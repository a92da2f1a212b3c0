"""Which renderer an account needs."""

from collections.abc import Sequence

from messaging.campaign.email_rendering import EmailRenderer
from messaging.campaign.rendering import Letterhead, Renderer
from messaging.campaign.skeleton import Attachment
from messaging.campaign.whatsapp_rendering import WhatsAppRenderer
from messaging.settings import settings
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.states import Channel


def renderer_for(
    account: str,
    spec: CampaignSpec,
    campaign_id: int,
    letterhead: Letterhead,
    attachments: Sequence[Attachment] = (),
) -> Renderer:
    """Return what makes a campaign's messages for one of its accounts.

    Raises:
        InputError: A template, the sender or the public URL cannot be used.
    """
    public_url = settings().public_url
    if channel_of(account) is Channel.WHATSAPP:
        return WhatsAppRenderer(spec, account, letterhead, public_url)
    return EmailRenderer(spec, campaign_id, letterhead, public_url, attachments)
