"""A campaign that waits for a person's approval."""

from prefect import State, flow
from prefect.states import Completed

from schemas.approval import ApprovalRequest
from tasks.approving import answer_to, ask, outcome, problems_of, take_answer, try_campaign
from tasks.preflight import preflight_kept


@flow(name="approve-campaign", flow_run_name="approve-campaign-{request.campaign_id}")
async def approve_campaign(request: ApprovalRequest) -> State:
    """Send a campaign's test messages, ask on this run's page whether to send it, and do what is answered.

    While it waits it holds no process: it begins anew when it is answered, and whatever was done before is
    not done again. An answer that was given elsewhere, as by outflow approve, ends it too.
    """
    question = 1
    while (said := await outcome(request.campaign_id)) is None:
        answer = await answer_to(question)
        if answer is not None:
            await take_answer(request.campaign_id, question, answer)
        else:
            looked = preflight_kept(request.campaign_id), try_campaign(request.campaign_id)
            await ask(request.campaign_id, question, await problems_of(*looked))
        question += 1
    return Completed(message=said)
