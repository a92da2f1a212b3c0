"""Audiences and campaigns on a real ledger, to be sent to the sandbox server."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.sending import CampaignRun
from messaging.channels.smtp import SmtpPool, SmtpSettings

Audience = Callable[..., None]
OpenRun = Callable[..., AbstractAsyncContextManager[CampaignRun]]


@pytest.fixture
def audience(ledger: Engine) -> Audience:
    """Make an audience of these addresses; a second call adds to it.

    `phones` are theirs in order; an empty one of either kind is none.
    """

    def make(
        *addresses: str,
        name: str = "customers",
        status: str = "subscribed",
        consent: str | None = "form",
        city: str | None = None,
        phones: Sequence[str] = (),
    ) -> None:
        with ledger.begin() as connection:
            connection.execute(
                text("INSERT INTO audiences (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name}
            )
            connection.execute(
                text("""
                    WITH made AS (
                        INSERT INTO contacts
                            (email_key, email, phone, name, status, consent_source, attributes)
                        SELECT nullif(lower(a), ''), nullif(a, ''), nullif(phone, ''),
                            initcap(split_part(coalesce(nullif(a, ''), 'reader'), '@', 1)), :status, :consent,
                            jsonb_strip_nulls(jsonb_build_object('City', CAST(:city AS text)))
                        FROM unnest(CAST(:addresses AS text[]), CAST(:phones AS text[])) AS p (a, phone)
                        RETURNING id)
                    INSERT INTO audience_members (audience_id, contact_id)
                    SELECT au.id, made.id FROM made, audiences au WHERE au.name = :name
                """),
                {
                    "addresses": list(addresses),
                    "phones": list(phones),
                    "status": status,
                    "consent": consent,
                    "city": city,
                    "name": name,
                },
            )

    return make


@pytest.fixture
def open_run(ledger: Engine) -> OpenRun:
    """Open a campaign's run over a server on loopback, for the account at one place."""

    @asynccontextmanager
    async def opened(
        campaign_id: int, port: int, connections: int = 4, leg: int = 0
    ) -> AsyncIterator[CampaignRun]:
        settings = SmtpSettings(host="127.0.0.1", port=port, security="none", connections=connections)
        sender = "Shop <news@shop.example.org>"
        async with SmtpPool(settings) as pool, CampaignRun(ledger, campaign_id, sender, pool, leg) as run:
            yield run

    return opened
