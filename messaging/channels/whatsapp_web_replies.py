"""What WhatsApp Web and its library say, as data: all that the library tells of an error is a text.

The texts are those of whatsmeow as neonize 0.5 holds it; the codes are those of acknowledgements of
messages (463 and 429 as seen by users of whatsmeow and Baileys) and of refused connections (whatsmeow's
`events.ConnectFailureReason`). No text of theirs gets into an error: they quote phone numbers.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from messaging.channels.base import Receipt
from messaging.errors import AccountError, InputError, MessagingError, NotSent, Unknown
from schemas.states import AccountState, Outcome

NOT_REGISTERED: Final = "not registered on WhatsApp"
NOT_FOUND: Final = 404  # in place of the code that WhatsApp does not give a number without an account
_REPLY_LENGTH = 500
_UNAVAILABLE = 500


class Verdict(Enum):
    """What an error of the library makes us do."""

    REJECTED = auto()
    NOBODY = auto()
    """The same, and the address leads to nobody."""
    DEFERRED = auto()
    """This recipient later; nothing was handed over."""
    THROTTLED = auto()
    """Everybody later; nothing was handed over."""
    NOT_SENT = auto()
    UNKNOWN = auto()
    TOO_MUCH = auto()
    LOCKED_OUT = auto()
    UNLINKED = auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session cannot go on."""

    state: AccountState
    error: type[MessagingError]
    sentence: str
    """With {name} for the account's name, {until} for a ban's end and {detail} for a code."""


_STOPS: Final = {
    Verdict.TOO_MUCH: "WhatsApp says that this account sends or asks too much (429): leave it alone for a "
    "day, then resume with fewer messages a day",
    Verdict.LOCKED_OUT: "WhatsApp does not let this account write to people who do not know it (463): leave "
    "it alone for some days, then write only to people who wrote to it or have it in their contacts",
    Verdict.UNLINKED: "the account {name} is linked to no phone: pair it with: outflow whatsapp pair {name}",
}

# The first that is found in the text decides.
_SIGNS: Final = [
    (re.compile(r"rate-overlimit|status 429\b"), Verdict.TOO_MUCH),
    (re.compile(r"websocket not connected|failed to dial"), Verdict.NOT_SENT),
    (re.compile(r"doesn't contain a device JID"), Verdict.UNLINKED),
    # The message node may be with WhatsApp.
    (re.compile(r"timed out waiting for message send response"), Verdict.UNKNOWN),
    (re.compile(r"disconnected before message send|failed to send message node"), Verdict.UNKNOWN),
    (re.compile(r"not participating in that group"), Verdict.REJECTED),
    (re.compile(r"that group does not exist"), Verdict.NOBODY),
    # What the library asks before it sends: whose devices, which keys, who is in the group.
    (re.compile(r"info query timed out|disconnected before info query"), Verdict.NOT_SENT),
    (re.compile(r"info query returned|no LID found|Function returned nothing"), Verdict.DEFERRED),
    (re.compile(r"failed to (get|fetch|encrypt|marshal|create)"), Verdict.DEFERRED),
]
_CODE: Final = re.compile(r"server returned error (\d+)")
_BY_CODE: Final = {429: Verdict.TOO_MUCH, 463: Verdict.LOCKED_OUT, 404: Verdict.NOBODY}

_OUTCOMES: Final = {
    Verdict.REJECTED: Outcome.REJECTED,
    Verdict.NOBODY: Outcome.REJECTED,
    Verdict.DEFERRED: Outcome.DEFERRED,
    Verdict.THROTTLED: Outcome.DEFERRED,
}

_PAIR_AGAIN = "pair it again with: outflow whatsapp pair {name}"

