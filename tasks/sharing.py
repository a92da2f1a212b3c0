"""A campaign shared with further flow runs, each on another worker when there are as many."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from messaging.campaign import working
from messaging.storage.engine import engine
from schemas.campaign import SendRequest
from tasks.flow_runs import WITHDRAWN
from tasks.guarding import in_thread
from tasks.stopping import last_words

_log = logging.getLogger("messaging.sharing")  # the tree that Prefect forwards to the run's page

DEPLOYMENT: Final = "send-batches/send-batches"


@asynccontextmanager
async def shared(request: SendRequest) -> AsyncIterator[None]:
    """Have as many runs send a campaign as its definition names workers, while the block does so itself.

    The others are started and not waited for: whoever takes none up leaves all to this one, and those that
    have not begun when the block ends are cancelled. Prefect not answering changes nothing but that.
    """
    is_shared = request.batches is None and await _share(request.campaign_id)
    try:
        yield
    finally:
        if is_shared:
            async with last_words():
                await _withdraw(request.campaign_id)


async def _share(campaign_id: int) -> bool:
    """Start what is missing of the campaign's runs; say whether there are any."""
    wanted = await in_thread(lambda: working.further_runs(engine(), campaign_id))
    if wanted < 1:
        return False
    alone = f"campaign {campaign_id} has use for {wanted} more runs, but none is started"
    try:
        async with get_client() as client:
            if client.server_type.name == "EPHEMERAL":
                _log.warning("%s: there is no Prefect server that others could work for (outflow up)", alone)
                return False
            deployment = await client.read_deployment_by_name(DEPLOYMENT)
            waiting = len(await _waiting(client, campaign_id))
            for shard in range(waiting + 1, wanted + 1):
                await client.create_flow_run_from_deployment(
                    deployment.id,
                    parameters={"request": {"campaign_id": campaign_id, "shard": shard}},
                    tags=[_tag(campaign_id)],
                    idempotency_key=f"{runtime.flow_run.id}-{runtime.flow_run.run_count}-{shard}",
                )
    except ObjectNotFound:
        _log.warning("%s: there is no deployment %s (outflow init)", alone, DEPLOYMENT)
        return False
    except Exception as error:  # noqa: BLE001 - to be helped is no condition for sending
        _log.warning("%s: Prefect did not start others (%s)", alone, type(error).__name__)
        return True
    _log.info("campaign %d is sent by up to %d more runs", campaign_id, wanted)
    return True


async def _withdraw(campaign_id: int) -> None:
    """Cancel the runs that nobody has taken up: there is nothing left for them, or nothing to be done now."""
    try:
        async with get_client() as client:
            for run in await _waiting(client, campaign_id):
                because = "The campaign needs no more runs."
                await client.set_flow_run_state(run.id, Cancelled(name=WITHDRAWN, message=because))
    except Exception as error:  # noqa: BLE001 - taken up later, they find nothing to do and end
        _log.warning("runs that have not begun could not be cancelled (%s)", type(error).__name__)


async def _waiting(client: PrefectClient, campaign_id: int) -> list[FlowRun]:
    """Return the campaign's further runs that have not begun."""
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[_tag(campaign_id)]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        )
    )


def _tag(campaign_id: int) -> str:
    return f"shard-of-campaign-{campaign_id}"
