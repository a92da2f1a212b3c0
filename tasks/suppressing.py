"""Suppression lists of providers."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.ses_account import SesAccount
from messaging.errors import InputError
from messaging.feedback import ses_suppressions
from messaging.feedback.ses_suppressions import SuppressionSync
from messaging.storage.engine import engine
from tasks.accounts import load_account
from tasks.guarding import guarded, in_thread


@task(task_run_name="sync-suppressions-{reference}", cache_policy=NO_CACHE)
async def sync_suppressions(reference: str) -> SuppressionSync:
    """Mirror the suppression list of an account's provider and ours, both ways."""
    with guarded():
        account = await load_account(reference)
        if not isinstance(account, SesAccount):
            raise InputError(f"the provider of {reference} keeps no suppression list: Amazon SES does")
        return await ses_suppressions.sync_suppressions(
            await in_thread(engine), reference, await account.settings()
        )
