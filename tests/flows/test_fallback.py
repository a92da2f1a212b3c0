"""A launch over two accounts reaches over the second whom the first cannot, and only them."""

import asyncio

import pytest

from flows.launch_campaign import launch_campaign
from flows.retry_campaign import retry_campaign
from messaging.errors import AccountError, InputError, NotSent
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.report import AccountTotals, Totals
from schemas.states import CampaignState
from tasks.accounts import add_account
from tests.fakes.scripted_smtp import ScriptedSmtp, says

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = [f"reader{n}@example.org" for n in range(4)]
NOBODY = says("550 5.1.1 no such mailbox")


@pytest.fixture
def two(spec: CampaignSpec) -> CampaignSpec:
    return spec.model_copy(update={"fallback": ["smtp-account/relay"]})


async def save_relay(port: int) -> None:
    values = {"host": "127.0.0.1", "port": str(port), "security": "none", "connections": "1"}
    await add_account("smtp", "relay", values | {"sender": "Relay <news@relay.example.org>"})


async def test_each_reader_is_reached_over_one_account_as_the_report_says(
    audience, two: CampaignSpec, account, artifact
):
    audience(*READERS)
    main, relay = ScriptedSmtp({"RCPT": [None, NOBODY, None, NOBODY]}), ScriptedSmtp({"RCPT": [NOBODY]})
    async with main.running(), relay.running():
        await account(main.port, connections="1")
        await save_relay(relay.port)
        report = await launch_campaign(two)
        again = await launch_campaign(two)

    assert [stored.rcpt_to for stored in main.stored] == [READERS[0], READERS[2]]
    assert [(stored.mail_from, stored.rcpt_to) for stored in relay.stored] == [
        ("news@relay.example.org", READERS[3])
    ]
    assert report.totals == Totals(accepted=3, rejected=1)
    assert (report.state, again) == (CampaignState.FINISHED, report)
    assert report.accounts == [
        AccountTotals(account="smtp-account/main", totals=Totals(accepted=2), fell_back=2),
        AccountTotals(account="smtp-account/relay", totals=Totals(accepted=1, rejected=1), fell_back=0),
    ]
    markdown = await artifact(f"campaign-{report.campaign_id}")
    assert "| smtp-account/relay | 2 | 1 | 1 | 0 | 0 | 0 |" in markdown.data


async def test_the_second_account_is_verified_and_then_left_alone_when_everybody_is_reached(
    audience, two: CampaignSpec, account
):
    audience(*READERS)
    main, relay = ScriptedSmtp(), ScriptedSmtp()
    async with main.running(), relay.running():
        await account(main.port)
        await save_relay(relay.port)
        report = await launch_campaign(two)

    assert report.totals == Totals(accepted=4)
    assert (relay.opened, "MAIL" in relay.verbs()) == (1, False)


@pytest.mark.parametrize("gone", ["removed", "away"])
async def test_an_account_to_fall_back_to_that_is_gone_is_refused_before_the_first_message(
    audience, two: CampaignSpec, server, account, campaigns_written, gone: str
):
    audience(*READERS)
    await account(server.port)
    if gone == "away":
        await save_relay(1)
    else:
        two = two.model_copy(update={"fallback": ["smtp-account/nowhere"]})

    with pytest.raises((InputError, NotSent)):
        await launch_campaign(two)

    assert (campaigns_written(), server.received()) == (0, 0)


async def test_a_second_account_that_cannot_go_on_pauses_the_campaign_and_a_retry_goes_on_there(
    audience, two: CampaignSpec, account, states
):
    audience(*READERS)
    main = ScriptedSmtp({"RCPT": [NOBODY]})
    relay = ScriptedSmtp({"MAIL": [says("550 5.7.60 you may not send as this sender")]})
    async with main.running(), relay.running():
        await account(main.port, connections="1")
        await save_relay(relay.port)
        with pytest.raises(AccountError, match=r"5\.7\.60"):
            await launch_campaign(two)
        assert states()[READERS[0]] == "queued"
        report = await retry_campaign(RetryRequest(campaign=two.name))

    assert (report.state, report.totals) == (CampaignState.FINISHED, Totals(accepted=4))
    assert [stored.rcpt_to for stored in relay.stored] == [READERS[0]]


async def test_launched_twice_at_once_everyone_gets_one_copy(audience, two: CampaignSpec, account):
    audience(*READERS)
    main, relay = ScriptedSmtp({"RCPT": NOBODY}), ScriptedSmtp()
    async with main.running(), relay.running():
        await account(main.port, connections="1")
        await save_relay(relay.port)
        small = two.model_copy(update={"batch_size": 1})
        one, other = await asyncio.gather(launch_campaign(small), launch_campaign(small))

    assert sorted(stored.rcpt_to for stored in relay.stored) == READERS
    assert one.totals == other.totals == Totals(accepted=4)
    assert one.accounts[0].fell_back == 4
