"""A launch looks at everything first, keeps what it found, and sends nothing when anything is in the way."""

import re

import pytest
from sqlalchemy import Engine, text

from flows.launch_campaign import launch_campaign
from flows.start_campaign import start_campaign
from messaging.campaign.scheduling import keep
from messaging.errors import AccountError, InputError
from schemas.campaign import CampaignSpec, StartRequest
from schemas.states import CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

KEY = "campaign-preflight-"


def verdicts(markdown: str) -> dict[str, str]:
    """Return the verdict of each line of the artifact."""
    return {
        what: verdict
        for verdict, what in re.findall(r"^\| [✗!?✓] (\w+) \| ([\w ]+) \|", markdown, re.MULTILINE)
    }


async def test_a_launch_keeps_what_its_preflight_found_and_names_nobody(
    audience, spec: CampaignSpec, server, account, artifact
):
    audience("ada@example.org", "bob@example.com", city="Leeds")
    await account(server.port)
    named = spec.model_copy(update={"name": "Preflight One", "text": "Dear {{ name }} of {{ city }}"})

    report = await launch_campaign(named)

    assert report.state is CampaignState.FINISHED
    found = await artifact(f"{KEY}preflight-one")
    assert found.type == "markdown"
    assert found.data.startswith("# Preflight of Preflight One: ")
    lines = verdicts(found.data)
    assert (lines["audience"], lines["account"], lines["samples"]) == ("ok", "ok", "ok")
    assert (lines["postal address"], lines["DNS"]) == ("warn", "unknown")
    assert "2 recipients, of 2 contacts of 'customers'" in found.data
    assert "Dear «name» of «city»" in found.data
    assert "Subject: Hello «name»" in found.data
    assert re.search(r"\(https://localhost:8422/preview/[\w-]{44}\)", found.data)
    for word in ("ada", "bob", "@example.org", "@example.com", "Leeds"):
        assert word not in found.data


async def test_what_prefect_keeps_of_a_template_holds_no_address(
    audience, spec: CampaignSpec, server, account, artifact, caplog: pytest.LogCaptureFixture
):
    audience("ada@example.org")
    await account(server.port)
    html = '<p>{{ name }}</p><a href="http://shop.test/?for=ada@example.org">Look</a>'

    await launch_campaign(spec.model_copy(update={"name": "preflight-five", "html": html}))

    found = await artifact(f"{KEY}preflight-five")
    for kept in (caplog.text, found.data):
        assert "«address» leads into a network of yours" in kept
        assert "@example.org" not in kept


async def test_everything_that_is_in_the_way_is_named_and_nothing_is_written(
    audience, spec: CampaignSpec, server, account, artifact, campaigns_written
):
    audience("ada@example.org")
    await account(server.port)
    broken = spec.model_copy(
        update={"name": "preflight-two", "text": "{{ surname }}", "account": "smtp-account/nowhere"}
    )

    with pytest.raises(InputError, match="2 things are in the way") as failure:
        await launch_campaign(broken)

    assert "unknown merge field 'surname'" in str(failure.value)
    assert "there is no account 'smtp-account/nowhere'" in str(failure.value)
    assert (campaigns_written(), server.received()) == (0, 0)
    found = await artifact(f"{KEY}preflight-two")
    assert found.data.startswith("# Preflight of preflight-two: refused")
    assert verdicts(found.data) == {"campaign": "refuse", "account": "refuse"}


async def test_a_campaign_that_was_kept_is_looked_at_when_it_starts_with_the_files_it_was_kept_with(
    ledger: Engine, audience, spec: CampaignSpec, server, account, artifact, received, tmp_path
):
    audience("ada@example.org")
    await account(server.port)
    terms = tmp_path / "terms.pdf"
    terms.write_bytes(b"%PDF")
    kept = keep(
        ledger, spec.model_copy(update={"name": "preflight-three", "attachments": [str(terms)]}), "somebody"
    )
    terms.unlink()

    report = await start_campaign(StartRequest(campaign_id=kept.id))

    assert report.state is CampaignState.FINISHED
    assert received() == {"ada@example.org": 1}
    found = await artifact(f"{KEY}preflight-three")
    assert verdicts(found.data)["attachments"] == "ok"


async def test_a_planned_campaign_goes_on_without_its_audience_but_not_without_its_account(
    ledger: Engine, audience, spec: CampaignSpec, account
):
    audience("ada@example.org")
    smtp = ScriptedSmtp(logins={"news": "right"})
    async with smtp.running():
        await account(smtp.port, username="news", password="right")
        report = await launch_campaign(spec)
        with ledger.begin() as connection:
            connection.execute(text("UPDATE attempts SET state = 'queued', answered_at = NULL"))
            connection.execute(text("UPDATE campaigns SET state = 'running', finished_at = NULL"))
            connection.execute(text('UPDATE campaigns SET spec = spec || \'{"where": "no_such > 1"}\''))
        request = StartRequest(campaign_id=report.campaign_id)
        await account(smtp.port, username="news", password="wrong")
        with pytest.raises(AccountError, match="535"):
            await start_campaign(request)
        await account(smtp.port, username="news", password="right")
        with ledger.begin() as connection:
            connection.execute(text("UPDATE campaigns SET state = 'running', state_reason = NULL"))

        again = await start_campaign(request)

    assert again.totals.accepted == 1
    assert len(smtp.stored) == 2
