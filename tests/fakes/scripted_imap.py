"""An IMAP server on loopback that lies, stalls and breaks off as its script says; else it is honest."""

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
HUGE = 10_000_000_000
_PATIENCE = 30.0


@dataclass
class Stored:
    content: bytes
    seen: bool = False
    said_size: int | None = None
    """What RFC822.SIZE says instead of the truth."""


Step = Callable[["Session", str, str], bytes | None]
"""Gets the session, the tag and the rest of the command; returns what to answer, or None to do as usual.

An answer that ends without a line for the tag leaves the client waiting for more.
"""


@dataclass
class ScriptedImap:
    """The server's mails, its script and what it has been asked."""

    mails: dict[int, Stored] = field(default_factory=dict)
    script: dict[str, Step] = field(default_factory=dict)
    """By command, as in SEARCH, FETCH, STORE; and GREETING."""
    capabilities: str = "IMAP4rev1 AUTH=PLAIN UIDPLUS MOVE"
    uid_validity: int = 7
    logins: dict[str, str] = field(default_factory=lambda: {"bounces": "made-up-secret"})
    tokens: dict[str, str] = field(default_factory=dict)
    port: int = 0
    opened: int = 0
    commands: list[str] = field(default_factory=list)
    folders: dict[str, list[bytes]] = field(default_factory=dict)
    """What was put into other folders."""
    _sockets: list[socket.socket] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator["ScriptedImap"]:
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                self.opened += 1
                self._sockets.append(connection)
                threads.append(threading.Thread(target=Session(self, connection).run))
                threads[-1].start()

        with socket.create_server((HOST, 0)) as listener:
            self.port = listener.getsockname()[1]
            accepting = threading.Thread(target=accept)
            accepting.start()
            try:
                yield self
            finally:
                for each in (listener, *self._sockets):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                for thread in (accepting, *threads):
                    thread.join(_PATIENCE)

    def asked(self, command: str) -> list[str]:
        return [line for line in self.commands if line.removeprefix("UID ").startswith(command)]


