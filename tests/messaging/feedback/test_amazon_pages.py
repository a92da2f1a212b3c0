"""What is fetched from Amazon comes from there: by TLS, from no other place, never more than is wanted."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trustme

from messaging.feedback import amazon_pages
from messaging.feedback.amazon_pages import MOST_BYTES, Absent, fetch

HOST = "127.0.0.1"


@dataclass
class Server:
    port: int
    trusting: ssl.SSLContext
    asked: list[str] = field(default_factory=list)

    def fetch(self, path: str) -> bytes:
        return fetch(f"https://{HOST}:{self.port}{path}", self.trusting)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str] = []
    going = threading.Event()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path
        asked.append(path)
        body = b"x" * (MOST_BYTES + 1) if path == "/large" else b"a page"
        status = int(path[1:]) if path[1:].isdigit() else 200
        request.send_response(status)
        if 300 <= status < 400:
            request.send_header("Location", "/moved")
        if path != "/endless":
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        while path == "/endless" and not going.wait(0.05):
            request.wfile.write(b"x")

    deeds = {"do_GET": answer, "log_request": lambda *_: None}
    handler = type("Handler", (http.server.BaseHTTPRequestHandler,), deeds)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    listening = http.server.ThreadingHTTPServer((HOST, 0), handler)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    serving = threading.Thread(target=listening.serve_forever)
    serving.start()
    yield Server(listening.server_port, trusting, asked)
    going.set()
    listening.shutdown()
    serving.join()
    listening.server_close()


def test_a_page_is_fetched(server: Server):
    assert server.fetch("/page") == b"a page"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, status: int):
    with pytest.raises(Absent):
        server.fetch(f"/{status}")
    assert server.asked == [f"/{status}"]


@pytest.mark.parametrize("path", ["/404", "/400", "/204", "/large"])
def test_what_is_no_page_or_too_large_is_absent(server: Server, path: str):
    with pytest.raises(Absent):
        server.fetch(path)


def test_a_server_out_of_order_may_be_asked_again(server: Server):
    with pytest.raises(OSError, match="answered 503") as failed:
        server.fetch("/503")
    assert not isinstance(failed.value, Absent)


def test_a_server_that_never_ends_is_left(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(amazon_pages, "SECONDS", 0.5)

    with pytest.raises(TimeoutError):
        server.fetch("/endless")


def test_a_server_that_nobody_vouches_for_is_asked_nothing(server: Server):
    with pytest.raises(OSError, match="certificate verify failed"):
        fetch(f"https://{HOST}:{server.port}/page")
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "file:///etc/hostname", "ftp://127.0.0.1/", "data:,x"])
def test_only_https_is_spoken(url: str):
    with pytest.raises(Absent):
        fetch(url)
