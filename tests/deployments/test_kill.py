"""A sender that is killed loses nobody and mails nobody twice."""

import csv
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.deployments.conftest import OUTFLOW

RECIPIENTS = 1500
KILLS = 3
CONNECTIONS = 4  # of the account

CAMPAIGN = """
name: killed
account: {account}
audience: crowd
subject: "Hello {{{{ name }}}}"
text: "Dear {{{{ name }}}}"
batch_size: 300
"""


def copies(outbox: Path) -> Counter[str]:
    """Count what the server holds, by its own note of the envelope: an oracle that shares no code with us."""
    kept = Counter()
    for file in (outbox / "new").iterdir():
        with file.open("rb") as lines:
            [recipient] = [line for line in lines if line.startswith(b"X-Sandbox-Rcpt-To:")]
        kept[recipient.split(b":", 1)[1].strip().decode()] += 1
    return kept


@pytest.fixture
def campaign(tmp_path: Path, account: str, outflow) -> Path:
    contacts = tmp_path / "crowd.csv"
    with contacts.open("w", newline="") as file:
        rows = [["name", "email"], *([f"Reader {n}", f"reader{n}@example.org"] for n in range(RECIPIENTS))]
        csv.writer(file).writerows(rows)
    imported = outflow("import", str(contacts), "--audience", "crowd", "--consent", "a form", "--json")
    assert imported.json["imported"] == RECIPIENTS, imported.err
    definition = tmp_path / "campaign.yaml"
    definition.write_text(CAMPAIGN.format(account=account))
    return definition


def test_killed_in_mid_batch_it_goes_on_with_what_is_missing(
    ledger: Engine, installation, server, outflow, campaign: Path
):
    chance = random.Random()  # noqa: S311 - moments, not secrets
    for kill in range(1, KILLS + 1):
        sender = subprocess.Popen(
            [OUTFLOW, "send", str(campaign), "--json"],
            env=installation.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        goal = chance.randint(RECIPIENTS * (2 * kill - 1) // 8, RECIPIENTS * 2 * kill // 8)
        while server.received() < goal:
            assert sender.poll() is None
            time.sleep(0.005)
        sender.send_signal(signal.SIGKILL)
        sender.wait()
        with ledger.begin() as connection:
            held = connection.execute(text("SELECT count(*) FROM batches WHERE lease_owner IS NOT NULL"))
            assert held.scalar_one() >= 1
            # Half a minute, made short: the dead sender's leases run out.
            connection.execute(text("UPDATE batches SET lease_expires_at = now() - interval '1 second'"))

    ended = outflow("retry", "killed", "--json")

    assert ended.code == 0, ended.err
    kept = copies(server.outbox)
    with ledger.begin() as connection:
        states = {
            row.address: row.state for row in connection.execute(text("SELECT address, state FROM attempts"))
        }
    assert len(states) == RECIPIENTS
    assert set(states.values()) <= {"accepted", "unknown"}
    assert max(kept.values()) == 1  # nobody twice
    assert all(kept[address] == 1 for address, state in states.items() if state == "accepted")  # nobody lost
    unknown = {address for address, state in states.items() if state == "unknown"}
    assert len(unknown) <= KILLS * CONNECTIONS
    assert ended.json["unknown"] == len(unknown)
    assert set(outflow("report", "killed", "--json").json["unknown_recipients"]) == unknown  # named