class Session:
    """One connection."""

    def __init__(self, server: ScriptedImap, connection: socket.socket):
        self.server = server
        self.connection = connection
        self.lines = connection.makefile("rb")

    def run(self) -> None:
        with self.connection, self.lines, contextlib.suppress(OSError, EOFError, ValueError):
            self.send(self._scripted("GREETING", "*", "") or b"* OK ready\r\n")
            while True:
                tag, _, rest = self.line().partition(" ")
                self.server.commands.append(rest)
                command = rest.removeprefix("UID ").partition(" ")[0].upper()
                answer = self._scripted(command, tag, rest)
                self.send(getattr(self, f"on_{command.lower()}")(tag, rest) if answer is None else answer)
                if command == "LOGOUT":
                    return

    def _scripted(self, command: str, tag: str, rest: str) -> bytes | None:
        step = self.server.script.get(command)
        return step(self, tag, rest) if step else None

    def line(self) -> str:
        if not (line := self.lines.readline()):
            raise EOFError
        return line.decode().removesuffix("\r\n")

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hang_up(self) -> None:
        raise EOFError

    def on_capability(self, tag: str, _rest: str) -> bytes:
        return f"* CAPABILITY {self.server.capabilities}\r\n{tag} OK done\r\n".encode()

    def on_login(self, tag: str, rest: str) -> bytes:
        _, user, password = rest.replace('"', "").split(" ")
        return self._let_in(tag, user, self.server.logins.get(user) == password, password)

    def on_authenticate(self, tag: str, rest: str) -> bytes:
        self.send(b"+ \r\n")
        said = base64.b64decode(self.line()).decode()
        if rest.endswith("PLAIN"):
            _, user, password = said.split("\0")
            return self._let_in(tag, user, self.server.logins.get(user) == password, password)
        user, _, token = said.removesuffix("\1\1").removeprefix("user=").partition("\1auth=Bearer ")
        if self.server.tokens.get(user) == token:
            return self._let_in(tag, user, True, token)  # noqa: FBT003 - it is
        self.send(b"+ " + base64.b64encode(b'{"status":"400"}') + b"\r\n")
        assert self.line() == ""
        return self._let_in(tag, user, False, token)  # noqa: FBT003 - it is not

    def _let_in(self, tag: str, user: str, right: bool, secret: str) -> bytes:  # noqa: FBT001 - internal
        if right:
            return f"{tag} OK in\r\n".encode()
        return f"{tag} NO [AUTHENTICATIONFAILED] {user} may not come in with {secret}\r\n".encode()

    def on_select(self, tag: str, _rest: str) -> bytes:
        following = max(self.server.mails, default=0) + 1
        return (
            f"* {len(self.server.mails)} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen \\Deleted)\r\n"
            f"* OK [UIDVALIDITY {self.server.uid_validity}] ok\r\n* OK [UIDNEXT {following}] ok\r\n"
            f"{tag} OK [READ-WRITE] selected\r\n"
        ).encode()

    def on_search(self, tag: str, rest: str) -> bytes:
        first, _, last = re.search(r"UID SEARCH UID (\S+)", rest)[1].partition(":")
        newest = max(self.server.mails, default=0)
        low = newest if first == "*" else int(first)
        high = newest if last in {"*", ""} else int(last)
        low, high = min(low, high), max(low, high)
        found = [
            str(uid)
            for uid, mail in sorted(self.server.mails.items())
            if low <= uid <= high and not ("UNSEEN" in rest and mail.seen)
        ]
        return f"* SEARCH {' '.join(found)}".rstrip().encode() + f"\r\n{tag} OK done\r\n".encode()

    def on_fetch(self, tag: str, rest: str) -> bytes:
        answer = b""
        for uid in self.chosen(rest):
            mail = self.server.mails[uid]
            if "BODY.PEEK" not in rest:
                size = len(mail.content) if mail.said_size is None else mail.said_size
                date = '"22-Nov-2026 10:00:00 +0000"'
                answer += f"* {uid} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE {date})\r\n".encode()
                continue
            cut = re.search(r"<0\.(\d+)>", rest)
            content = mail.content[: int(cut[1])] if cut else mail.content
            name = "BODY[]<0>" if cut else "BODY[]"
            answer += f"* {uid} FETCH (UID {uid} {name} {{{len(content)}}}\r\n".encode() + content + b")\r\n"
        return answer + f"{tag} OK done\r\n".encode()

    def chosen(self, rest: str) -> list[int]:
        uids = re.search(r"UID \w+ ([\d,:]+)", rest)[1]
        return [int(uid) for uid in uids.split(",") if int(uid) in self.server.mails]

    def on_store(self, tag: str, rest: str) -> bytes:
        for uid in self.chosen(rest):
            self.server.mails[uid].seen |= "\\Seen" in rest
        return f"{tag} OK done\r\n".encode()

    def on_list(self, tag: str, rest: str) -> bytes:
        name = rest.split('"')[-2]
        there = f'* LIST () "/" "{name}"\r\n' if name in self.server.folders else ""
        return f"{there}{tag} OK done\r\n".encode()

    def on_create(self, tag: str, rest: str) -> bytes:
        self.server.folders[rest.split('"')[1]] = []
        return f"{tag} OK done\r\n".encode()

    def on_copy(self, tag: str, rest: str) -> bytes:
        self.server.folders[rest.split('"')[1]] += [
            self.server.mails[uid].content for uid in self.chosen(rest)
        ]
        return f"{tag} OK done\r\n".encode()

    def on_move(self, tag: str, rest: str) -> bytes:
        self.on_copy(tag, rest)
        return self.on_expunge(tag, rest)

    def on_expunge(self, tag: str, rest: str) -> bytes:
        for uid in self.chosen(rest):
            del self.server.mails[uid]
        return f"{tag} OK done\r\n".encode()

    def on_logout(self, tag: str, _rest: str) -> bytes:
        return f"* BYE\r\n{tag} OK done\r\n".encode()
