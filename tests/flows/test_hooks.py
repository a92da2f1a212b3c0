"""What webhooks must know comes from the accounts that Prefect keeps."""

import pytest

from messaging.errors import MessagingError
from messaging.web.services import WhatsAppSecrets
from tasks import hooks
from tasks.accounts import add_account, remove_account
from tasks.hooks import whatsapp_hooks

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def test_the_secrets_of_every_cloud_account_are_read_and_show_nowhere():
    before = await whatsapp_hooks()
    made = [
        await add_account(
            "whatsapp-cloud",
            name,
            {
                "phone_number_id": number,
                "token": "EAAG",
                "app_secret": "canary-a",
                "verify_token": "canary-v",
            },
        )
        for name, number in (("hooks-one", "1065"), ("hooks-two", "1066"))
    ]
    found = await whatsapp_hooks()
    for reference in made:
        await remove_account(reference)

    assert [account for account in found if account not in before] == [
        WhatsAppSecrets("whatsapp-cloud-account/hooks-one", "1065", "canary-a", "canary-v"),
        WhatsAppSecrets("whatsapp-cloud-account/hooks-two", "1066", "canary-a", "canary-v"),
    ]
    assert "canary" not in repr(found)
    assert await whatsapp_hooks() == before


async def test_a_server_that_is_away_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch):
    def away() -> None:
        raise ConnectionError("canary")

    monkeypatch.setattr(hooks, "get_client", away)

    with pytest.raises(MessagingError) as told:
        await whatsapp_hooks()
    assert "canary" not in str(told.value)
