"""What came back: reading mailboxes once, and reading again what was kept, under today's rules."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer, reach_prefect, run

if TYPE_CHECKING:
    from schemas.feedback import FeedbackReport

_A_DAY = 86_400
_STOPPED = "stopped; what was read is kept, the same command reads the rest"


def bounces(  # noqa: PLR0913 - one argument per option
    mailbox: Annotated[
        str, typer.Argument(metavar="[MAILBOX]", help="As in imap-mailbox/bounces; without it, all.")
    ] = "",
    *,
    again: Annotated[
        bool,
        typer.Option("--again", help="Read all unseen mail, also what was read or set aside before."),
    ] = False,
    reclassify: Annotated[
        bool,
        typer.Option(
            "--reclassify", help="Read no mailbox, but the mail that was kept, under today's rules."
        ),
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="DATE", help="Of what was kept, only mail since this day, in UTC."
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the ledger, instead of saying what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read mailboxes for bounces, complaints and automatic answers, and suppress who is not reached."""
    if reclassify:
        if mailbox or again:
            raise InputError("--reclassify reads what was kept of all mailboxes: name none, and no --again")
        _reclassify(since, apply=apply, as_json=as_json)
        return
    if since is not None or apply:
        raise InputError("--since and --apply go with --reclassify")
    _read(mailbox, again=again, as_json=as_json)


def _read(mailbox: str, *, again: bool, as_json: bool) -> None:
    reach_prefect()
    from flows.process_bounces import process_bounces
    from messaging.reports.feedback import show_readings, with_reading_progress
    from schemas.feedback import BouncesRequest

    request = BouncesRequest(mailbox=mailbox, again=again, seconds=_A_DAY)
    reports: list[FeedbackReport] = run(with_reading_progress(process_bounces(request)), _STOPPED)
    if as_json:
        console.show_json({"mailboxes": [report.model_dump(mode="json") for report in reports]})
    elif reports:
        show_readings(reports)
    else:
        console.show("there is no mailbox yet: outflow account add imap-mailbox bounces host=… username=…")


def _reclassify(since: datetime | None, *, apply: bool, as_json: bool) -> None:
    from datetime import UTC

    from messaging.feedback.reclassifying import reclassify
    from messaging.reports.feedback import reclassifying_progress, show_reclassified
    from messaging.storage.engine import engine

    with reclassifying_progress() as heard:
        result = reclassify(engine(), since and since.replace(tzinfo=UTC), apply=apply, heard=heard)
    answer(result, show_reclassified, as_json=as_json)
