"""What Prefect's server does by itself when the process of a run has died."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from messaging.storage.batches import LEASE_SECONDS

SILENCE: Final = timedelta(seconds=90)
"""Three heartbeats: with fewer, healthy runs of a busy server were called crashed (measured on 3.8.8)."""
AFTER_LEASES: Final = timedelta(seconds=LEASE_SECONDS + 5)
"""Before that, what the dead held may not be taken up."""

_SENDING: Final = ["launch-campaign", "start-campaign", "retry-campaign", "send-batches"]
# A suspended run is silent because it has no process: it waits for a person, or for its next try.
_QUIETS: Final = {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "AwaitingRetry")
}
# An approval's last heartbeat may come just after it was suspended; dispatch sees to one that has died.
_NOT_WATCHED: Final = {"approve-campaign"}
_BEAT: Final = "prefect.flow-run.heartbeat"
_BEGINNINGS: Final = {_BEAT, "prefect.flow-run.Running"}  # the first heartbeat may not get out any more
_RUNS: Final = {"prefect.resource.id": "prefect.flow-run.*"}


async def make_automations(pool: str) -> list[str]:
    """Make the automations for the flows deployed to a work pool, once each; return their names.

    One that is right is not touched: the server would forget which runs it waits to hear of.
    """
    async with get_client() as client:
        sweep = await client.read_deployment_by_name("sweep/sweep")
        flows = await client.read_flows(work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])))
        made = list(_automations(sweep.id, {flow.name for flow in flows} - _NOT_WATCHED))
        for automation in made:
            known = await client.read_automations_by_name(automation.name)
            if not known:
                await client.create_automation(automation)
            elif _differ(known[0], automation):
                await client.update_automation(known[0].id, automation)
    return [automation.name for automation in made]


def _differ(known: AutomationCore, wanted: AutomationCore) -> bool:
    return (known.description, known.trigger, known.actions) != (
        wanted.description,
        wanted.trigger,
        wanted.actions,
    )


def _of(flows: Collection[str]) -> dict[str, str | list[str]]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": sorted(flows)}


def _automations(sweep: UUID, watched: Collection[str]) -> Iterator[AutomationCore]:
    yield AutomationCore(
        name="outflow: silent runs have crashed",
        description="A run whose process died with its worker or machine seems to run for ever.",
        trigger=EventTrigger(
            match=_RUNS,
            match_related=_of(watched),  # others may beat slower
            for_each={"prefect.resource.id"},
            after=_BEGINNINGS,
            expect={_BEAT, *_QUIETS},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="Nothing was heard of its process for 90 seconds.",
            )
        ],
    )
    yield AutomationCore(
        name="outflow: sweep after a crash",
        description="What a crashed run was sending goes on as soon as its batches are free.",
        trigger=EventTrigger(
            match=_RUNS,
            match_related=_of(_SENDING),
            for_each={"prefect.resource.id"},
            expect={"prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(deployment_id=sweep, schedule_after=AFTER_LEASES)],
    )
