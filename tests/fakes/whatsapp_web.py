"""A stand-in of WhatsApp's multi-device server on loopback, reached as an HTTP proxy.

It speaks what a linked device hears of the real one: CONNECT, TLS, WebSocket, Noise, binary nodes, Signal's
keys. Whoever scans the code, whose number is registered and what becomes of a message is up to the test.
"""

import asyncio
import base64
import contextlib
import hmac
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.fakes.whatsapp_web_keys import (
    KeyPair,
    NoiseServer,
    Recipient,
    Transport,
    certificate,
    read_group,
)
from tests.fakes.whatsapp_web_wire import Node, decode, encode
from tests.fakes.whatsapp_web_wire import field as written
from tests.fakes.whatsapp_web_wire import fields as read

HOST = "127.0.0.1"
US = "447400000001"
"""The number of the phone that scans."""
_SERVER = "s.whatsapp.net"
_HIDDEN = "7"
"""Before a number: the account's other address, which tells nobody the number (LID)."""
_ACCOUNT_SIGNATURE = b"\x06\x00"

# Fields of a message.
PLAIN = 1
"""A text without mentions, preview or quotation."""
_CONTEXT = 35


@dataclass
class World:
    """What outlives one run of the server: its keys, and the devices that were paired."""

    root: KeyPair = field(default_factory=KeyPair)
    static: KeyPair = field(default_factory=KeyPair)
    account: KeyPair = field(default_factory=KeyPair)
    phones: Recipient = field(default_factory=Recipient)
    authority: trustme.CA = field(default_factory=trustme.CA)
    devices: set[str] = field(default_factory=set)
    """As in 447400000001:3."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


@dataclass
class Sent:
    """A message as its recipient would see it."""

    to: str
    text: str
    kind: int
    """The field of WhatsApp's message that holds it."""


@dataclass
class Manners:
    """What the server does with a message."""

    error: int | None = None
    after_seconds: float = 0.0
    answers: bool = True
    hangs_up: bool = False


