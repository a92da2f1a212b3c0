"""Notices delivered over Apprise: mail, webhooks, chats, by an address of one line."""

import logging
import re
import threading
from typing import TYPE_CHECKING, Final

from messaging.alerts.notices import Notice
from messaging.errors import InputError, NotSent

if TYPE_CHECKING:
    from apprise import Apprise

_HOW: Final = (
    "write it as Apprise does, as in mailtos://user:password@example.org?to=ops@example.org, "
    "jsons://example.org/hook or slack://…: https://github.com/caronc/apprise/wiki"
)
_STATUS = re.compile(r"\berror=(\d{3})\b")


class _Reasons(logging.Filter):
    """Hears why Apprise could not deliver, and lets nothing of it pass on: it names whom it writes to."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what names nobody."""
        said = record.getMessage()
        if status := _STATUS.search(said):
            self._heard.reason = f"it answered {status[1]}"
        elif "onnection error" in said:
            self._heard.reason = "it cannot be reached, refused the login, or broke off"
        return False

    def take(self) -> str:
        """Return what was heard in this thread since it was last asked."""
        reason: str = self._heard.__dict__.pop("reason", "it did not take the message")
        return reason


_reasons = _Reasons()
_talk = logging.getLogger("apprise")
_talk.setLevel(logging.WARNING)
_talk.addFilter(_reasons)


def check(url: str) -> None:
    """Look at an address without using it.

    Raises:
        InputError: It is none that Apprise knows.
    """
    _service(url)


def deliver(url: str, notice: Notice) -> None:
    """Deliver a notice, blocking until it is taken or refused.

    Raises:
        InputError: The address is none that Apprise knows.
        NotSent: The service did not take it. Of several recipients of a mail some may have it.
    """
    service = _service(url)
    _reasons.take()
    if not service.notify(
        body=notice.body, title=notice.title, notify_type=notice.weight, body_format="text"
    ):
        raise NotSent(_reasons.take())


def _service(url: str) -> "Apprise":
    # Half a second and 150 modules, needed only when there is something to tell.
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415

    asset = AppriseAsset(app_id="Outflow", app_desc="Outflow", app_url="", async_mode=False)
    service = Apprise(asset=asset)
    if not url or not service.add(url) or not len(service):
        raise InputError(f"its address is none that can be used: {_HOW}")
    return service
