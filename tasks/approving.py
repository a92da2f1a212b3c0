"""A person's approval: the test messages, the form in Prefect, and the answer taken into the ledger."""

import logging
from collections.abc import Awaitable
from typing import Annotated, Any, Final
from uuid import UUID

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flow_runs import asuspend_flow_run
from prefect.input import Keyset, RunInput, aread_flow_run_input, keyset_from_paused_state
from prefect.settings import PREFECT_UI_URL
from prefect.states import Suspended
from prefect.tasks import exponential_backoff
from prefect.utilities.urls import url_for
from pydantic import AfterValidator, Field, ValidationError

from messaging.campaign import approving
from messaging.errors import DatabaseError, InputError, MessagingError
from messaging.reports.approval_markdown import approval_markdown
from messaging.storage.engine import engine
from schemas.approval import Answer, ApprovalRequest
from schemas.base import OptionalText
from schemas.controlling import LONGEST_REASON, reason_of
from tasks.guarding import guarded, in_thread, is_retryable
from tasks.starting import start_run
from tasks.testing import send_tests

_log = logging.getLogger("messaging.approving")  # the tree that Prefect forwards to the run's page

APPROVE: Final = "approve-campaign/approve-campaign"
_PAGE: Final = 200  # runs that the server returns at once
_A_NAME: Final = r"^[^@]*[^@\s][^@]*$"


class Approval(RunInput):
    """The form. Nothing is chosen beforehand: what has a default, a resume without input is given."""

    decision: Answer = Field(
        title="Decision",
        description="approve: it is sent, at its time. reject: it is cancelled. comment: nothing is decided; "
        "the campaign is tried once more, and waits.",
        json_schema_extra={"position": 0},
    )
    your_name: str = Field(
        title="Your name",
        description="Who decides: Prefect does not know. Kept with the decision; no address.",
        pattern=_A_NAME,
        max_length=100,
        json_schema_extra={"position": 1},
    )
    comment: Annotated[OptionalText, AfterValidator(reason_of)] = Field(
        default="",
        title="Comment",
        description="Why; kept with the decision. Name no recipients.",
        # The server knows the form by its schema: what must not be stored, it refuses before it is.
        json_schema_extra={"position": 2, "pattern": "^[^@]*$", "maxLength": LONGEST_REASON},
    )


@task(task_run_name="ask-for-approvals", cache_policy=NO_CACHE)
async def start_approvals() -> list[str]:
    """Have a run ask people about each draft, once, and return the names of the drafts.

    Runs whose question is none any more end. What cannot be done is logged, and tried again when this is
    called again.

    Raises:
        DatabaseError: The ledger is not there.
    """
    drafts = await in_thread(approving.to_ask, engine())
    try:
        await end_moot_questions()
    except MessagingError as error:
        _log.warning("questions that are answered already are still open: %s", error)
    for number, name in drafts.items():
        try:
            await start_run(number, APPROVE, "approve")
        except DatabaseError:
            raise
        except MessagingError as error:
            _log.warning("nobody could be asked to approve campaign %s: %s", name, error)
    return list(drafts.values())


@task(
    task_run_name="try-campaign-{campaign_id}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_condition_fn=is_retryable,
    cache_policy=NO_CACHE,  # the ledger remembers, not Prefect
)
async def try_campaign(campaign_id: int) -> None:
    """Send a draft's test messages, unless one has arrived before or nobody is to get any.

    Raises:
        InputError: They cannot be made, or none has arrived.
        AccountError: The account cannot be used.
        NotSent: The provider cannot be reached.
    """
    if await in_thread(approving.tested, engine(), campaign_id):
        return
    trial = await in_thread(approving.prepare_test, engine(), campaign_id)
    if trial is None:
        return
    tried = await send_tests(trial)
    said = await in_thread(approving.remember_test, engine(), campaign_id, tried)
    if not await in_thread(approving.tested, engine(), campaign_id):
        raise InputError(f"no test message has arrived: {said}")


async def problems_of(*checks: Awaitable[object]) -> list[str]:
    """Return what is wrong by these checks, in a sentence each, for whoever decides.

    Raises:
        DatabaseError: The ledger is not there.
    """
    problems = []
    for check in checks:
        try:
            await check
        except DatabaseError:
            raise
        except MessagingError as error:
            problems.append(str(error))
    return problems


