"""The demonstration: a whole campaign on this machine, to a sandbox server that only keeps the messages."""

import csv
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from flows.import_contacts import import_contacts
from flows.launch_campaign import launch_campaign
from messaging import sandbox
from messaging.campaign.definition import load_campaign
from schemas.base import Schema
from schemas.contacts import ImportReport, ImportRequest
from schemas.report import CampaignReport
from tasks.accounts import add_account, remove_account

_SENDER = "Example Shop <news@shop.example.org>"
EXAMPLES = Path(__file__).parent.parent / "examples"
_BEHAVIOURS = {"nobody": 0.02, "greylist": 0.01}  # shares of generated contacts that the sandbox treats so


class DemoReport(Schema):
    """What the demonstration did, and what the sandbox received."""

    imported: ImportReport
    campaign: CampaignReport
    received: int = Field(description="Messages in the outbox, counted there and not in our ledger.")
    outbox: Path = Field(description="Folder of the received messages, a Maildir.")


async def run_demo(home: Path, recipients: int | None, say: Callable[[str], None]) -> DemoReport:
    """Import the example contacts, or generated ones, send the example campaign to a sandbox and report."""
    name = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    outbox = home / "outboxes" / name
    outbox.mkdir(parents=True, mode=0o700)
    with sandbox.running(outbox) as server, tempfile.TemporaryDirectory() as scratch:
        say(f"sandbox SMTP server on {server.host}:{server.port}, which keeps what it receives in {outbox}")
        contacts = EXAMPLES / "contacts.csv"
        if recipients is not None:
            contacts = Path(scratch) / "contacts.csv"
            _write_contacts(contacts, recipients)
        say(f"importing {contacts.name}")
        request = ImportRequest(
            files=[str(contacts)], audience=name, region="GB", consent="the demonstration's own readers"
        )
        [imported] = await import_contacts(request)
        say(f"sending to {imported.imported:,} contacts")
        spec = load_campaign(EXAMPLES / "campaign.yaml")
        changes: dict[str, object] = {"name": name, "audience": name}
        if recipients is not None:
            # The example's small batches and gentle pace suit its few hundred contacts.
            changes |= {"pacing": {}, "batch_size": "auto"}
        async with _account_at(server, name) as account:
            launched = spec.model_validate(spec.model_dump() | changes | {"account": account})
            campaign = await launch_campaign(launched)
        return DemoReport(imported=imported, campaign=campaign, received=server.received(), outbox=outbox)


@asynccontextmanager
async def _account_at(server: sandbox.Sandbox, name: str) -> AsyncIterator[str]:
    values = {"host": server.host, "port": str(server.port), "security": "none", "sender": _SENDER}
    account = await add_account("smtp", name, values)
    try:
        yield account
    finally:
        await remove_account(account)  # its server is about to stop


def _write_contacts(path: Path, count: int) -> None:
    chance = random.Random(count)  # noqa: S311 - the same file for the same count
    names = ["Ada", "Bo", "Chloé", "Dmitri", "Emeka", "Fatima", "Gül", "Hana", "Íñigo", "Jo"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Name", "E-mail", "Mobile", "City", "Plan"])
        for number in range(count):
            first = names[number % len(names)]
            behaviour = chance.choices([*_BEHAVIOURS, "reader"], [*_BEHAVIOURS.values(), 1.0])[0]
            writer.writerow(
                [
                    f"{first} {number}",
                    f"{behaviour}.{number}@example.org",
                    f"07400 {number % 1_000_000:06}",
                    chance.choice(["Leeds", "York", "Bath", ""]),
                    chance.choice(["free", "pro", "team"]),
                ]
            )
