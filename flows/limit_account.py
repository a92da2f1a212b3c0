"""An account with other limits."""

from prefect import flow

from schemas.controlling import LimitRequest
from schemas.limits import AccountLimits
from tasks.controlling import change_limits


@flow(name="limit-account", flow_run_name="limit-{request.account}")
async def limit_account(request: LimitRequest) -> AccountLimits:
    """Limit an account, for all its campaigns together; those that run see it within seconds."""
    return await change_limits(request)