ENDINGS: Final = {
    "never paired": Ending(AccountState.SCAN_QR, AccountError, _STOPS[Verdict.UNLINKED]),
    "logged out": Ending(
        AccountState.LOGGED_OUT,
        AccountError,
        "the phone has unlinked the account {name}: " + _PAIR_AGAIN,
    ),
    "locked": Ending(
        AccountState.LOGGED_OUT,
        AccountError,
        "WhatsApp has locked the account {name} or its phone is gone (403): look at the phone, then "
        + _PAIR_AGAIN,
    ),
    "banned": Ending(
        AccountState.BANNED,
        AccountError,
        "WhatsApp has banned the account {name} (406): ask for a review in the app on its phone",
    ),
    "temporary ban": Ending(
        AccountState.BANNED,
        AccountError,
        "WhatsApp has banned the account {name} until {until} (reason {detail}): leave it alone until then, "
        "then send less and only to people who expect it",
    ),
    "replaced": Ending(
        AccountState.DISCONNECTED,
        AccountError,
        "another program has taken over the connection of the account {name}: stop it, then resume",
    ),
    "outdated": Ending(
        AccountState.AUTHENTICATION_FAILED,
        AccountError,
        "WhatsApp does not speak to this version of the library any more (405): "
        "pip install --upgrade neonize, then resume",
    ),
    "refused": Ending(
        AccountState.AUTHENTICATION_FAILED,
        AccountError,
        "WhatsApp refused the connection of the account {name} ({detail}): look at the phone, then resume",
    ),
    "not paired": Ending(
        AccountState.AUTHENTICATION_FAILED,
        AccountError,
        "the phone and the account {name} could not be linked: try again with: outflow whatsapp pair {name}",
    ),
    "in use": Ending(
        AccountState.DISCONNECTED,
        AccountError,
        "the account {name} is in use by another process of Outflow: a WhatsApp Web account has one "
        "connection, so let that end first",
    ),
    "no library": Ending(
        AccountState.DISCONNECTED,
        InputError,
        "WhatsApp Web needs more packages: pip install 'outflow[whatsapp-web]'",
    ),
    "no libmagic": Ending(
        AccountState.DISCONNECTED,
        InputError,
        "WhatsApp Web needs the library libmagic: apt install libmagic1",
    ),
    "no schema": Ending(
        AccountState.DISCONNECTED,
        AccountError,
        "the session of the account {name} cannot be kept: let Outflow's database user create a schema",
    ),
    "no database": Ending(
        AccountState.DISCONNECTED, NotSent, "the database that keeps the account {name}'s session is away"
    ),
    "unreachable": Ending(AccountState.DISCONNECTED, NotSent, "WhatsApp Web cannot be reached"),
    "broken": Ending(
        AccountState.DISCONNECTED, NotSent, "the process of the account {name} broke off ({detail})"
    ),
}

REFUSED_BECAUSE: Final = {"MAIN_DEVICE_GONE": "locked", "UNKNOWN_LOGOUT": "banned"}
"""The library's names of 403 and 406, which WhatsApp's own code calls LOCKED and BANNED."""


def ended(why: str, account: str, until: str = "", detail: str = "") -> MessagingError:
    """Return the error of a session that cannot go on, for a reason in `ENDINGS`."""
    ending = ENDINGS[why]
    return ending.error(ending.sentence.format(name=account, until=until, detail=detail))


def answer(text: str, account: str) -> Receipt:
    """Return the receipt of an error text that is a definite answer about the message.

    Raises:
        NotSent: Nothing was handed over.
        Unknown: The message may have been handed over.
        AccountError: WhatsApp wants this account to stop, or does not know it any more.
    """
    code, verdict = judge(text)
    if verdict in _OUTCOMES:
        return Receipt(
            _OUTCOMES[verdict],
            code,
            reply=" ".join(text.split())[:_REPLY_LENGTH],
            throttled=verdict is Verdict.THROTTLED,
            unreachable=verdict is Verdict.NOBODY,
        )
    raise failure(verdict, account)


def judge(text: str) -> tuple[int | None, Verdict]:
    """Return the code in an error text, and what the text makes us do; one we do not know is a doubt."""
    if match := _CODE.search(text):
        code = int(match[1])
        usual = Verdict.THROTTLED if code >= _UNAVAILABLE else Verdict.REJECTED
        return code, _BY_CODE.get(code, usual)
    return None, next((verdict for sign, verdict in _SIGNS if sign.search(text)), Verdict.UNKNOWN)


def failure(verdict: Verdict, account: str) -> MessagingError:
    """Return the error of a verdict that is no answer about the message."""
    if verdict in _STOPS:
        return AccountError(_STOPS[verdict].format(name=account))
    if verdict is Verdict.UNKNOWN:
        return Unknown("WhatsApp Web did not answer for a message")
    return NotSent("WhatsApp Web is not connected, or did not answer in time")
