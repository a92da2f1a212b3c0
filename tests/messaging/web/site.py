"""The web app on a real socket, in a thread of its own, and the links that a campaign's messages had."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Engine, text

from messaging.storage.link_keys import newest_key
from messaging.tokens import LinkKey, Purpose, sign
from messaging.web import serving
from messaging.web.application import Mount, application
from tests.faults import crowds

TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Site:
    """A running web app."""

    port: int
    home: Path
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask over a connection that is kept."""
        connection = self._connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        self._connection = connection
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            read = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (http.client.HTTPException, OSError):
            connection.close()
            self._connection = None
            raise
        return read

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()})

    def post(
        self, path: str, body: str | bytes, content_type: str = "application/x-www-form-urlencoded"
    ) -> Answer:
        content = body.encode() if isinstance(body, str) else body
        return self.ask("POST", path, content, {"Content-Type": content_type})

    def one_click(self, path: str) -> Answer:
        return self.post(path, "List-Unsubscribe=One-Click")

    def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are and return all that comes back until the other side ends it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as opened:
            opened.sendall(sent)
            return b"".join(iter(lambda: opened.recv(65536), b""))

    @property
    def health(self) -> dict[str, Any]:
        return json.loads(self.get("/health").body)

    @property
    def journal(self) -> list[Path]:
        return sorted((self.home / "web-journal").glob("*.jsonl"))


@contextlib.contextmanager
def running(engine: Engine, home: Path, mounts: Sequence[Mount] = ()) -> Iterator[Site]:
    """Serve until the end of the block, then stop as a signal would."""
    listening = serving.listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    site = Site(listening.getsockname()[1], home)
    task = loop.create_task(serving.serve(application(engine, home, mounts), listening))
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    try:
        until(lambda: site.get("/robots.txt").status == 200)
        yield site
    finally:
        site.close()
        loop.call_soon_threadsafe(task.cancel)
        thread.join(TIMEOUT)
        loop.close()


@dataclass(frozen=True, slots=True)
class Links:
    """What a campaign's messages link to."""

    tokens: tuple[UUID, ...]
    key: LinkKey

    def _signed(self, n: int, purpose: Purpose, bound: str = "") -> str:
        return sign(self.key, purpose, self.tokens[n].bytes, bound)

    def unsubscribe(self, n: int = 0) -> str:
        return "/u/" + self._signed(n, Purpose.UNSUBSCRIBE)

    def preferences(self, n: int = 0) -> str:
        return "/p/" + self._signed(n, Purpose.UNSUBSCRIBE)

    def pixel(self, n: int = 0) -> str:
        return f"/o/{self._signed(n, Purpose.OPEN)}.gif"

    def click(self, url: str, n: int = 0) -> str:
        return f"/c/{self._signed(n, Purpose.CLICK, url)}?to={quote(url, safe='/:')}"


def sent(engine: Engine, size: int = 1, ago: str = "1 hour", **changes: str) -> Links:
    """Send a campaign, as far as the ledger knows, to a new crowd and return its links."""
    campaign = crowds.plan(engine, size, **changes)
    return _links(engine, campaign, ago)


def sent_again(engine: Engine, name: str, ago: str = "1 hour") -> Links:
    """Send another campaign to the crowd there is."""
    return _links(engine, crowds.plan_for_crowd(engine, name=name), ago)


def _links(engine: Engine, campaign: int, ago: str) -> Links:
    with engine.begin() as connection:
        connection.execute(
            text("""
                UPDATE attempts SET state = 'accepted', dispatched_at = now() - CAST(:ago AS interval),
                    answered_at = now() - CAST(:ago AS interval) WHERE campaign_id = :campaign
            """),
            {"ago": ago, "campaign": campaign},
        )
        found = connection.execute(
            text("SELECT token FROM attempts WHERE campaign_id = :campaign ORDER BY id"),
            {"campaign": campaign},
        )
        return Links(tuple(found.scalars()), newest_key(connection))


def rows(engine: Engine, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    """Return what a statement finds."""
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement), parameters)]


def events(engine: Engine, kind: str) -> list[dict[str, Any]]:
    """Return the details of the events of a kind that belong to an attempt."""
    found = rows(
        engine,
        "SELECT details FROM events WHERE kind = :kind AND attempt_id IS NOT NULL ORDER BY id",
        kind=kind,
    )
    return [details for (details,) in found]


def until(holds: Callable[[], object], seconds: float = TIMEOUT) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
