"""Accounts, as Prefect blocks."""

import re
from http import HTTPStatus
from typing import Final

from prefect import task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from pydantic import ValidationError

from blocks import (
    GmailAccount,
    ImapMailbox,
    SesAccount,
    SesQueue,
    SmtpAccount,
    WhatsAppCloudAccount,
    WhatsAppWebAccount,
)
from blocks.account import Account, SendingAccount
from messaging.errors import InputError
from schemas.accounts import CHANNELS, SECRETS
from schemas.problems import first_problem
from tasks.guarding import guarded

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # what Prefect takes for a block document

KINDS: Final[dict[str, type[Account]]] = {
    "smtp": SmtpAccount,
    "gmail": GmailAccount,
    "ses": SesAccount,
    "whatsapp-cloud": WhatsAppCloudAccount,
    "whatsapp-web": WhatsAppWebAccount,
    "imap-mailbox": ImapMailbox,
    "ses-queue": SesQueue,
}


async def load_account(reference: str) -> SendingAccount:
    """Return the account of a reference such as `smtp-account/main`, which campaigns are sent over.

    Raises:
        InputError: There is none; the text says how to make one.
    """
    account = await load(reference)
    if not isinstance(account, SendingAccount):
        raise InputError(f"{reference!r} sends nothing: {', '.join(CHANNELS)} do")
    return account


async def load(reference: str) -> Account:
    """Return the account, mailbox or queue of a reference such as `imap-mailbox/bounces`.

    Raises:
        InputError: There is none; the text says how to make one.
    """
    try:
        found = await Block.aload(reference)  # by slug: only the base class dispatches
    except ValueError:
        slug, _, name = reference.partition("/")
        if not name or slug not in _slugs():
            raise InputError(
                f"{reference!r} is no account: write its kind and name, as in {_slugs()[0]}/main; "
                f"kinds are {', '.join(_slugs())}"
            ) from None
        kind = next(kind for kind, block_type in KINDS.items() if block_type.get_block_type_slug() == slug)
        raise InputError(
            f"there is no account {reference!r}; make it with: "
            f"{' '.join(['outflow account add', kind, name, *_required(KINDS[kind])])}"
        ) from None
    if not isinstance(found, Account):
        raise InputError(f"{reference!r} is a block, but no account: {', '.join(_slugs())} are")
    return found


@task(task_run_name="verify-{reference}", cache_policy=NO_CACHE)
async def verify_account(reference: str) -> str:
    """Connect and log in with an account; send nothing."""
    with guarded():
        account = await load(reference)
        return await account.verify()


async def add_account(kind: str, name: str, values: dict[str, str]) -> str:
    """Make or replace an account and return its reference.

    Raises:
        InputError: No such kind, or values that do not make an account of it.
    """
    refuse_bad_name(name, "an account")
    if kind not in KINDS:
        raise InputError(f"there is no account kind {kind!r}: {', '.join(KINDS)}")
    block_type = KINDS[kind]
    fields = {field for field in block_type.model_fields if not field.startswith("_")}
    unknown = sorted(values.keys() - fields)
    if unknown:
        raise InputError(f"{kind} accounts have no {unknown[0]!r}: {', '.join(sorted(fields))}")
    try:
        account = block_type.model_validate(values)
    except ValidationError as error:
        missing = any(problem["type"] == "missing" for problem in error.errors(include_input=False))
        needed = f"; {kind} accounts need {' '.join(_required(block_type))}" if missing else ""
        raise InputError(f"{first_problem(block_type, error)}{needed}") from None
    await save(account, name)
    return f"{block_type.get_block_type_slug()}/{name}"


def refuse_bad_name(name: str, what: str) -> None:
    """Say that a block cannot have this name; `what` is what it would name.

    Raises:
        InputError: Prefect does not take it.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for {what}: use lower-case letters, digits and dashes")


async def save(block: Block, name: str) -> None:
    """Save a block, in place of the one of that name."""
    try:
        await block.asave(name, overwrite=True)
    except ObjectAlreadyExists:  # another process registered this kind, or saved this block, just now
        await block.asave(name, overwrite=True)


async def list_accounts() -> list[str]:
    """Return the references of all accounts, in order."""
    return sorted([f"{slug}/{name}" for slug in _slugs() for name in await names_of(slug)])


async def names_of(slug: str) -> list[str]:
    """Return the names of the blocks of a type, in order."""
    async with get_client() as client:
        try:
            documents = await client.read_block_documents_by_type(slug)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return []  # none of this type was ever made
    return sorted(str(document.name) for document in documents)


async def remove_account(reference: str) -> None:
    """Delete an account.

    Raises:
        InputError: There is none.
    """
    if reference.partition("/")[0] not in _slugs():
        raise InputError(f"{reference!r} is no account: write {_slugs()[0]}/NAME")
    try:
        await Block.adelete(reference)
    except ValueError:
        raise InputError(f"there is no account {reference!r}; `outflow account list` shows them") from None


def _required(block_type: type[Account]) -> list[str]:
    """Return the settings that an account cannot be made without, as they are written."""
    fields = block_type.model_fields.items()
    return [f"{name}={'@env:' * (name in SECRETS)}…" for name, field in fields if field.is_required()]


def _slugs() -> list[str]:
    return [kind.get_block_type_slug() for kind in KINDS.values()]
