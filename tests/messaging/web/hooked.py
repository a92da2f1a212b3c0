"""The application with its webhooks on a real socket, and what it wrote to the ledger."""

import asyncio
import contextlib
import io
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import uvicorn
from sqlalchemy import Engine, text

from messaging.web import sns, whatsapp
from messaging.web.application import Mount, application
from messaging.web.services import WhatsAppSecrets

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def hooked(
    engine: Engine,
    accounts: Iterable[WhatsAppSecrets] = (),
    mounts: Sequence[Mount] = (whatsapp.routes, sns.routes),
) -> AsyncIterator[str]:
    """Serve the application, and yield where."""

    async def load() -> list[WhatsAppSecrets]:
        return list(accounts)

    with tempfile.TemporaryDirectory() as home:
        app = application(engine, Path(home), mounts, load)
        config = uvicorn.Config(app, host=HOST, port=0, log_config=None, ws="none", access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:
                await asyncio.sleep(0.01)
                if serving.done():
                    serving.result()
            yield f"http://{HOST}:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body), headers=headers) as response,
    ):
        await response.read()
        return response.status


def rows(engine: Engine, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement), parameters)]


def people(engine: Engine, *phones: str) -> None:
    """Make an audience `customers` of people with these phone numbers."""
    with engine.begin() as connection:
        connection.execute(
            text("""
                WITH audience AS (INSERT INTO audiences (name) VALUES ('customers') RETURNING id),
                made AS (INSERT INTO contacts (phone, name, consent_source)
                    SELECT phone, 'Ada', 'form' FROM unnest(CAST(:phones AS text[])) AS p (phone)
                    RETURNING id)
                INSERT INTO audience_members (audience_id, contact_id)
                SELECT audience.id, made.id FROM made, audience
            """),
            {"phones": list(phones)},
        )


def mailed(engine: Engine, address: str, state: str = "accepted") -> UUID:
    """Make a campaign that has sent one mail; return the attempt's token."""
    with engine.begin() as connection:
        made = connection.execute(
            text("""
                WITH contact AS (INSERT INTO contacts (email_key, email, consent_source)
                    VALUES (:address, :address, 'form') RETURNING id),
                audience AS (INSERT INTO audiences (name) VALUES ('customers') RETURNING id),
                campaign AS (INSERT INTO campaigns (name, spec, audience_id, state)
                    SELECT 'spring', '{"account": "ses-account/main", "channel": "email"}', id, 'running'
                    FROM audience RETURNING id),
                batch AS (INSERT INTO batches (campaign_id, number) SELECT id, 1 FROM campaign
                    RETURNING id, campaign_id)
                INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, state,
                    dispatched_at, answered_at, message_id)
                SELECT campaign_id, batch.id, contact.id, :address, :address, :state, now(), now(),
                    '<1@example.org>'
                FROM batch, contact RETURNING token
            """),
            {"address": address, "state": state},
        )
        return made.scalar_one()
