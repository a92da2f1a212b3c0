"""What webhooks must know of accounts."""

from http import HTTPStatus

from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from blocks.whatsapp_cloud_account import WhatsAppCloudAccount
from messaging.web.services import WhatsAppSecrets
from tasks.accounts import load
from tasks.guarding import guarded


async def whatsapp_hooks() -> list[WhatsAppSecrets]:
    """Return what tells Meta's webhooks from forged ones, of each account at the WhatsApp Cloud API.

    Raises:
        MessagingError: Prefect does not answer; the text says how.
    """
    with guarded():
        accounts = [(reference, await load(reference)) for reference in await _references()]
    return [
        WhatsAppSecrets(
            account=reference,
            phone_number_id=account.phone_number_id,
            app_secret=account.app_secret.get_secret_value(),
            verify_token=account.verify_token.get_secret_value(),
        )
        for reference, account in accounts
        if isinstance(account, WhatsAppCloudAccount)
    ]


async def _references() -> list[str]:
    slug = WhatsAppCloudAccount.get_block_type_slug()
    async with get_client() as client:
        try:
            documents = await client.read_block_documents_by_type(slug)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return []  # no such account was ever made
    return sorted(f"{slug}/{document.name}" for document in documents)
