"""Flow runs as Prefect's server knows them, with those that they are part of."""

from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import FlowRun

WITHDRAWN: Final = "Withdrawn"
"""The name of the cancelled state of a run that we have no more use for, which stops nothing else."""


class Lineage:
    """Flow runs and all that they are part of: a run that another one awaits is a task run of it."""

    def __init__(self, *runs: UUID) -> None:
        """Name the runs; nothing is read yet."""
        self._runs = set(runs)
        self._tasks_known: set[UUID] = set()

    def add(self, run: UUID) -> None:
        """Name another run."""
        self._runs.add(run)

    async def read(self) -> list[FlowRun]:
        """Read how they are now; those that were deleted are missing."""
        async with get_client() as client:
            while True:
                chosen = FlowRunFilter(id=FlowRunFilterId(any_=list(self._runs)))
                found = await client.read_flow_runs(flow_run_filter=chosen)
                tasks = {run.parent_task_run_id for run in found if run.parent_task_run_id is not None}
                if not (unknown := tasks - self._tasks_known):
                    return found
                within = await client.read_task_runs(
                    task_run_filter=TaskRunFilter(id=TaskRunFilterId(any_=list(unknown)))
                )
                self._tasks_known |= {task.id for task in within}
                around = {task.flow_run_id for task in within if task.flow_run_id is not None}
                if around <= self._runs:
                    return found
                self._runs |= around


def is_cancelled(run: FlowRun) -> bool:
    """Say whether a person has cancelled a run, or is about to."""
    state = run.state
    return state is not None and state.name != WITHDRAWN and (state.is_cancelled() or state.is_cancelling())
