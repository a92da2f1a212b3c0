"""A way to moto's server on which things go wrong: requests to a service are changed, refused or held up."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"


@dataclass
class Proxy:
    """What happens to requests, by the name of their action."""

    behind: str
    changes: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    """What is done to a request before it goes on."""
    refusals: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Status, error code and message in place of an answer."""
    cut: set[str] = field(default_factory=set)
    """Actions whose connection is closed without an answer; they are not carried out."""
    held: set[str] = field(default_factory=set)
    """Actions that wait, and are not carried out, until the proxy ends."""
    asked: Counter[str] = field(default_factory=Counter)
    reached: Event = field(default_factory=Event)
    """Set when a request is held."""
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        proxy = self.server.proxy
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        proxy.asked[action] += 1
        if action in proxy.held:
            proxy.reached.set()
            self.server.ended.wait()
        if action in proxy.held | proxy.cut:
            self.close_connection = True
            return
        if action in proxy.refusals:
            status, code, message = proxy.refusals[action]
            refused = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message}).encode()
            self._answer(status, refused, {"Content-Type": "application/x-amz-json-1.0"})
            return
        if change := proxy.changes.get(action):
            request = json.loads(body)
            change(request)
            body = json.dumps(request).encode()
        behind = urlsplit(proxy.behind)
        with contextlib.closing(HTTPConnection(behind.hostname or "", behind.port, timeout=60)) as upstream:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in {"content-length", "host"}}
            upstream.request("POST", self.path, body, kept)
            answer = upstream.getresponse()
            self._answer(answer.status, answer.read(), dict(answer.getheaders()))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: Proxy) -> None:
        super().__init__((HOST, 0), _Handler)
        self.proxy = proxy
        self.ended = Event()


@contextlib.contextmanager
def proxied(behind: str) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    proxy = Proxy(behind)
    server = _Server(proxy)
    proxy.port = server.server_address[1]
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
