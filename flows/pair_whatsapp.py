"""A WhatsApp Web account linked to a phone, by a code on the run's page."""

from prefect import flow

from tasks.pairing import pair_account


@flow(name="pair-whatsapp", flow_run_name="pair-{account}")
async def pair_whatsapp(account: str) -> None:
    """Link an account such as whatsapp-web-account/shop to the phone that scans the code, within 3 minutes.

    The code is an artifact of the run, and removed when it is of no more use. An account that is linked
    already needs none.
    """
    await pair_account(account)
