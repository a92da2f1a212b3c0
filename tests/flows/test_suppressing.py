"""The command that mirrors a provider's suppression list."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
import typer
from sqlalchemy import Engine
from typer.testing import CliRunner

from blocks import SmtpAccount
from blocks.ses_account import SesAccount
from messaging.errors import InputError
from messaging.storage import suppressions
from outflow.suppressions import suppress_app
from schemas.states import Channel, SuppressionReason
from tasks.suppressing import sync_suppressions
from tests.fakes.ses import KEY_ID, REGION, SECRET, FakeSes

app = typer.Typer()
app.add_typer(suppress_app, name="suppress")


@pytest.fixture
def fake() -> Iterator[FakeSes]:
    """A stand-in with a loop of its own: the command runs one too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = FakeSes(suppressed={"ada@example.org": "BOUNCE"})
    stack = contextlib.AsyncExitStack()
    asyncio.run_coroutine_threadsafe(stack.enter_async_context(running.running()), loop).result(20)
    yield running
    asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def save(fake: FakeSes) -> None:
    account = SesAccount(
        region=REGION, sender="news@shop.example.org", access_key_id=KEY_ID, secret_access_key=SECRET,
        endpoint=fake.endpoint,
    )  # fmt: skip
    asyncio.run(account.asave("mirrored", overwrite=True))


def test_the_command_tells_what_it_did(ledger: Engine, fake: FakeSes):
    save(fake)
    with ledger.begin() as connection:
        suppressions.add(
            connection, Channel.EMAIL, {"bob@example.org": SuppressionReason.COMPLAINED}, "mailbox"
        )

    as_json = CliRunner().invoke(app, ["suppress", "sync", "ses-account/mirrored", "--json"])
    for_people = CliRunner().invoke(app, ["suppress", "sync", "ses-account/mirrored"])

    assert json.loads(as_json.stdout) == {
        "account": "ses-account/mirrored", "listed": 1, "added_here": 1, "added_there": 1, "refused_there": 0,
        "removed_there": 0,
    }  # fmt: skip
    assert for_people.stdout == (
        "ses-account/mirrored: 2 addresses on its list, 0 of them new here, 0 of ours put there\n"
    )
    assert fake.suppressed == {"ada@example.org": "BOUNCE", "bob@example.org": "COMPLAINT"}


async def test_an_account_without_such_a_list_is_named():
    await SmtpAccount(host="127.0.0.1", sender="news@shop.example.org").asave("listless", overwrite=True)

    with pytest.raises(InputError, match="smtp-account/listless keeps no suppression list"):
        await sync_suppressions.fn("smtp-account/listless")
