"""The suppression list of an Amazon SES account and ours become the same, whoever had what."""

import asyncio

import pytest
from sqlalchemy import Engine, text

from messaging.errors import AccountError, NotSent
from messaging.feedback.ses_suppressions import SuppressionSync, sync_suppressions
from messaging.storage import suppressions
from schemas.states import Channel, SuppressionReason
from tests.fakes.ses import FakeSes, Fault
from tests.messaging.channels.ses_provider import settings

ACCOUNT = "ses-account/main"


@pytest.fixture
async def fake():
    async with FakeSes().running() as running:
        yield running


async def synced(ledger: Engine, fake: FakeSes, between: float = 0.0) -> SuppressionSync:
    return await sync_suppressions(ledger, ACCOUNT, settings(fake), between)


def suppress(ledger: Engine, source: str = "mailbox", **reasons: str) -> None:
    with ledger.begin() as connection:
        keys = {f"{name}@example.org": SuppressionReason(reason) for name, reason in reasons.items()}
        suppressions.add(connection, Channel.EMAIL, keys, source)


def kept(ledger: Engine) -> dict[str, tuple[str, str]]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT address_key, reason, source FROM suppressions"))
        return {row.address_key: (row.reason, row.source) for row in rows}


async def test_their_list_becomes_ours(ledger: Engine, fake: FakeSes):
    fake.suppressed = {
        "Ada@Example.org": "BOUNCE",
        "bob@example.org": "COMPLAINT",
        "eve@münchen.example": "BOUNCE",
    }
    suppress(ledger, bob="unsubscribed")

    done = await synced(ledger, fake)

    assert (done.listed, done.added_here, done.added_there) == (3, 2, 0)
    assert kept(ledger) == {
        "bob@example.org": ("unsubscribed", "mailbox"),
        "ada@example.org": ("bounced", f"ses:{ACCOUNT}"),
        "eve@xn--mnchen-3ya.example": ("bounced", f"ses:{ACCOUNT}"),
    }


async def test_our_bounces_and_complaints_become_theirs(ledger: Engine, fake: FakeSes):
    suppress(ledger, ada="bounced", bob="complained", eve="unsubscribed", joe="manual")

    done = await synced(ledger, fake)

    assert fake.suppressed == {"ada@example.org": "BOUNCE", "bob@example.org": "COMPLAINT"}
    assert (done.added_there, done.refused_there) == (2, 0)


async def test_doing_it_again_does_nothing(ledger: Engine, fake: FakeSes):
    fake.suppressed = {"Ada@example.org": "BOUNCE"}
    suppress(ledger, bob="complained")
    await synced(ledger, fake)
    before = dict(fake.suppressed)

    done = await synced(ledger, fake)

    assert done == SuppressionSync(
        account=ACCOUNT, listed=2, added_here=0, added_there=0, refused_there=0, removed_there=0
    )
    assert fake.suppressed == before
    assert fake.asked["PutSuppressedDestination"] == 1


async def test_what_somebody_removed_there_is_not_put_back(ledger: Engine, fake: FakeSes):
    fake.suppressed = {"ada@example.org": "BOUNCE"}
    await synced(ledger, fake)
    fake.suppressed.clear()

    done = await synced(ledger, fake)

    assert (done.added_there, done.removed_there) == (0, 1)
    assert fake.suppressed == {}
    assert "ada@example.org" in kept(ledger)
    assert done.sentence.endswith("1 removed there and kept here")


async def test_a_long_list_comes_in_pages(ledger: Engine, fake: FakeSes):
    fake.largest_page = 100
    fake.suppressed = {f"p{number}@example.org": "BOUNCE" for number in range(250)}

    done = await synced(ledger, fake)

    assert (done.listed, done.added_here, len(kept(ledger))) == (250, 250, 250)
    assert fake.asked["ListSuppressedDestinations"] == 3


async def test_actions_are_no_more_than_ses_takes(ledger: Engine, fake: FakeSes):
    fake.actions_per_second = 4.0
    fake.largest_page = 1
    fake.suppressed = {"ada@example.org": "BOUNCE", "bob@example.org": "BOUNCE"}
    suppress(ledger, eve="complained", joe="bounced")

    done = await synced(ledger, fake, between=0.3)

    assert (done.added_here, done.added_there) == (2, 2)


async def test_an_address_that_they_refuse_does_not_stop_the_others(ledger: Engine, fake: FakeSes):
    suppress(ledger, jürgen="bounced", bob="bounced")

    done = await synced(ledger, fake)

    assert (done.added_there, done.refused_there) == (1, 1)
    assert fake.suppressed == {"bob@example.org": "BOUNCE"}


async def test_broken_off_it_goes_on_where_it_was(ledger: Engine, fake: FakeSes):
    suppress(ledger, ada="bounced", bob="bounced", eve="bounced")
    doing = asyncio.create_task(synced(ledger, fake, between=0.3))
    async with asyncio.timeout(20):
        while not fake.suppressed:  # noqa: ASYNC110 - the stand-in signals nothing
            await asyncio.sleep(0.01)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    left = 3 - len(fake.suppressed)

    done = await synced(ledger, fake)

    assert left > 0
    assert done.added_there == left
    assert len(fake.suppressed) == 3


async def test_a_policy_without_the_list_is_named(ledger: Engine, fake: FakeSes):
    fake.denied = {"ListSuppressedDestinations"}

    with pytest.raises(AccountError, match="does not allow ses:ListSuppressedDestinations"):
        await synced(ledger, fake)

    assert kept(ledger) == {}


async def test_a_question_without_an_answer_is_asked_once(ledger: Engine, fake: FakeSes):
    fake.faults["ListSuppressedDestinations"] = Fault(body=b"", status=502)

    with pytest.raises(NotSent, match="502 without a word of SES"):
        await synced(ledger, fake)

    assert fake.asked["ListSuppressedDestinations"] == 1
