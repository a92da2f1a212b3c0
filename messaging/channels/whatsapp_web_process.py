"""The process that holds one account's WhatsApp Web session: orders on stdin, what happens on stdout.

A process of its own, because the library is a Go program in a shared object: it prints to stdout, a fork
after its import hangs, and its end would be ours. Each line is one JSON object; the end of stdin ends it.
"""

import contextlib
import json
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import psycopg

from messaging.channels import whatsapp_web_store as store
from messaging.channels.whatsapp_web_replies import REFUSED_BECAUSE
from schemas.states import AccountState, EventKind

if TYPE_CHECKING:
    from neonize.proto.Neonize_pb2 import JID

_LOOK_SECONDS: Final = 10.0  # between looks at whether the account's lock is still ours
_STOP_SECONDS: Final = 3.0

_RECEIPTS: Final = {"DELIVERED": EventKind.DELIVERED, "READ": EventKind.OPENED, "PLAYED": EventKind.OPENED}


class Ended(Exception):
    """The session cannot begin; the text is a reason in `whatsapp_web_replies.ENDINGS`."""


class Voice:
    """Tells the parent, a line at a time, from any thread."""

    def __init__(self, descriptor: int) -> None:
        """Write to this file descriptor."""
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()

    def tell(self, **said: object) -> None:
        """Write one object; a parent that is gone hears nothing, and the end of stdin will tell us."""
        with self._lock, contextlib.suppress(OSError):
            self._out.write(json.dumps(said) + "\n")
            self._out.flush()

    def state(self, state: AccountState) -> None:
        """Tell where the session stands."""
        self.tell(event="state", state=state)

    def ended(self, why: str, **more: object) -> None:
        """Tell that the session cannot go on."""
        self.tell(event="ended", why=why, **more)


class Client:
    """The library's client, in a thread of its own."""

    def __init__(self, kept: store.Store, voice: Voice, order: dict[str, Any], device: str | None) -> None:
        """Import the library and make a client for the device, or for a new one."""
        from neonize.client import NewClient  # noqa: PLC0415 - half a second, and only here
        from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps  # noqa: PLC0415

        self._kept = kept
        self._voice = voice
        self._proxy = order["proxy"]
        self._client = NewClient(
            kept.address,
            jid=_jid(device) if device else None,
            props=DeviceProps(os="Outflow", platformType=DeviceProps.DESKTOP),
            uuid=order["account"],
            new_device=device is None,
        )
        self._ended = threading.Event()
        self._listen()
        self._thread = threading.Thread(target=self._connect, daemon=True)

    def start(self) -> None:
        """Connect; the library connects again by itself when the connection is lost."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect, within some seconds."""
        self._ended.set()
        self._client.stop()
        self._thread.join(_STOP_SECONDS)

    def check(self, numbers: list[str]) -> list[tuple[str, str, bool]]:
        """Return each number, the address of its account, and whether it has one."""
        from neonize.utils.jid import Jid2String  # noqa: PLC0415 - the library's

        found = self._client.is_on_whatsapp(*numbers)
        return [(one.Query, Jid2String(one.JID), one.IsIn) for one in found]

    def groups(self) -> list[tuple[str, str, int]]:
        """Return address, name and number of members of each group that the account is in."""
        from neonize.utils.jid import Jid2String  # noqa: PLC0415 - the library's

        found = self._client.get_joined_groups()
        return [(Jid2String(one.JID), one.GroupName.Name, len(one.Participants)) for one in found]

    def send(self, to: str, text: str) -> str:
        """Send a text and return the library's id of the message."""
        from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: PLC0415 - the library's

        # Not the text itself: the library would make mentions of every @12345 in it.
        return str(self._client.send_message(_jid(to), Message(conversation=text)).ID)

    def _connect(self) -> None:
        from neonize._binder import ProxySettings  # noqa: PLC0415 - the library's

        why = "unreachable"
        try:
            self._client.connect(ProxySettings(self._proxy) if self._proxy else None)
        except Exception as error:  # noqa: BLE001 - all the library says is a text
            why = "no database" if "database" in str(error) else why
        self._end(why)

    def _end(self, why: str, **more: object) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._voice.ended(why, **more)

    def _listen(self) -> None:
        from neonize import events  # noqa: PLC0415 - the library's

        self._client.qr(lambda _, code: self._voice.tell(event="code", code=code.decode()))
        for event, heard in (
            (events.PairStatusEv, self._paired),
            (events.ConnectedEv, self._connected),
            (events.DisconnectedEv, self._disconnected),
            (events.LoggedOutEv, self._logged_out),
            (events.TemporaryBanEv, self._banned),
            (events.StreamReplacedEv, lambda *_: self._end("replaced")),
            (events.ClientOutdatedEv, lambda *_: self._end("outdated")),
            (events.ConnectFailureEv, self._refused),
            (events.ReceiptEv, self._reported),
        ):
            self._client.event(event)(heard)

    def _paired(self, _: object, event: Any) -> None:  # noqa: ANN401 - the library's messages are made at run time
        if event.Status != event.SUCCESS:
            self._end("not paired")
            return
        self._kept.remember(f"{event.ID.User}:{event.ID.Device}@{event.ID.Server}")
        self._voice.state(AccountState.AUTHENTICATED)

    def _connected(self, _: object, __: object) -> None:
        self._voice.tell(event="ready", number=self._number())

    def _disconnected(self, _: object, __: object) -> None:
        self._voice.state(AccountState.DISCONNECTED)

    def _logged_out(self, _: object, event: Any) -> None:  # noqa: ANN401 - the same
        with contextlib.suppress(psycopg.Error):  # the guard will find it
            if device := self._kept.device()[0]:
                self._kept.strike(device)
        self._end(REFUSED_BECAUSE.get(_reason(event), "logged out"))

    def _refused(self, _: object, event: Any) -> None:  # noqa: ANN401 - the same
        self._end("refused", detail=_words(_reason(event)))

    def _banned(self, _: object, event: Any) -> None:  # noqa: ANN401 - the same
        reason = event.TempBanReason.Name(event.Code) if event.Code else "none given"
        self._end("temporary ban", seconds=int(event.Expire), detail=_words(reason))

    def _reported(self, _: object, event: Any) -> None:  # noqa: ANN401 - the same
        # By the messages' ids only: it comes from an address that is not the one we sent to.
        if kind := _RECEIPTS.get(event.ReceiptType.Name(event.Type)):
            self._voice.tell(event="receipt", ids=list(event.MessageIDs), kind=kind, at=event.Timestamp)

    def _number(self) -> str:
        device, _ = self._kept.device()
        return f"+{device.partition(':')[0]}" if device else ""


