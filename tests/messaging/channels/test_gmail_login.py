"""Signing in at Google: consent in a browser, tokens that end, change and are shared, service accounts."""

import asyncio
import json
import logging
import traceback
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from messaging.channels.gmail import GmailPool
from messaging.channels.gmail_consent import Client, Consent, read_client, redirects, unheard_uri
from messaging.channels.gmail_login import SEND, Grant, Tokens
from messaging.errors import AccountError, InputError, MessagingError, NotSent
from schemas.states import AccountState, Outcome
from tests.fakes.gmail import EMAIL, MAILBOX, FakeGoogle, end_of
from tests.messaging.channels.gmail_provider import a_message, dispatched, settings


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    async with FakeGoogle().running() as running:
        yield running


class Kept:
    """Where tokens are kept, in memory."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.saved: list[tuple[Tokens, Tokens]] = []
        self.broken = False

    async def load(self) -> Tokens:
        if self.broken:
            raise RuntimeError("canary")
        return self.tokens

    async def save(self, tokens: Tokens, before: Tokens) -> None:
        if self.broken:
            raise RuntimeError("canary")
        self.saved.append((tokens, before))
        self.tokens = tokens


async def sent(google: FakeGoogle, store: Kept | None = None, times: int = 1, **identity: object):
    there = settings(google)
    identity = {"tokens": store.tokens} | identity if store else identity
    there = replace(there, identity=replace(there.identity, **identity))
    async with GmailPool(there, store) as pool, pool.sender() as sender:
        for _ in range(times):
            receipt = await sender.send(a_message(), dispatched)
        return receipt


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_a_token_of_an_earlier_process_is_used(google: FakeGoogle):
    google.access_tokens.add("earlier")

    receipt = await sent(google, tokens=Tokens(google.a_refresh_token(), "earlier", in_an_hour()))

    assert (receipt.outcome, google.asked("/token")) == (Outcome.ACCEPTED, 0)


@pytest.mark.parametrize("minutes", [-60, 4])
async def test_a_token_that_ends_soon_is_not(google: FakeGoogle, minutes: int):
    google.access_tokens.add("earlier")
    ends = datetime.now(UTC) + timedelta(minutes=minutes)

    receipt = await sent(google, tokens=Tokens(google.a_refresh_token(), "earlier", ends))

    assert (receipt.outcome, google.asked("/token")) == (Outcome.ACCEPTED, 1)


async def test_tokens_that_end_are_renewed_between_messages(google: FakeGoogle):
    google.token_seconds = 60

    receipt = await sent(google, times=3)

    assert (receipt.outcome, google.asked("/token"), len(google.messages)) == (Outcome.ACCEPTED, 3, 3)


async def test_new_tokens_are_kept_with_what_they_replace(google: FakeGoogle):
    store = Kept(before := Tokens(google.a_refresh_token()))

    await sent(google, store)

    [(kept, replaced)] = store.saved
    assert replaced == before
    assert kept.refresh_token == before.refresh_token
    assert kept.access_token in google.access_tokens
    assert kept.is_fresh


async def test_a_refresh_token_that_google_changes_is_not_lost(google: FakeGoogle):
    google.rotates = True
    google.token_seconds = 60
    store = Kept(before := Tokens(google.a_refresh_token()))

    receipt = await sent(google, store, times=3)

    assert receipt.outcome is Outcome.ACCEPTED
    assert store.tokens.refresh_token in google.refresh_tokens
    assert before.refresh_token not in google.refresh_tokens


async def test_who_signed_in_anew_meanwhile_is_believed(google: FakeGoogle):
    store = Kept(Tokens("withdrawn"))
    store.tokens = Tokens(google.a_refresh_token())

    receipt = await sent(google, store, tokens=Tokens("withdrawn"))

    assert receipt.outcome is Outcome.ACCEPTED
    assert [before.refresh_token in google.refresh_tokens for _, before in store.saved] == [True]


async def test_a_withdrawn_consent_says_what_to_run(google: FakeGoogle):
    store = Kept(Tokens("canary-withdrawn"))

    with pytest.raises(
        AccountError, match="withdrawn or has expired: run outflow gmail login news"
    ) as refused:
        await sent(google, store)

    assert "canary" not in str(refused.value)
    assert (google.asked("/token"), google.messages, store.saved) == (1, [], [])


async def test_tokens_that_cannot_be_kept_stop_nobody(google: FakeGoogle, caplog: pytest.LogCaptureFixture):
    store = Kept(Tokens(google.a_refresh_token()))
    store.broken = True

    receipt = await sent(google, store)

    assert receipt.outcome is Outcome.ACCEPTED
    assert "could not be stored (RuntimeError)" in caplog.text
    assert "canary" not in caplog.text


async def test_a_stored_login_that_cannot_be_read_leaves_the_refusal(google: FakeGoogle):
    store = Kept(Tokens("withdrawn"))
    store.broken = True

    with pytest.raises(AccountError, match="run outflow gmail login news"):
        await sent(google, store, tokens=Tokens("withdrawn"))


@pytest.mark.parametrize(
    ("said", "expected", "sentence"),
    [
        (
            (401, {"error": "invalid_client"}),
            AccountError,
            "does not know the client, or its secret is wrong",
        ),
        ((400, {"error": "deleted_client"}), AccountError, "the OAuth client was deleted"),
        ((400, {"error": "admin_policy_enforced"}), AccountError, "administrators do not let this program"),
        ((400, {"error": "canary_new", "error_description": "canary"}), AccountError, "refuses the login"),
        (
            (400, {"error": "invalid_grant", "error_subtype": "invalid_rapt"}),
            AccountError,
            "refuses the login",
        ),
        ((429, {"error": "rate"}), NotSent, "answered 429 to the login"),
        ((500, {"error": "internal_failure"}), NotSent, "answered 500 to the login"),
        ((200, b"<html>canary"), NotSent, "with something else"),
        ((200, {"canary": "no token"}), AccountError, "refuses the login"),
    ],
    ids=str,
)
async def test_what_the_token_endpoint_says(google: FakeGoogle, said, expected, sentence):
    google.token_answer = said

    with pytest.raises(expected, match=sentence) as refused:
        await sent(google)

    assert "canary" not in "".join(traceback.format_exception(refused.value))
    assert google.asked("/token") == 1


async def test_an_account_without_a_login_says_what_to_run(google: FakeGoogle):
    with pytest.raises(AccountError, match=r"nobody has signed in .*: run outflow gmail login news"):
        await sent(google, tokens=Tokens())


async def test_a_service_account_sends_for_its_subject(google: FakeGoogle):
    receipt = await sent(google, service_account=google.key_file, subject=MAILBOX)

    assert (receipt.outcome, google.asked("/token"), len(google.messages)) == (Outcome.ACCEPTED, 1, 1)


@pytest.mark.parametrize(
    ("subject", "sentence"),
    [
        ("", "name one in subject"),
        ("canary", "misspelt"),
        ("canary@example.com", f"Domain-wide delegation, add its client id with the scope {SEND}"),
    ],
)
async def test_a_subject_that_the_service_account_may_not_act_for(google: FakeGoogle, subject, sentence):
    with pytest.raises(AccountError, match=sentence) as refused:
        await sent(google, service_account=google.key_file, subject=subject)

    assert "canary" not in str(refused.value)


async def test_a_service_accounts_key_that_google_does_not_know(google: FakeGoogle):
    stranger = json.loads(FakeGoogle().key_file) | {"token_uri": f"{google.url}/token"}

    with pytest.raises(AccountError, match="whether the key was deleted"):
        await sent(google, service_account=json.dumps(stranger), subject=MAILBOX)


@pytest.mark.parametrize(
    "key",
    ["canary", "[]", "{}", '{"client_email": "c@x", "token_uri": "https://x", "private_key": "canary"}'],
)
async def test_what_is_no_key_is_not_repeated(google: FakeGoogle, key: str):
    with pytest.raises(AccountError, match="is not the JSON key of a service account") as refused:
        await sent(google, service_account=key, subject=MAILBOX)

    assert "canary" not in "".join(traceback.format_exception(refused.value))


async def test_a_refused_login_shows_in_the_pools_state(google: FakeGoogle):
    async with GmailPool(settings(google, refresh_token="withdrawn")) as pool, pool.sender() as sender:
        with pytest.raises(AccountError):
            await sender.send(a_message(), dispatched)
        assert pool.state is AccountState.AUTHENTICATION_FAILED


def browse(url: str) -> tuple[str, str]:
    """Open a page as a browser does; return where it ended and what it showed."""
    try:
        with urllib.request.urlopen(url) as page:  # noqa: S310 - of our own servers
            return page.url, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.url, error.read().decode()


async def consented(google: FakeGoogle) -> Grant:
    async with redirects() as waiting:
        consent = Consent(read_client(google.client_file), waiting.uri, MAILBOX)
        browser = asyncio.create_task(asyncio.to_thread(browse, consent.url))
        address = await waiting.answer_to(consent)
        _, shown = await browser
        assert "You can close this page" in shown
    return await asyncio.to_thread(consent.grant, address)


async def test_a_person_consents_in_a_browser(google: FakeGoogle):
    grant = await consented(google)

    assert grant.address == MAILBOX
    assert SEND in grant.scopes
    assert grant.tokens.refresh_token in google.refresh_tokens
    assert (await sent(google, tokens=grant.tokens)).outcome is Outcome.ACCEPTED
    assert google.asked("/token") == 1  # the consent's own access token was used


async def test_a_person_without_a_browser_here_brings_the_address(google: FakeGoogle):
    consent = Consent(read_client(google.client_file), unheard_uri())
    address = await end_of(consent.url)

    grant = await asyncio.to_thread(consent.grant, f"  {address}\n")

    assert grant.tokens.refresh_token in google.refresh_tokens


async def test_a_refused_consent_is_said(google: FakeGoogle):
    google.consents = False

    with pytest.raises(AccountError, match="access_denied: nothing was changed"):
        await consented(google)


async def test_a_consent_without_sending_is_not_kept(google: FakeGoogle):
    google.granted = f"openid {EMAIL}"

    with pytest.raises(AccountError, match="does not allow sending mail"):
        await consented(google)


async def test_only_the_answer_to_this_consent_is_taken(google: FakeGoogle):
    async with redirects() as waiting:
        consent = Consent(read_client(google.client_file), waiting.uri)
        answer = asyncio.create_task(waiting.answer_to(consent))
        await asyncio.sleep(0)
        for path in ("favicon.ico", "?code=forged", "?code=forged&state=forged", "?state="):
            _, shown = await asyncio.to_thread(browse, waiting.uri + path)
            assert "not an answer that Outflow waits for" in shown
        assert not answer.done()
        await asyncio.to_thread(browse, consent.url)
        assert (await answer).startswith(waiting.uri)


@pytest.mark.parametrize(
    "address", ["", "4/canary", "http://127.0.0.1:1/?code=canary&state=forged", "http://["]
)
async def test_an_address_of_another_consent_is_refused(google: FakeGoogle, address: str):
    consent = Consent(read_client(google.client_file), unheard_uri())

    with pytest.raises(InputError, match=r"copy all of it, from http:// to its end") as refused:
        await asyncio.to_thread(consent.grant, address)

    assert "canary" not in str(refused.value)
    assert google.asked("/token") == 0


async def test_a_code_is_worth_nothing_to_whoever_did_not_ask_for_it(google: FakeGoogle):
    victim = Consent(read_client(google.client_file), unheard_uri())
    code = (await end_of(victim.url)).partition("code=")[2].partition("&")[0]
    thief = Consent(read_client(google.client_file), unheard_uri())
    state = (await end_of(thief.url)).partition("state=")[2].partition("&")[0]

    with pytest.raises(AccountError, match=r"did not take the code \(invalid_grant\)"):
        await asyncio.to_thread(thief.grant, f"http://127.0.0.1:1/?state={state}&code={code}")


async def test_a_token_endpoint_that_is_away_during_a_login(google: FakeGoogle):
    client = read_client(google.client_file)
    consent = Consent(replace(client, token_uri="http://127.0.0.1:1/token"), unheard_uri())
    address = await end_of(consent.url)

    with pytest.raises(NotSent, match="cannot be reached"):
        await asyncio.to_thread(consent.grant, address)


async def test_a_login_goes_over_tls_only(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch):
    consent = Consent(read_client(google.client_file), unheard_uri())
    address = await end_of(consent.url)
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT")

    with pytest.raises(AccountError, match="token_uri must be https"):
        await asyncio.to_thread(consent.grant, address)


@pytest.mark.parametrize(
    "text", ["", "canary", "[]", '{"web": {"client_id": "canary"}}', '{"installed": {}}']
)
def test_what_is_no_client_file_is_refused_in_words(text: str):
    with pytest.raises(InputError, match="of type Desktop app") as refused:
        read_client(text)

    assert "canary" not in str(refused.value)


def test_a_client_of_the_console_needs_no_addresses():
    client = read_client('{"installed": {"client_id": "1", "client_secret": "canary"}}')

    assert client == Client("1", "canary")
    assert "canary" not in repr(client)
    assert client.auth_uri.startswith("https://accounts.google.com/")


async def test_no_code_or_token_of_a_login_is_logged(google: FakeGoogle, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    grant = await consented(google)
    google.granted = f"openid {EMAIL}"
    with pytest.raises(MessagingError) as refused:
        await consented(google)
    google.token_answer = (400, {"error": "invalid_grant", "error_description": "canary"})
    with pytest.raises(MessagingError) as failed:
        await consented(google)

    shown = [
        repr(grant),
        caplog.text,
        *("".join(traceback.format_exception(e.value)) for e in (refused, failed)),
    ]
    assert google.asked("/token") == 3
    assert "canary" not in "\n".join(shown)
