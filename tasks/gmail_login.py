"""Signing in at Google, and keeping what came of it in the account's block."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from blocks.gmail_account import GmailAccount, alone_with, change, token_fields
from messaging.campaign.rendering import mailbox
from messaging.channels.gmail_consent import (
    Client,
    Consent,
    is_service_account,
    read_client,
    redirects,
    unheard_uri,
)
from messaging.channels.gmail_login import Grant
from messaging.errors import InputError, NotSent

LOGIN_SECONDS: Final = 600.0
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # what Prefect takes for a block document
_WHERE_FROM: Final = (
    "give --client-secrets FILE: the file of an OAuth client of type Desktop app, "
    "or the key of a service account"
)


@dataclass(frozen=True, slots=True)
class Login:
    """What was asked for on the command line."""

    name: str
    secrets_file: Path | None = None
    sender: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Terminal:
    """How the person at the terminal is reached."""

    show_page: Callable[[str], None]
    """Shows the page that they must open."""
    ask_address: Callable[[], str] | None = None
    """Asks for the address that their browser ended at; None: it runs on this machine and is waited for."""


async def log_in(login: Login, terminal: Terminal) -> tuple[str, str]:
    """Sign in, store the login in the account, made when there is none, and return its reference and who.

    All other fields of an account that there is stay as they are.

    Raises:
        InputError: Something is missing or wrong; the text says what.
        AccountError: The person or Google refused; nothing was changed.
        NotSent: Google cannot be reached, or nobody came back from it.
    """
    if not _NAME.fullmatch(login.name):
        raise InputError(
            f"{login.name!r} is no name for an account: use lower-case letters, digits and dashes"
        )
    account = await _stored(login.name)
    text = await asyncio.to_thread(_text, login.secrets_file) if login.secrets_file else ""
    if account is None and not login.sender:
        raise InputError(
            f"there is no account gmail-account/{login.name} yet: give --sender, who the reader sees, "
            "as in 'Shop <news@example.org>'"
        )
    sender = login.sender or (account.sender if account else "")
    _, address = mailbox("--sender", sender)
    if is_service_account(text):
        values = {"service_account": text, "subject": login.subject or address}
        values |= {"refresh_token": "", "access_token": ""}
        who = values["subject"]
        await _try(account, sender, values)
    else:
        client = read_client(text) if text else _client_of(account)
        grant = await _consented(client, login.subject or address, terminal)
        who = grant.address
        values = {
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "token_uri": client.token_uri,
            "service_account": "",
            **token_fields(grant.tokens),
        }
    values |= {"sender": sender}
    async with alone_with(login.name):
        if account is None:
            await GmailAccount.model_validate(values).asave(login.name)
        else:
            await change(login.name, values)
    return f"gmail-account/{login.name}", who


async def _stored(name: str) -> GmailAccount | None:
    try:
        return cast("GmailAccount", await GmailAccount.aload(name))
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file} cannot be read: {_WHERE_FROM}") from None


def _client_of(account: GmailAccount | None) -> Client:
    secret = account.client_secret.get_secret_value() if account else ""
    if account is None or not account.client_id or not secret:
        raise InputError(_WHERE_FROM)
    return Client(account.client_id, secret, token_uri=account.token_uri)


async def _try(account: GmailAccount | None, sender: str, values: dict[str, str]) -> None:
    """See whether a service account can sign in, before it is stored."""
    known = account.model_dump(include={"endpoint", "token_uri"}) if account else {}
    trial = GmailAccount.model_validate(known | values | {"sender": sender})
    await trial.verify()


async def _consented(client: Client, hint: str, terminal: Terminal) -> Grant:
    if terminal.ask_address is not None:
        consent = Consent(client, unheard_uri(), hint)
        terminal.show_page(consent.url)
        return await asyncio.to_thread(consent.grant, await asyncio.to_thread(terminal.ask_address))
    async with redirects() as waiting:
        consent = Consent(client, waiting.uri, hint)
        # In a thread: a browser in the terminal keeps it until it has come back to us.
        showing = asyncio.create_task(asyncio.to_thread(terminal.show_page, consent.url))
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                address = await waiting.answer_to(consent)
        except TimeoutError:
            raise NotSent(
                f"nobody came back from Google in {LOGIN_SECONDS / 60:.0f} minutes: "
                "when the browser is on another machine, add --no-browser"
            ) from None
        await showing
    return await asyncio.to_thread(consent.grant, address)