class WhatsAppWeb:
    """One running server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.manners = Manners()
        self.login: Node | None = None
        """What a paired device hears instead of being let in."""
        self.unregistered: set[str] = set()
        self.other_numbers: dict[str, str] = {}
        """Numbers whose account has another one, as some of Brazil and Mexico."""
        self.checks: list[list[str]] = []
        """The numbers of each question who is registered."""
        self.check_error: int | None = None
        self.groups: dict[str, list[str]] = {}
        """The numbers of each group's members."""
        self.groups_error: int | None = None
        self.sent: dict[str, Sent] = {}
        """By message id: a device that repeats itself is heard once, as by the real server."""
        self.connects = 0
        self.proxy_open = True
        self.port = 0
        self._links: list[_Link] = []
        self.waiting: asyncio.Queue[_Link] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def proxy(self) -> str:
        return f"http://{HOST}:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["WhatsAppWeb"]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.world.authority.issue_cert("web.whatsapp.com").configure_cert(tls)
        async with serve(self._talk, HOST, 0, ssl=tls, compression=None, max_size=None) as inner:
            port = inner.sockets[0].getsockname()[1]
            outer = await asyncio.start_server(lambda *ends: self._tunnel(port, *ends), HOST, 0)
            self.port = outer.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                outer.close()
                for task in list(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tunnel(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if not self.proxy_open:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
                writer.close()
                return
            inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pass_on(reader, inner_writer))
                    both.create_task(_pass_on(inner_reader, writer))
            finally:
                inner_writer.close()
                writer.close()

    async def _talk(self, socket: ServerConnection) -> None:
        link = _Link(self, socket)
        self._links.append(link)
        try:
            await link.talk()
        except ConnectionClosed:
            pass
        finally:
            self._links.remove(link)

    async def scan(self, code: str) -> None:
        """Scan a code with the phone; return once the device has signed."""
        link = await self.waiting.get()
        await link.pair(code.rpartition("#")[2].split(","))

    async def rotate(self) -> None:
        """Give the device that waits a new code."""
        link = await self.waiting.get()
        await link.offer()

    async def removes_device(self) -> None:
        """Do as a phone whose owner unlinks the device."""
        conflict = Node("conflict", {"type": "device_removed"})
        self.world.devices.clear()
        await self._tell_all(Node("stream:error", {"code": "401"}, [conflict]))

    async def replaces(self) -> None:
        """Do as if the same device had connected from elsewhere."""
        await self._tell_all(Node("stream:error", {}, [Node("conflict", {"type": "replaced"})]))

    async def reports(self, message_id: str, kind: str, *, sender: str = "77000000000001@lid") -> None:
        """Tell of a message that it was delivered ("") or read ("read")."""
        attrs = {"id": message_id, "from": sender, "t": str(int(time.time()))}
        await self._tell_all(Node("receipt", attrs | ({"type": kind} if kind else {})))

    async def hang_up(self) -> None:
        for link in list(self._links):
            await link.close()

    async def _tell_all(self, node: Node) -> None:
        for link in list(self._links):
            await link.tell(node)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


class _Link:
    """One connection of a device."""

    def __init__(self, server: WhatsAppWeb, socket: ServerConnection) -> None:
        self._server = server
        self._world = server.world
        self._socket = socket
        self._buffer = b""
        self._cipher: Transport
        self._device = ""
        self._offers = 0
        self._signed = asyncio.Event()
        self._identity = b""

    async def talk(self) -> None:
        """Greet, let in or offer codes, and answer until the end."""
        header = await self._bytes(4)
        chain = certificate(self._world.root, self._world.static)
        noise = NoiseServer(header, self._world.static, chain)
        hello = read(read(await self._frame())[2][0])
        ephemeral, static, payload = noise.answer(hello[1][0])
        greeting = written(1, ephemeral) + written(2, static) + written(3, payload)
        await self._write(written(3, greeting))
        finish = read(read(await self._frame())[4][0])
        said, self._cipher = noise.finish(finish[1][0], finish[2][0])
        client = read(said)
        if 1 in client:
            await self._let_in(f"{client[1][0]}:{client.get(18, [0])[0]}")
        else:
            self._identity = read(client[19][0])[3][0]
            await self.offer()
        while True:
            await self._answer(decode(self._cipher.open(await self._frame())))

    async def _let_in(self, device: str) -> None:
        self._device = device
        self._server.connects += 1
        if self._server.login is not None:
            await self.tell(self._server.login)
        elif device not in self._world.devices:
            await self.tell(Node("failure", {"reason": "401", "location": "lla"}))
        else:
            attrs = {"t": str(int(time.time())), "lid": f"{_HIDDEN}{device}@lid"}
            await self.tell(Node("success", attrs))

    async def offer(self) -> None:
        """Send codes to show."""
        self._offers += 1
        refs = [Node("ref", {}, f"2@ref{self._offers}{n}".encode()) for n in range(6)]
        offer = Node("pair-device", {}, refs)
        attrs = {"from": f"@{_SERVER}", "type": "set", "id": f"offer{self._offers}", "xmlns": "md"}
        await self.tell(Node("iq", attrs, [offer]))
        self._server.waiting.put_nowait(self)

    async def pair(self, code: list[str]) -> None:
        """Sign for the device whose code was scanned, and have it connect anew."""
        self._device = f"{US}:{next(self._world.numbers)}"
        self._world.devices.add(self._device)
        details = written(1, 7) + written(2, int(time.time())) + written(3, 1)
        signature = self._world.account.sign(_ACCOUNT_SIGNATURE + details + self._identity)
        identity = written(1, details) + written(2, self._world.account.public) + written(3, signature)
        secret = base64.b64decode(code[3])
        sealed = written(1, identity) + written(2, hmac.digest(secret, identity, "sha256"))
        success = [
            Node("device-identity", {}, sealed),
            Node("device", {"jid": f"{self._device}@{_SERVER}", "lid": f"{_HIDDEN}{self._device}@lid"}),
            Node("platform", {"name": "android"}),
        ]
        attrs = {"from": f"@{_SERVER}", "type": "set", "id": "paired", "xmlns": "md"}
        await self.tell(Node("iq", attrs, [Node("pair-success", {}, success)]))
        await self._signed.wait()
        await self.tell(Node("stream:error", {"code": "515"}))  # the device then hangs up, and calls again

    async def _answer(self, node: Node) -> None:
        if node.tag == "message":
            await self._take(node)
        elif node.tag == "iq" and node.attrs["type"] in {"get", "set"}:
            about = node.children[0] if node.children else Node("")
            result = self._result(node.attrs["xmlns"], about, node.attrs["to"])
            kind = "error" if result and result[0].tag == "error" else "result"
            attrs = {"id": node.attrs["id"], "from": node.attrs["to"], "type": kind}
            await self.tell(Node("iq", attrs, result))
        elif node.tag == "iq" and node.attrs["id"] == "paired":
            self._signed.set()

    def _result(self, namespace: str, about: Node, to: str) -> list[Node] | None:
        if about.tag == "count":  # of one-time keys: as many as it wants, else it would make 800
            return [Node("count", {"value": "812"})]
        if namespace == "usync":
            return self._users(about)
        if namespace == "encrypt" and about.tag == "key":
            return [Node("list", {}, [self._keys(user.attrs["jid"]) for user in about.children])]
        if namespace == "w:g2":
            return self._group(to)
        return None

    def _users(self, about: Node) -> list[Node]:
        wanted = {node.tag for node in about.children[0].children}
        asked = [(user, user.child("contact")) for user in about.children[1].children]
        if "contact" in wanted:
            numbers = [contact.content.decode().partition("@")[0] for _, contact in asked if contact]
            self._server.checks.append(numbers)
            if self._server.check_error is not None:
                return [Node("error", {"code": str(self._server.check_error), "text": "rate-overlimit"})]
        users = [self._user(user.attrs.get("jid", ""), wanted, contact) for user, contact in asked]
        return [Node("usync", dict(about.attrs), [Node("result"), Node("list", {}, users)])]

    def _user(self, jid: str, wanted: set[str], contact: Node | None) -> Node:
        found = []
        if contact is not None:
            number = contact.content.decode().partition("@")[0].lstrip("+")
            here = number not in self._server.unregistered
            jid = f"{self._server.other_numbers.get(number, number)}@{_SERVER}"
            found.append(Node("contact", {"type": "in" if here else "out"}, contact.content))
        if "devices" in wanted:
            own = [self._device.partition(":")[2]] * jid.startswith((US, _HIDDEN + US))
            devices = [Node("device", {"id": number}) for number in ["0", *own]]
            found.append(Node("devices", {}, [Node("device-list", {}, devices)]))
        if "lid" in wanted:
            found.append(Node("lid", {"val": f"{_HIDDEN}{jid.partition('@')[0]}@lid"}))
        return Node("user", {"jid": jid}, found)

    def _keys(self, jid: str) -> Node:
        phones = self._world.phones
        signed = [
            Node("id", {}, b"\0\0\1"),
            Node("value", {}, phones.signed.public),
            Node("signature", {}, phones.signature),
        ]
        keys = [
            Node("registration", {}, b"\0\0\0\7"),
            Node("type", {}, b"\5"),
            Node("identity", {}, phones.identity.public),
            Node("skey", {}, signed),
        ]
        return Node("user", {"jid": jid}, keys)

    def _group(self, to: str) -> list[Node]:
        groups = self._server.groups
        if self._server.groups_error is not None:
            return [Node("error", {"code": str(self._server.groups_error), "text": "internal-server-error"})]
        if to == "@g.us":  # all that the account is in
            return [Node("groups", {}, [_about(jid, members) for jid, members in groups.items()])]
        if (members := groups.get(to)) is None:
            return [Node("error", {"code": "404", "text": "item-not-found"})]
        return [_about(to, members)]

    async def _take(self, node: Node) -> None:
        manners = self._server.manners
        if manners.error is None:
            self._server.sent[node.attrs["id"]] = _message(self._world.phones, node)
        if manners.hangs_up and not manners.answers:
            await self.close()
            return
        if not manners.answers:
            return
        await asyncio.sleep(manners.after_seconds)
        attrs = {
            "class": "message",
            "id": node.attrs["id"],
            "from": node.attrs["to"],
            "t": str(int(time.time())),
        }
        await self.tell(Node("ack", attrs | ({"error": str(manners.error)} if manners.error else {})))
        if manners.hangs_up:
            await asyncio.sleep(0.3)  # or the close overtakes the answer within the client, which asks again
            await self.close()

    async def tell(self, node: Node) -> None:
        await self._write(self._cipher.seal(encode(node)))

    async def close(self) -> None:
        await self._socket.close()

    async def _write(self, frame: bytes) -> None:
        await self._socket.send(len(frame).to_bytes(3, "big") + frame)

    async def _frame(self) -> bytes:
        return await self._bytes(int.from_bytes(await self._bytes(3), "big"))

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self._socket.recv()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def _about(group: str, members: list[str]) -> Node:
    attrs = {
        "id": group.partition("@")[0],
        "creation": "1",
        "subject": "Neighbours",
        "addressing_mode": "pn",
    }
    people = [Node("participant", {"jid": f"{number}@{_SERVER}"}) for number in [US, *members]]
    return Node("group", attrs, people)


def _message(phones: Recipient, node: Node) -> Sent:
    """Read a message as its recipient does, or the first of a group's."""
    to = node.attrs["to"].partition("@")[0]
    mine = [n for n in node.within() if n.tag == "to" and n.attrs["jid"].startswith(to)] or [node]
    sealed = {enc.attrs["type"]: enc.content for enc in reversed(list(mine[0].within())) if enc.tag == "enc"}
    plain = phones.read(sealed["pkmsg"])
    if "skmsg" in sealed:
        plain = read_group(read(plain)[2][0], sealed["skmsg"])
    found = read(plain)
    kind = next(number for number in found if number != _CONTEXT)
    text = found[kind][0].decode() if kind == PLAIN else ""
    return Sent(node.attrs.get("peer_recipient_pn", node.attrs["to"]), text, kind)
