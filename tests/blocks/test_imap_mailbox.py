"""The block of a mailbox hands on what it was given, and no more."""

import pytest
from pydantic import ValidationError

from blocks import ImapMailbox
from messaging.errors import AccountError, InputError
from tests.fakes.imap_servers import HOST, PASSWORD, USER
from tests.fakes.scripted_imap import ScriptedImap


def made(**values: object) -> ImapMailbox:
    return ImapMailbox(**{"host": HOST, "username": USER, "password": PASSWORD} | values)


async def test_verify_says_how_many_mails_are_there_or_why_not():
    with ScriptedImap().running() as server:
        met = await made(port=server.port, security="none").verify()
        with pytest.raises(AccountError, match="refused the login"):
            await made(port=server.port, security="none", password="another").verify()

    assert met.endswith("logged in as bounces; INBOX holds 0 mails, 0 of them unseen")


async def test_an_access_token_takes_the_place_of_a_password():
    with ScriptedImap(tokens={USER: "t0ken"}).running() as server:
        assert (
            "logged in"
            in await made(port=server.port, security="none", password="", access_token="t0ken").verify()
        )


def test_bounces_are_moved_only_when_that_is_chosen():
    assert made(processed_folder="Done").settings().processed_folder == ""
    assert made(processed_folder="Done", done="move").settings().processed_folder == "Done"


def test_its_settings_must_go_together():
    with pytest.raises(InputError, match="either a password"):
        made(password="").settings()
    with pytest.raises(InputError, match="either a password"):
        made(access_token="token").settings()
    with pytest.raises(InputError, match="https://"):
        made(password="", token_url="http://login.example.org/token", client_id="c").settings()
    token = {"token_url": "https://login.example.org/token", "client_id": "c", "client_secret": "s"}
    assert made(password="", **token).settings().access_token is not None


@pytest.mark.parametrize(
    "wrong", [{"host": "imap example"}, {"port": 0}, {"security": "ssl"}, {"done": "delete"}]
)
def test_values_that_are_none_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        made(**wrong)


def test_every_field_is_described_and_no_secret_is_shown():
    fields = ImapMailbox.model_fields.items()

    assert [name for name, field in fields if not name.startswith("_") and not field.description] == []
    assert PASSWORD not in str(made()) + repr(made())
