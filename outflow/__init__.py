"""The front door: one command per thing a person does.

Commands import what they need when they run: `outflow status` must not pay for Prefect.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from deployments import environment
from messaging.errors import MessagingError
from messaging.reports import console
from messaging.storage.failing import database_errors
from outflow import (
    accounts,
    alerts,
    approvals,
    audiences,
    bounces,
    campaigns,
    contacts,
    controls,
    events,
    exports,
    gmail,
    hooks,
    machine,
    schedules,
    suppressions,
    verifying,
    web,
    whatsapp,
    worker,
)

app = typer.Typer(
    help="Personalised bulk email and WhatsApp campaigns: import contacts, check, send, control, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[str, Callable[..., None]] = {  # in the order of --help
    "demo": machine.demo,
    "init": machine.init,
    "up": machine.up,
    "worker": worker.worker,
    "import": contacts.import_command,
    "verify": verifying.verify,
    "parse": contacts.parse,
    "check": campaigns.check,
    "test": campaigns.send_test,
    "send": campaigns.send,
    "approve": approvals.approve,
    "reject": approvals.reject,
    "retry": controls.retry,
    "pause": controls.pause,
    "resume": controls.resume,
    "cancel": controls.cancel,
    "pace": controls.pace,
    "resolve": controls.resolve,
    "status": campaigns.status,
    "report": campaigns.report_command,
    "bounces": bounces.bounces,
    "events": events.events,
    "export": exports.export,
    "doctor": machine.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(accounts.account_app, name="account")
app.add_typer(alerts.alerts_app, name="alerts")
app.add_typer(audiences.audience_app, name="audience")
app.add_typer(gmail.gmail_app, name="gmail")
app.add_typer(schedules.schedule_app, name="schedule")
app.add_typer(suppressions.suppress_app, name="suppress")
app.add_typer(hooks.topics_app, name="topics")
app.add_typer(web.web_app, name="web")
app.add_typer(whatsapp.whatsapp_app, name="whatsapp")

_VERBOSE = {"--verbose", "-v"}


def main() -> None:
    """Run a command; print an error a person can act on instead of a traceback."""
    environment.apply()
    try:
        with database_errors():
            app()
    except MessagingError as error:
        _refuse(str(error))
    except Exception as error:
        if _VERBOSE & set(sys.argv):
            raise
        where = "outflow " + " ".join(["--verbose", *sys.argv[1:2], "…"])
        _refuse(f"unexpected {type(error).__name__}; to see where: {where}")


def _refuse(text: str) -> NoReturn:
    if "--json" in sys.argv:
        console.show_json({"error": text})
    console.err.print(f"outflow: {text}", style="red", markup=False)
    sys.exit(1)


@app.callback()
def _everywhere(
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log on stderr.")] = False,
) -> None:
    if not verbose:  # a failed run's traceback is kept in Prefect; here its sentence is enough
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
