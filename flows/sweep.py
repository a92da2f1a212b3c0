"""What goes on by itself after something has died."""

from prefect import flow

from tasks.alerting import tell_alerts
from tasks.sending import at_once
from tasks.sweeping import forget_quiet_runs, read_refusals, rematch, settle, start_stranded


@flow(name="sweep", flow_run_name="sweep")
async def sweep() -> None:
    """Start what should be sent and is not, settle what the dead have left, tell people, and tidy up.

    Run again, or by several at once, it does no harm.
    """
    try:
        await at_once([start_stranded(), settle(), read_refusals(), rematch(), forget_quiet_runs()])
    finally:
        await tell_alerts()
