"""Accounts as Prefect blocks: every kind is made with a sentence, and the table tells how each is."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from prefect.settings import PREFECT_API_URL
from pydantic import Secret, SecretBytes, SecretStr
from sqlalchemy import Engine

import blocks
from flows.launch_campaign import launch_campaign
from messaging.errors import InputError
from messaging.storage import limits
from messaging.storage.limits import Limit
from schemas.accounts import CHANNELS, SECRETS, SOURCES
from schemas.accounts import KINDS as WORDS
from schemas.campaign import CampaignSpec
from tasks.accounts import KINDS, add_account, list_accounts, load_account, remove_account

OUTFLOW = Path(sys.executable).with_name("outflow")

Run = Callable[..., subprocess.CompletedProcess]

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def secrets(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and issubclass(annotation, (SecretStr, SecretBytes, Secret)):
        yield annotation
    for part in get_args(annotation):
        yield from secrets(part)


def test_every_kind_that_prefect_registers_can_be_made_and_sends_on_a_channel():
    assert {*KINDS.values(), blocks.AlertTarget} == {getattr(blocks, name) for name in blocks.__all__}
    assert tuple(KINDS) == WORDS
    assert [kind.get_block_type_slug() for kind in KINDS.values()] == [*CHANNELS, *SOURCES]


def test_every_secret_of_every_kind_is_refused_on_the_command_line():
    fields = {
        name
        for kind in KINDS.values()
        for name, field in kind.model_fields.items()
        if any(secrets(field.annotation))
    }

    assert fields == SECRETS


@pytest.mark.parametrize("kind", KINDS)
async def test_an_account_that_is_not_there_is_answered_with_the_command_that_makes_it(kind: str):
    slug = KINDS[kind].get_block_type_slug()
    with pytest.raises(InputError) as refusal:
        await load_account(f"{slug}/nowhere")

    command = f"there is no account '{slug}/nowhere'; make it with: outflow account add {kind} nowhere"
    assert str(refusal.value).startswith(command)
    required = {name for name, field in KINDS[kind].model_fields.items() if field.is_required()}
    named = {part.partition("=")[0] for part in str(refusal.value).removeprefix(command).split()}
    assert named == required


@pytest.mark.parametrize("kind", KINDS)
async def test_what_an_account_lacks_or_does_not_know_is_said(kind: str):
    required = [name for name, field in KINDS[kind].model_fields.items() if field.is_required()]
    if required:
        with pytest.raises(InputError, match=rf"is missing.*; {kind} accounts need {required[0]}="):
            await add_account(kind, "main", {})
    with pytest.raises(InputError, match=f"{kind} accounts have no 'colour': "):
        await add_account(kind, "main", {"colour": "red"})


@pytest.mark.parametrize("reference", ["main", "pigeon-account/main", "smtp-account/", "json/main"])
async def test_what_is_no_account_at_all_is_told_what_would_be(reference: str):
    with pytest.raises(InputError, match=r"is no account.* smtp-account"):
        await load_account(reference)


async def test_accounts_of_a_kind_that_nobody_used_before_can_be_made_at_once():
    """The kind is registered with the first one; whoever comes second must bear that it is there."""
    settings = {"phone_number_id": "106540352242922", "token": "canary-Zq9"}
    names = [f"at-once-{n}" for n in range(6)]
    made = await asyncio.gather(*(add_account("whatsapp-cloud", name, settings) for name in names))

    assert set(made) <= set(await list_accounts())
    await asyncio.gather(*(remove_account(reference) for reference in made))


@pytest.fixture
def outflow() -> Run:
    """Run a command beside the Prefect server of the tests, on their ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, *arguments],
            env=os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value(), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


async def test_the_commands_tell_how_accounts_are_and_what_they_may(
    outflow: Run, account, audience, spec: CampaignSpec, server, ledger: Engine
):
    audience("ada@example.org")
    main = await account(server.port)
    await launch_campaign(spec)
    with ledger.begin() as connection:
        limits.set_quota(connection, main, Limit(14.0, 50_000), None)
    allowed = "(the provider allows 14/s and 50,000 a day)"

    assert f"{main}  (no limit {allowed})" in outflow("account", "list").stdout.splitlines()
    met = f"sandbox.outflow.invalid:{server.port} answers, not encrypted, no login"
    assert outflow("account", "verify", main).stdout == f"{met}\n"
    [said] = json.loads(outflow("status", "--accounts", "--json").stdout)["accounts"]
    assert (said["account"], said["state"], said["identity"]) == (
        main,
        "disconnected",
        f"127.0.0.1:{server.port}",
    )
    assert (said["used"], said["per_day"], said["limits"]["provider"]["rate"]) == (1, 50_000, "14/s")
    shown = outflow("status", "--accounts").stdout
    assert main in shown
    assert f"no limit {allowed}" in shown
    assert outflow("status", "spring-offer", "--accounts").returncode == 2

    assert outflow("account", "remove", main).returncode == 0
    assert json.loads(outflow("status", "--accounts", "--json").stdout) == {"accounts": []}
    assert outflow("status", "--accounts").stdout.startswith("there is no account yet")
    await account(server.port)  # the new one of that name begins afresh
    [said] = json.loads(outflow("status", "--accounts", "--json").stdout)["accounts"]
    assert (said["state"], said["limits"]["provider"]["rate"]) == (None, None)


async def test_the_table_of_accounts_tells_how_each_was_left(
    audience, spec: CampaignSpec, server, account, artifact, ledger: Engine
):
    audience("ada@example.org", "bo@example.org", "nobody.ed@example.org")
    main = await account(server.port)
    spare = await add_account("smtp", "spare", {"host": "127.0.0.1", "sender": "news@example.org"})
    with ledger.begin() as connection:
        limits.set_quota(connection, spare, Limit(14.0, 50_000), None)
    try:
        await launch_campaign(spec)
    finally:
        await remove_account(spare)

    table = await artifact("accounts")
    rows = {row["account"]: row for row in json.loads(table.data)}
    assert table.type == "table"
    assert rows[main]["state"] == "disconnected"
    assert rows[main]["identity"] == f"127.0.0.1:{server.port}"
    assert rows[main]["last 24 h"] == "3"
    assert rows[spare] == {
        "account": spare,
        "state": "not used yet",
        "identity": "",
        "limits": "no limit (the provider allows 14/s and 50,000 a day)",
        "last 24 h": "0 of 50,000",
        "last seen": "",
    }
    assert not any("@" in cell for row in rows.values() for cell in row.values())
