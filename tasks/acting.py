"""Who acts, as the ledger is told."""

from prefect import runtime

from messaging.campaign.controlling import person


def actor() -> str:
    """Name who decided: a flow run may have been started by a person elsewhere, or by a schedule.

    Prefect's server does not know who filled in a form, so the run is named, on whose page the time and the
    parameters stand, and who runs the worker.
    """
    return f"{person()}, flow run {runtime.flow_run.name}"
