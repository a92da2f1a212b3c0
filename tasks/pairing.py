"""Linking a WhatsApp Web account to a phone, by a code that a person scans."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import acreate_image_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ObjectNotFound

from blocks.whatsapp_web_account import WhatsAppWebAccount
from messaging.errors import InputError
from schemas.states import AccountState
from tasks.accounts import load_account
from tasks.guarding import guarded

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient

    from messaging.channels.whatsapp_web_session import Group, Step

_log = logging.getLogger("messaging.pairing")  # the tree that Prefect forwards to the run's page

_HOW = (
    "On the phone open WhatsApp, Settings, Linked devices, Link a device, and scan this code. It is replaced "
    "every 20 to 60 seconds, and removed when the account is linked: whoever scans it links their own phone."
)

NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


async def follow_pairing(reference: str, show: "Callable[[Step], Awaitable[None]]") -> None:
    """Link an account to a phone, showing each step, until it is ready.

    Raises:
        InputError: There is no such account, it is off, or a library is missing.
        AccountError: WhatsApp refused, or nobody scanned a code in time.
        NotSent: WhatsApp cannot be reached.
    """
    with guarded():
        account = await _linked_account(reference)
        async with contextlib.aclosing(account.pairing()) as steps:
            async for step in steps:
                await show(step)


async def groups_of(reference: str) -> "list[Group]":
    """Return the groups that a linked account is in, by name.

    Raises:
        InputError: There is no such account, it is off, or a library is missing.
        AccountError: It is linked to no phone, or in use.
        NotSent: WhatsApp cannot be reached.
    """
    with guarded():
        return await (await _linked_account(reference)).groups()


async def _linked_account(reference: str) -> WhatsAppWebAccount:
    account = await load_account(reference)
    if not isinstance(account, WhatsAppWebAccount):
        raise InputError(f"{reference!r} is linked to no phone: only a whatsapp-web-account/NAME is")
    return account


@task(task_run_name="pair-{reference}", cache_policy=NO_CACHE)
async def pair_account(reference: str) -> None:
    """Link an account to a phone; the code to scan is an artifact while it is good for something."""
    async with _code_artifact(reference) as artifact:

        async def show(step: "Step") -> None:
            _log.info("%s: %s", reference, step.state)
            if step.code:
                await artifact.show(step.code)
            elif step.state is AccountState.AUTHENTICATED:
                await artifact.remove()

        await follow_pairing(reference, show)


class _CodeArtifact:
    """The code to scan as a picture on the run's page: gone with its use, from all that Prefect keeps.

    Prefect writes the data of an artifact with a key into an event when it is created and when it is deleted,
    and its client does so with each update; a bare request to the server does not.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None

    async def show(self, code: str) -> None:
        import segno  # noqa: PLC0415 - comes with the library of WhatsApp Web

        if self._id is None:
            self._id = await acreate_image_artifact(NOTHING, key=self._key, description=_HOW)
        async with get_client() as client:
            await _draw(client, self._id, segno.make_qr(code).png_data_uri(scale=6))

    async def remove(self) -> None:
        """Delete it, and what a killed run left of it."""
        self._id = None
        async with get_client() as client:
            mine = ArtifactFilter(key=ArtifactFilterKey(any_=[self._key]))
            for artifact in await client.read_artifacts(artifact_filter=mine):
                with contextlib.suppress(ObjectNotFound):
                    await _draw(client, artifact.id, NOTHING)
                    await client.delete_artifact(artifact.id)


async def _draw(client: "PrefectClient", artifact: "UUID", picture: str) -> None:
    await client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact}, json={"data": picture})


@contextlib.asynccontextmanager
async def _code_artifact(reference: str) -> AsyncIterator[_CodeArtifact]:
    artifact = _CodeArtifact(f"pair-{reference.replace('/', '-')}")
    try:
        yield artifact
    finally:
        await artifact.remove()
