"""Everything that must exist before a flow can run, made when it is missing; safe to repeat."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from blocks.alert_target import AlertTarget
from deployments.automations import make_automations
from deployments.schedules import reconcile
from messaging.errors import InputError, MessagingError
from messaging.storage.engine import engine
from tasks.accounts import KINDS
from tasks.guarding import in_thread

WORK_POOL = "outflow"
SENDING_QUEUE = "sending"  # of the pool: in prefect.yaml the runs among which a campaign is shared
ROOT = Path(__file__).parent.parent


async def bootstrap() -> AsyncIterator[str]:
    """Do each step and yield a line that says it is done.

    Raises:
        DatabaseError: The ledger's database is not there.
        InputError: `prefect.yaml` is not where Outflow is installed.
        MessagingError: Prefect refused the deployments; its words are in the text.
    """
    await in_thread(engine)
    yield "the ledger's schema is up to date"
    for kind, block_type in KINDS.items():
        await block_type.aregister_type_and_schema()
        yield f"block type {block_type.get_block_type_slug()} is registered: accounts of kind {kind}"
    await AlertTarget.aregister_type_and_schema()
    yield f"block type {AlertTarget.get_block_type_slug()} is registered: where alerts go"
    yield await _make_work_pool()
    await in_thread(_deploy_all, await _api_url())
    yield "the deployments of prefect.yaml are deployed"
    async for done in reconcile(ROOT):
        yield done
    for automation in await make_automations(WORK_POOL):
        yield f"automation is there: {automation}"


async def _make_work_pool() -> str:
    async with get_client() as client:
        try:
            await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
        except ObjectAlreadyExists:
            return f"work pool {WORK_POOL} is there"
    return f"work pool {WORK_POOL} is made"


async def _api_url() -> str:
    async with get_client() as client:
        return str(client.api_url)


def _deploy_all(api_url: str) -> None:
    if not (ROOT / "prefect.yaml").exists():
        raise InputError(f"there is no prefect.yaml in {ROOT}: run Outflow from a clone of its repository")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": api_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MessagingError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-500:]}")
