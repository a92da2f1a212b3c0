"""What prefect.yaml says of times: Prefect's own schedules, and recurring campaigns defined in it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import PlaceholderType, find_placeholders
from pydantic import ValidationError

from messaging.errors import InputError
from schemas.problems import first_problem
from schemas.schedule import ScheduleSpec
from tasks.recurring import keep_schedule

_DEFINES: Final = "flows.add_schedule:add_schedule"


async def reconcile(root: Path) -> AsyncIterator[str]:
    """Bring Prefect's schedules and the ledger's in line with prefect.yaml, and yield what was done.

    `prefect deploy` leaves a schedule running that has left the file: those that have a slug, as all of the
    file do, are deleted. A recurring campaign that cannot be kept, perhaps as its audience is not there yet,
    holds nothing else up; one that has left the file stays in the ledger, until it is removed there.
    """
    deployments = yaml.safe_load((root / "prefect.yaml").read_text("utf-8"))["deployments"]
    async with get_client() as client:
        for deployment in deployments:
            for slug in await _delete_others(client, deployment):
                yield f"schedule {slug} of {deployment['name']}, which has left prefect.yaml, is deleted"
        for deployment in deployments:
            if deployment["entrypoint"] == _DEFINES and deployment.get("parameters"):
                yield await _define(client, deployment, root)


async def _delete_others(client: PrefectClient, deployment: dict[str, Any]) -> list[str]:
    """Delete the schedules of a deployment that are not in the file any more, and return their slugs."""
    wanted = {schedule.get("slug") for schedule in deployment.get("schedules") or []}
    deleted = []
    found = await client.read_deployment_by_name(_full_name(deployment))
    for schedule in await client.read_deployment_schedules(found.id):
        if schedule.slug and schedule.slug not in wanted:
            await client.delete_deployment_schedule(found.id, schedule.id)
            deleted.append(schedule.slug)
    return deleted


def _full_name(deployment: dict[str, Any]) -> str:
    """Return the name that Prefect has for a deployment: flows are called as their functions, with dashes."""
    flow = str(deployment["entrypoint"]).rpartition(":")[2].replace("_", "-")
    return f"{flow}/{deployment['name']}"


async def _define(client: PrefectClient, deployment: dict[str, Any], root: Path) -> str:
    """Keep the recurring campaign that a deployment defines, with the values that Prefect has put in."""
    try:
        _refuse_emptied(deployment["parameters"])
        found = await client.read_deployment_by_name(_full_name(deployment))
        status = await keep_schedule(_spec(found.parameters), root)
    except (InputError, ObjectNotFound) as error:
        return f"the recurring campaign of {deployment['name']} was not kept: {error}"
    return status.said


def _refuse_emptied(parameters: dict[str, Any]) -> None:
    """Refuse merge fields that Prefect takes for places of its own, and empties.

    Raises:
        InputError: There is one.
    """
    places = find_placeholders(json.dumps(parameters, default=str))
    emptied = sorted(place.full_match for place in places if place.type is PlaceholderType.STANDARD)
    if emptied:
        raise InputError(
            f"Prefect empties {emptied[0]} in prefect.yaml: write the text in a file of its own, or give the "
            'field a default, as in {{ name | default("") }}'
        )


def _spec(parameters: dict[str, Any]) -> ScheduleSpec:
    try:
        return ScheduleSpec.model_validate(parameters.get("campaign"))
    except ValidationError as error:
        raise InputError(first_problem(ScheduleSpec, error)) from None