def _reason(event: Any) -> str:  # noqa: ANN401 - the library's messages are made at run time
    from neonize.proto.Neonize_pb2 import ConnectFailureReason  # noqa: PLC0415 - the library's

    return ConnectFailureReason.Name(event.Reason) if event.Reason else "no reason given"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _jid(address: str) -> "JID":
    from neonize.utils.jid import build_jid  # noqa: PLC0415 - the library's

    name, _, server = address.partition("@")
    user, _, device = name.partition(":")
    made = build_jid(user, server)
    made.Device = int(device or 0)
    return made


def _obey(client: Client, voice: Voice, order: dict[str, Any]) -> None:
    try:
        if order["do"] == "check":
            voice.tell(id=order["id"], result=client.check(order["numbers"]))
        elif order["do"] == "groups":
            voice.tell(id=order["id"], result=client.groups())
        else:
            voice.tell(id=order["id"], result=client.send(order["to"], order["text"]))
    except Exception as error:  # noqa: BLE001 - all the library says is a text
        voice.tell(id=order["id"], error=str(error) or type(error).__name__)


def _guard(kept: store.Store, voice: Voice, over: threading.Event) -> None:
    """End the process when the account's lock is lost: another may have it."""
    while not over.wait(_LOOK_SECONDS):
        if not kept.still_ours():
            voice.ended("no database")
            os._exit(1)


def _hold(kept: store.Store, voice: Voice, order: dict[str, Any]) -> None:
    device, was_paired = kept.device()
    if device is None and not order["pairs"]:
        raise Ended("logged out" if was_paired else "never paired")
    try:
        client = Client(kept, voice, order, device)
    except ModuleNotFoundError:
        raise Ended("no library") from None
    except ImportError:  # python-magic's, when its library is missing
        raise Ended("no libmagic") from None
    voice.state(AccountState.INITIALIZING)
    over = threading.Event()
    threading.Thread(target=_guard, args=(kept, voice, over), daemon=True).start()
    client.start()
    # One at a time each: the library sends one after the other anyway.
    with ThreadPoolExecutor(1) as sending, ThreadPoolExecutor(1) as checking:
        for line in sys.stdin:
            order = json.loads(line)
            (sending if order["do"] == "send" else checking).submit(_obey, client, voice, order)
        over.set()
        client.stop()
        os._exit(0)  # whatever still waits for an answer


def main() -> None:
    """Hold the session that the first line asks for, until stdin ends or it cannot go on."""
    logging.disable()  # the library's log names people
    voice = Voice(os.dup(1))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    order = json.loads(sys.stdin.readline())
    try:
        with store.owned(order["database"], order["account"]) as kept:
            _hold(kept, voice, order)
    except Ended as end:
        voice.ended(str(end))
    except store.InUse:
        voice.ended("in use")
    except psycopg.errors.InsufficientPrivilege:
        voice.ended("no schema")
    except psycopg.Error:
        voice.ended("no database")
    except Exception as error:  # noqa: BLE001 - its text may name people
        voice.ended("broken", detail=type(error).__name__)
    os._exit(0)


if __name__ == "__main__":
    main()
