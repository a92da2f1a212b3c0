"""Accounts, as Prefect blocks."""

from prefect import task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from blocks import SmtpAccount
from blocks.account import Account
from messaging.errors import InputError
from tasks.guarding import guarded

KINDS: dict[str, type[Account]] = {"smtp": SmtpAccount}


async def load_account(reference: str) -> Account:
    """Return the account of a reference such as `smtp-account/main`.

    Raises:
        InputError: There is none; the text says how to make one.
    """
    try:
        found = await Block.aload(reference)  # by slug: only the base class dispatches
    except ValueError:
        kind, _, name = reference.partition("/")
        raise InputError(
            f"there is no account {reference!r}; make it with: "
            f"outflow account add {kind.removesuffix('-account')} {name} host=… sender=…"
        ) from None
    if not isinstance(found, Account):
        raise InputError(f"{reference!r} is a block, but no account: {', '.join(_slugs())} are")
    return found


@task(task_run_name="verify-{reference}", cache_policy=NO_CACHE)
async def verify_account(reference: str) -> str:
    """Connect and log in with an account; send nothing."""
    with guarded():
        account = await load_account(reference)
        return await account.verify()


async def add_account(kind: str, name: str, values: dict[str, str]) -> str:
    """Make or replace an account and return its reference.

    Raises:
        InputError: No such kind, or values that do not make an account of it.
    """
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
        first = error.errors(include_input=False, include_url=False)[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    await account.asave(name, overwrite=True)
    return f"{block_type.get_block_type_slug()}/{name}"


async def list_accounts() -> list[str]:
    """Return the references of all accounts, in order."""
    async with get_client() as client:
        found = []
        for slug in _slugs():
            try:
                documents = await client.read_block_documents_by_type(slug)
            except ObjectNotFound:
                continue  # no account of this kind was ever made
            found += [f"{slug}/{document.name}" for document in documents]
    return sorted(found)


async def remove_account(reference: str) -> None:
    """Delete an account.

    Raises:
        InputError: There is none.
    """
    try:
        await Block.adelete(reference)
    except ValueError:
        raise InputError(f"there is no account {reference!r}; `outflow account list` shows them") from None


def _slugs() -> list[str]:
    return [kind.get_block_type_slug() for kind in KINDS.values()]
