"""A web server on loopback that alerts are posted to: keeps what came, answers what it is told to."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Listener:
    """A running one."""

    port: int = 0
    status: int = 200
    silent: bool = False
    """Takes the request and never answers."""
    posted: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address, as Apprise writes it."""
        return f"json://127.0.0.1:{self.port}/hook"

    @contextlib.contextmanager
    def running(self) -> Iterator["Listener"]:
        """Listen until the end of the block."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if listener.silent:
                    listener.released.wait(60)
                    return
                listener.posted.append(json.loads(content))
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.released.set()
                server.shutdown()
                thread.join(10)
