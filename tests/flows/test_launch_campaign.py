"""A launch sends each recipient one message, says so truly, and fails with one sentence."""

import asyncio
import json
import re

import pytest

from flows.launch_campaign import launch_campaign
from messaging.errors import AccountError, InputError, NotSent
from schemas.campaign import CampaignSpec
from schemas.report import Totals
from schemas.states import CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp, says

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ALL_KINDS = [
    "ada@example.org",
    "bo@example.org",
    "greylist.cy@example.org",
    "hangup.di@example.org",
    "nobody.ed@example.org",
    "drop.flo@example.org",
]
READERS = [f"reader{n}@example.org" for n in range(6)]


async def test_the_report_agrees_with_the_servers_own_count(
    audience, spec: CampaignSpec, server, account, received, states
):
    audience(*ALL_KINDS)
    await account(server.port)
    report = await launch_campaign(spec)

    assert report.state is CampaignState.FINISHED
    assert report.totals == Totals(accepted=4, rejected=1, unknown=1)
    # The sandbox keeps the message that it did not answer for.
    reached = {address for address, state in states().items() if state in {"accepted", "unknown"}}
    assert received() == dict.fromkeys(reached, 1)


async def test_launched_again_it_sends_nothing_and_reports_the_same(
    audience, spec: CampaignSpec, server, account
):
    audience(*ALL_KINDS)
    await account(server.port)
    first = await launch_campaign(spec)
    sent = server.received()
    second = await launch_campaign(spec)

    assert server.received() == sent
    assert second == first


async def test_launched_twice_at_once_everyone_gets_one_copy(
    audience, spec: CampaignSpec, server, account, received
):
    audience(*READERS)
    await account(server.port)
    spec = spec.model_copy(update={"batch_size": 2})
    one, other = await asyncio.gather(launch_campaign(spec), launch_campaign(spec))

    assert received() == dict.fromkeys(READERS, 1)
    assert (one.totals, one.state) == (other.totals, other.state)
    assert one.state is CampaignState.FINISHED


async def test_its_artifacts_hold_the_figures(audience, spec: CampaignSpec, server, account, artifact):
    audience(*ALL_KINDS)
    await account(server.port)
    report = await launch_campaign(spec.model_copy(update={"batch_size": 4}))

    progress = await artifact(f"campaign-{report.campaign_id}-progress")
    assert (progress.type, float(progress.data)) == ("progress", 100.0)
    assert "6 of 6 recipients done: 4 accepted, 1 rejected, 1 unknown" in progress.description
    table = await artifact(f"campaign-{report.campaign_id}-batches")
    rows = json.loads(table.data)
    assert table.type == "table"
    assert [(row["batch"], row["recipients"], row["left"]) for row in rows] == [(1, 4, 0), (2, 2, 0)]
    for state in ("accepted", "rejected", "unknown"):
        assert sum(row[state] for row in rows) == getattr(report.totals, state)
    markdown = await artifact(f"campaign-{report.campaign_id}")
    assert markdown.type == "markdown"
    assert markdown.data.startswith("# Campaign spring-offer: finished")
    assert "**4 of 6** recipients accepted" in markdown.data


async def test_an_audience_member_without_a_value_for_a_merge_field_does_not_stop_the_others(
    audience, spec: CampaignSpec, server, account, states
):
    audience("ada@example.org", city="Leeds")
    audience("bo@example.org")
    await account(server.port)
    report = await launch_campaign(spec.model_copy(update={"subject": "News from {{ city }}"}))

    assert states() == {"ada@example.org": "accepted", "bo@example.org": "rejected"}
    assert report.state is CampaignState.FINISHED


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"account": "smtp-account/nowhere"}, "there is no account 'smtp-account/nowhere'"),
        ({"subject": "Hello {{ surname }}"}, "surname"),
        ({"audience": "nobody-knows"}, "there is no audience 'nobody-knows'"),
        ({"text": "nowhere/letter.txt"}, "letter.txt: no such file"),
    ],
    ids=["unknown account", "unknown merge field", "unknown audience", "missing template"],
)
async def test_what_cannot_be_sent_fails_with_a_sentence_before_anything_is_written(
    audience, spec: CampaignSpec, server, account, campaigns_written, change: dict[str, str], sentence: str
):
    audience(*READERS)
    await account(server.port)
    state = await launch_campaign(spec.model_copy(update=change), return_state=True)

    with pytest.raises(InputError, match=sentence) as failure:
        await state.aresult()
    assert str(failure.value) in state.message
    assert "\n" not in state.message
    assert (campaigns_written(), server.received()) == (0, 0)


async def test_a_refused_login_fails_with_a_sentence_before_anything_is_written(
    audience, spec: CampaignSpec, account, campaigns_written
):
    audience(*READERS)
    smtp = ScriptedSmtp(logins={"news": "right"})
    async with smtp.running():
        await account(smtp.port, username="news", password="wrong")
        with pytest.raises(AccountError, match="535") as failure:
            await launch_campaign(spec)

    assert "wrong" not in str(failure.value)
    assert smtp.verbs().count("AUTH") == 1  # tried more often, a wrong password locks accounts out
    assert (campaigns_written(), smtp.stored) == (0, [])


async def test_with_the_server_away_it_fails_with_a_sentence_before_anything_is_written(
    audience, spec: CampaignSpec, account, campaigns_written
):
    audience(*READERS)
    await account(1)
    with pytest.raises(NotSent, match=r"127\.0\.0\.1:1"):
        await launch_campaign(spec)

    assert campaigns_written() == 0


async def test_an_account_that_cannot_go_on_pauses_the_campaign_and_the_report_says_why(
    audience, spec: CampaignSpec, account, states, artifact, campaign_id
):
    audience(*READERS)
    smtp = ScriptedSmtp({"MAIL": says("550 5.7.60 you may not send as this sender")})
    async with smtp.running():
        await account(smtp.port, connections="1")
        state = await launch_campaign(spec, return_state=True)

    with pytest.raises(AccountError, match=r"5\.7\.60"):
        await state.aresult()
    assert set(states().values()) == {"queued"}
    report = await artifact(f"campaign-{campaign_id()}")
    assert report.data.startswith("# Campaign spring-offer: paused")
    assert "**Paused because**" in report.data
    assert "`outflow resume spring-offer`" in report.data


async def test_the_accounts_return_path_goes_into_the_envelope(audience, spec: CampaignSpec, account):
    audience(*READERS)
    smtp = ScriptedSmtp()
    async with smtp.running():
        await account(smtp.port, return_path="bounces@shop.example.org")
        report = await launch_campaign(spec)

    assert report.totals == Totals(accepted=len(READERS))
    senders = {one.mail_from for one in smtp.stored}
    assert len(senders) == len(READERS)
    assert all(re.fullmatch(r"bounces\+[0-9a-f]{32}@shop\.example\.org", sender) for sender in senders)
