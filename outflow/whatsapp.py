"""Linking WhatsApp accounts of phones."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, reach_prefect, run

if TYPE_CHECKING:
    from messaging.channels.whatsapp_web_session import Step

_HOW = "On the phone open WhatsApp, Settings, Linked devices, Link a device, and scan:"


def pair(
    name: Annotated[
        str, typer.Argument(help="The account's name, as in shop for whatsapp-web-account/shop.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Link a WhatsApp Web account to a phone, by a code in the terminal; needed once."""
    reach_prefect()
    from tasks.pairing import follow_pairing

    reference = f"whatsapp-web-account/{name}"
    run(follow_pairing(reference, _show), "stopped; nothing was linked, unless the phone says so")
    if as_json:
        console.show_json({"account": reference, "state": "ready"})
    else:
        console.show(f"{reference} is linked and ready")


def groups(
    name: Annotated[
        str, typer.Argument(help="The account's name, as in shop for whatsapp-web-account/shop.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """List the groups that a linked WhatsApp Web account is in, as a campaign names them."""
    reach_prefect()
    from tasks.pairing import groups_of

    found = run(groups_of(f"whatsapp-web-account/{name}"), "stopped; nothing was sent")
    if as_json:
        console.show_json({"groups": [asdict(group) for group in found]})
        return
    if not found:
        console.show("the account is in no group")
    for group in found:
        console.show(f"{group.address}  {group.name} ({group.members:,} members)")


async def _show(step: "Step") -> None:
    if not step.code:
        console.say(str(step.state))
        return
    import segno

    console.say(_HOW)
    segno.make_qr(step.code).terminal(out=sys.stderr, compact=True)


whatsapp_app = typer.Typer(help="WhatsApp accounts of phones.", no_args_is_help=True)
whatsapp_app.command("pair")(pair)
whatsapp_app.command("groups")(groups)
