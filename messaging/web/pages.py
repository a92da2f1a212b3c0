"""The pages that recipients see: plain HTML, complete in itself, in English."""

import functools
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

import jinja2

from messaging.storage.preferences import Recipient, Wishes
from schemas.states import Channel, SuppressionReason

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")

CONTENT_SECURITY: Final = (
    "default-src 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded, from nowhere; the one style sheet is in the page."""

_WHY_NOT: Final = {
    SuppressionReason.UNSUBSCRIBED: "You have unsubscribed from everything we send.",
    SuppressionReason.BOUNCED: "We do not write to this address any more, as it could not be reached. "
    "This page cannot change that: please answer one of our messages, or ask whoever you know with us.",
    SuppressionReason.COMPLAINED: "We do not write to this address any more, as a message of ours was "
    "reported as unwanted. This page cannot change that.",
    SuppressionReason.MANUAL: "We do not write to this address any more. This page cannot change that: "
    "please ask whoever you know with us.",
}
_NOT_CONFIRMED: Final = "Our address book says that you do not want to hear from us, and we keep to it."


def unsubscribe(recipient: Recipient, token: str) -> str:
    """Return the page that asks; nothing has happened yet."""
    why = f"is on our list “{recipient.audience}”" if recipient.audience else "is one that we write to"
    return _page(
        "Unsubscribe",
        f"You got our message because {_masked(recipient)} {why}. Nothing changes until you press a button.",
        kind="unsubscribe",
        token=token,
        audience=recipient.audience,
    )


def unsubscribed(recipient: Recipient, token: str, *, everywhere: bool) -> str:
    """Return the page that says it is done."""
    from_all = everywhere or not recipient.audience
    what = "anything we send" if from_all else f"what we send to our list “{recipient.audience}”"
    return _page(
        "You are unsubscribed",
        f"From now on {_masked(recipient)} does not get {what}. "
        "A message that is on its way already may still arrive.",
        kind="done",
        token=token,
    )


def preferences(recipient: Recipient, wishes: Wishes, *, saved: bool = False) -> str:
    """Return the page of choices, with what holds now."""
    lines = ["Your choice is saved."] if saved else []
    lines.append(f"What may we send to {_masked(recipient)}?")
    if wishes.suppressed:
        lines.append(_WHY_NOT[wishes.suppressed])
    elif wishes.refused_in_files:
        lines.append(_NOT_CONFIRMED)
    return _page(
        "Choose what you receive",
        *lines,
        kind="preferences",
        wishes=wishes.audiences,
        nothing=wishes.by_themselves,
    )


def test_message() -> str:
    """Return the page of a link that belongs to nobody."""
    return _page(
        "Nothing to unsubscribe from",
        "This link was in a test message, or in one that we no longer know of. Nothing was changed.",
    )


def problem(status: int) -> str:
    """Return the page for an HTTP status that is no success; it repeats nothing of what was asked."""
    return _page(*_PROBLEMS.get(status, ("This did not work", "Nothing was changed.")))


_PROBLEMS: Final = {
    404: (
        "This link does not work",
        "It may have been cut short on its way. Please use the link in the message again, all of it.",
    ),
    405: ("This did not work", "That is not how this page is used. Nothing was changed."),
    503: (
        "Please try again in a minute",
        "We cannot reach our records at the moment, so nothing was changed. Your link stays good.",
    ),
}


def _page(title: str, *lines: str, kind: str = "", **values: object) -> str:
    return _template().render(title=title, lines=lines, kind=kind, style=_STYLE, **values)


def _masked(recipient: Recipient) -> str:
    """Return enough of an address to recognise one's own; a link may have been passed on."""
    if recipient.address.endswith("@g.us"):
        return "this group"
    if recipient.channel is Channel.WHATSAPP:
        return f"the number ending in {recipient.address[-2:]}"
    local, _, domain = recipient.address.rpartition("@")
    return f"{local[:1]}…\N{WORD JOINER}@{domain}"


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
