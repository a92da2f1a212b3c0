"""The public pages: served, and the keys of their links."""

from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from messaging.web.services import LoadWhatsApp, WhatsAppSecrets

web_app = typer.Typer(
    help="The public pages: unsubscribe, opens, clicks, webhooks.", invoke_without_command=True
)


@web_app.callback()
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8422,
    trusted_proxies: Annotated[
        str,
        typer.Option(
            "--forwarded-allow-ips",
            help="Addresses of proxies, separated by commas, whose X-Forwarded headers are believed.",
        ),
    ] = "",
) -> None:
    """Serve the public pages over HTTP, until Ctrl-C; a proxy with TLS stands in front of it."""
    if context.invoked_subcommand is not None:
        return
    import logging

    from messaging.settings import settings
    from messaging.storage.engine import engine
    from messaging.web import serving, sns, whatsapp
    from messaging.web.application import application

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    listening = serving.listen(host, port)
    app = application(engine(), settings().home, (sns.routes, whatsapp.routes), _whatsapp_accounts)
    address, bound_to = listening.getsockname()[:2]
    console.show(
        f"Web app     http://{f'[{address}]' if ':' in address else address}:{bound_to}\n"
        f"Links lead to {settings().public_url}  (set OUTFLOW_PUBLIC_URL; a proxy with TLS stands there)\n"
        "Ctrl-C stops it."
    )
    run(serving.serve(app, listening, trusted_proxies))


async def _whatsapp_accounts() -> "Sequence[WhatsAppSecrets]":
    """Read the accounts; Prefect is loaded when the first webhook of WhatsApp asks, aside from the pages.

    Raises:
        MessagingError: They cannot be read now.
    """
    import asyncio

    api_url = await asyncio.to_thread(_server)
    whatsapp_hooks = await asyncio.to_thread(_load_hooks)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # Prefect has read its settings once; the server may have come, or moved, since.
    with temporary_settings({PREFECT_API_URL: api_url}):
        return await whatsapp_hooks()


def _server() -> str:
    """Return the API address of the server that keeps the accounts; it is looked for each time."""
    import os

    from deployments.serving import answers, running_server
    from messaging.settings import settings

    api_url = os.environ.get("PREFECT_API_URL") or running_server(settings().home) or _of_profile()
    if api_url is None:
        raise InputError("no Prefect server is running, which keeps the accounts: start it (outflow up)")
    if not answers(api_url):
        raise InputError(
            f"the Prefect server at {api_url}, which keeps the accounts, does not answer: start it"
        )
    return api_url


def _of_profile() -> str | None:
    from prefect.settings import PREFECT_API_URL

    api_url = PREFECT_API_URL.value()
    return None if api_url is None else str(api_url)


def _load_hooks() -> "LoadWhatsApp":
    from tasks.hooks import whatsapp_hooks

    return whatsapp_hooks


@web_app.command("rotate-key")
def rotate_key(*, as_json: AsJson = False) -> None:
    """Make a new key for links in mails from now on; links that were sent stay good."""
    from messaging.storage.engine import engine
    from messaging.storage.link_keys import add_key

    with engine().begin() as connection:
        key = add_key(connection)
    if as_json:
        console.show_json({"key": key})
    else:
        console.show(f"Key {key} signs the links of mails from now on.")