async def outcome(campaign_id: int) -> str | None:
    """Say what became of a campaign that was to be approved; None: it still waits."""
    return await in_thread(approving.outcome, engine(), campaign_id)


async def answer_to(question: int) -> Approval | None:
    """Return what was answered on this run's page to a question, by its number; None: nothing yet."""
    given = await aread_flow_run_input(_keys(question)["response"], flow_run_id=UUID(runtime.flow_run.id))
    try:
        return Approval.model_validate(given)
    except ValidationError:  # resumed without an answer, by somebody's program
        return None


@task(task_run_name="take-answer-{question}", cache_policy=NO_CACHE)
async def take_answer(campaign_id: int, question: int, answer: Approval) -> str:
    """Have the ledger keep an answer, and say what it has changed.

    An approval of what was changed meanwhile is a comment: nobody has looked at what it is now.

    Raises:
        InputError: It comes too late, or after another.
    """
    who, key = f"{answer.your_name.strip()} in Prefect", f"{runtime.flow_run.id}-{question}"
    if answer.decision is Answer.APPROVE and await in_thread(
        approving.is_changed, engine(), campaign_id, key
    ):
        answer = answer.model_copy(update={"decision": Answer.COMMENT, "comment": approving.CHANGED})
    if answer.decision is Answer.COMMENT:
        await in_thread(approving.comment_on, engine(), campaign_id, answer.comment, who, key)
        return "commented"
    decide = approving.approve if answer.decision is Answer.APPROVE else approving.reject
    return (await in_thread(decide, engine(), campaign_id, answer.comment, who)).said


async def ask(campaign_id: int, question: int, problems: list[str]) -> None:
    """Tell people where to answer and wait for it without a process: the run ends here, and begins anew.

    Returns when it was decided meanwhile, or the run was resumed without an answer. There is no timeout:
    Prefect would notice one only when somebody answers, and lose the answer.

    Raises:
        InputError: It is a run of no deployment, which cannot wait.
    """
    run = UUID(runtime.flow_run.id)
    if runtime.deployment.id is None:
        raise InputError(
            "only a run of the deployment approve-campaign can wait for an answer; without one: outflow "
            "approve, outflow reject"
        )
    draft = await in_thread(approving.draft_of, engine(), campaign_id)
    brief = approval_markdown(draft, problems, await _preflight_link(run))
    form = Approval.with_initial_data(description=brief)
    # The page of Prefect's first interface, where Resume is a button; the second hides it in a menu.
    link = url_for("flow-run", obj_id=run) or ""
    if not await in_thread(approving.ask, engine(), campaign_id, f"{run}-{question}", link):
        return
    try:
        await asuspend_flow_run(wait_for_input=form, key=str(question))
    except ValidationError:
        return


async def _preflight_link(run: UUID) -> str:
    """Return where the run's last preflight is shown; empty: it has none."""
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run]), type=ArtifactFilterType(any_=["markdown"])
            ),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    ui = PREFECT_UI_URL.value()
    return f"{ui}/artifacts/artifact/{found[0].id}" if found and ui else ""


def _keys(question: int) -> Keyset:
    """Return under which names Prefect keeps a question and its answer."""
    return keyset_from_paused_state(Suspended(pause_key=str(question)))


async def end_moot_questions() -> None:
    """Resume the runs that wait for an answer to what was decided, or changed, elsewhere.

    What counts is what the ledger knows: they see it there, and end or ask anew.

    Raises:
        MessagingError: Prefect does not answer; calling again is safe.
    """
    flow = FlowFilter(name=FlowFilterName(any_=[APPROVE.partition("/")[0]]))
    waiting = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with guarded():
        async with get_client() as client:
            runs: list[FlowRun] = []
            while page := await client.read_flow_runs(
                flow_filter=flow, flow_run_filter=waiting, limit=_PAGE, offset=len(runs)
            ):
                runs += page
            for run in runs:
                why = await in_thread(_why_moot, run.parameters)
                if why is not None:
                    comment = why.replace("@", " at ")[:LONGEST_REASON]
                    answer = {"decision": Answer.COMMENT, "your_name": "Outflow", "comment": comment}
                    await client.resume_flow_run(run.id, run_input=answer)


def _why_moot(parameters: dict[str, Any]) -> str | None:
    try:
        request = ApprovalRequest.model_validate(parameters["request"])
        return approving.why_moot(engine(), request.campaign_id)
    except (InputError, LookupError, ValidationError):
        return None  # of another ledger, or of none
