"""Test messages sent, in no task run: Prefect would keep its parameters, which are addresses here."""

from messaging.campaign import testing
from messaging.campaign.testing import Trial, Tried
from tasks.accounts import load_account
from tasks.guarding import guarded


async def send_tests(trial: Trial) -> list[Tried]:
    """Send a trial's messages over its account and return what was said to each.

    Raises:
        InputError: There is no such account, or it cannot be used as it is.
        AccountError: The account cannot be opened.
        NotSent: The provider cannot be reached.
    """
    with guarded():
        account = await load_account(trial.account)
        async with account.open() as pool:
            return await testing.send_tests(
                trial, account.sender_header, pool, return_path=account.bounce_address
            )
