"""The server towards strangers: bounded, quiet, the same headers on every answer."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.web import serving
from tests.messaging.web.site import TIMEOUT, Site, rows, sent, until

OUTFLOW = str(Path(sys.executable).with_name("outflow"))
PROMISED = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cache-control": "no-store",
}


def test_every_answer_has_the_headers_and_says_nothing_of_the_server(ledger: Engine, site: Site):
    links = sent(ledger)
    for path in (
        links.unsubscribe(),
        links.preferences(),
        links.pixel(),
        links.click("https://example.org/"),
        "/health",
        "/robots.txt",
        "/favicon.ico",
        "/",
        "/u/x",
        "/nothing/here",
    ):
        answer = site.get(path)
        assert PROMISED.items() <= answer.headers.items(), path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert not {"server", "set-cookie", "x-powered-by"} & answer.headers.keys()


def test_what_is_there_beside_the_pages(site: Site):
    assert site.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"
    assert (site.get("/favicon.ico").status, site.get("/favicon.ico").body) == (204, b"")
    assert site.health == {
        "status": "ok",
        "database": "ok",
        "journal": {"in_memory": 0, "bytes": 0, "lost": 0},
    }
    unknown = site.get("/nothing/<script>")
    assert unknown.status == 404
    assert "nothing" not in unknown.text.lower().replace("nothing was", "")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/u/x", "GET, HEAD, POST"), ("/o/x", "GET, HEAD"), ("/c/x", "GET, HEAD"), ("/health", "GET, HEAD")],
)
def test_other_methods_are_refused(site: Site, path: str, allowed: str):
    answer = site.ask("DELETE", path)
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


def test_bodies_are_bounded(ledger: Engine, site: Site):
    links = sent(ledger)
    fits = "List-Unsubscribe=One-Click&pad="
    assert site.post(links.unsubscribe(), fits + "x" * (64 * 1024 - len(fits))).status == 200
    assert site.post(links.unsubscribe(), fits + "x" * (64 * 1024)).status == 413
    # One that does not say how long it will be.
    head = (
        f"POST {links.unsubscribe()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    ).encode()
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert site.raw(head + chunk * 3 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413")
    too_many = "&".join(f"a{n}=1" for n in range(2000))
    assert site.post(links.unsubscribe(), too_many).status == 400
    nested = b"--a\r\n" * 10_000
    assert site.post(links.unsubscribe(), nested, "multipart/form-data; boundary=a").status == 400
    assert site.post(links.unsubscribe(), b"\xff\xfe=\xff").status == 400


def test_heads_are_bounded(ledger: Engine, site: Site):
    links = sent(ledger)
    large = b"x" * 40_000
    for head in (
        b"GET /o/" + large + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + large + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: " + large * 3,
    ):
        assert site.raw(head).startswith(b"HTTP/1.1 400")
    with_body = (
        f"POST {links.unsubscribe()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 60000\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\nList-Unsubscribe=One-Click&x="
    ).encode()
    body_begins = with_body.index(b"\r\n\r\n") + 4
    assert site.raw(with_body.ljust(60_000 + body_begins, b"y")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /o/abc"])
def test_who_never_ends_a_request_is_not_waited_for(
    site: Site, begun: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serving, "_HEAD_SECONDS", 0.3)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT) as slow:
        slow.sendall(begun)
        assert slow.recv(1) == b""
    assert time.monotonic() - started < TIMEOUT


@pytest.mark.parametrize(("first", "size", "more"), [("GET", 0, b"\r\n"), ("POST", 1_000_000, b"x")])
def test_nor_is_who_was_answered_and_sends_no_request(
    site: Site, first: str, size: int, more: bytes, monkeypatch: pytest.MonkeyPatch
):
    """An empty line, or some of a body that nobody reads, ends uvicorn's own wait."""
    monkeypatch.setattr(serving, "_HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT) as slow:
        slow.sendall(f"{first} /o/x HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        assert slow.recv(65536).startswith(b"HTTP/1.1 4")
        slow.sendall(more)
        while slow.recv(65536):
            pass


@pytest.mark.parametrize(
    "sent_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example.net/u/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabc",
        b"POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    ],
)
def test_strange_requests_are_answered(site: Site, sent_bytes: bytes):
    answer = site.raw(sent_bytes)
    assert answer.split(b" ", 2)[1] in {b"400", b"404", b"405"}
    assert site.get("/health").status == 200


def test_an_unexpected_error_is_a_500_that_names_nobody(
    ledger: Engine, site: Site, caplog: pytest.LogCaptureFixture
):
    links = sent(ledger)
    with ledger.begin() as connection:  # something that can be nowhere in the code
        connection.execute(
            text("UPDATE campaigns SET spec = jsonb_set(spec, '{account}', '\"x@y.example/z\"')")
        )
    with caplog.at_level(logging.INFO):
        answer = site.get(links.unsubscribe())
        until(lambda: "unexpected ValueError" in caplog.text)  # logged after it was answered
    assert answer.status == 500
    assert "<h1>This did not work</h1>" in answer.text
    assert PROMISED.items() <= answer.headers.items()
    for secret in ("x@y.example", links.unsubscribe()[3:], "reader1"):
        assert secret not in caplog.text + answer.text


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path, database_url: str):
    environment = {**os.environ, "OUTFLOW_HOME": str(tmp_path), "OUTFLOW_DATABASE_URL": database_url}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = subprocess.run(
            [OUTFLOW, "web", "--port", str(taken.getsockname()[1])],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert refused.returncode == 1
    assert "choose another --host or --port" in refused.stderr


def test_a_key_can_be_added_by_command(ledger: Engine, tmp_path: Path, database_url: str):
    environment = {**os.environ, "OUTFLOW_HOME": str(tmp_path), "OUTFLOW_DATABASE_URL": database_url}
    for number in (2, 3):
        done = subprocess.run(
            [OUTFLOW, "web", "rotate-key", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f'{{"key": {number}}}\n'), done.stderr
    assert rows(ledger, "SELECT count(*), count(DISTINCT key) FROM link_keys") == [(3, 3)]


def test_the_web_app_does_not_load_prefect():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys, outflow, outflow.web, messaging.web.application, messaging.web.serving\n"
                "print([name for name in ('prefect', 'polars', 'great_expectations') if name in sys.modules])"
            ),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert loaded.stdout == "[]\n"


ACCOUNTS = """
import asyncio, json, os, pathlib
from threading import Thread
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from messaging.errors import MessagingError
from outflow.web import _whatsapp_accounts

note = pathlib.Path(os.environ["OUTFLOW_HOME"], "up.json")

class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if "block_types" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'"3.8.8"' if self.path.endswith("version") else b"true")
    do_POST = do_GET
    def log_message(self, *_):
        pass

def ask():
    try:
        return asyncio.run(_whatsapp_accounts())
    except MessagingError as error:
        return str(error)

said = [ask()]
for _ in range(2):  # the second listens at another port
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    note.write_text(json.dumps({"api_url": f"http://127.0.0.1:{server.server_port}/api"}))
    said.append(ask())
    server.shutdown()
    server.server_close()
    said.append(ask())
print(json.dumps(said))
"""


def test_the_server_that_keeps_the_accounts_may_come_late_and_move(tmp_path: Path):
    environment = {**os.environ, "OUTFLOW_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    environment.pop("PREFECT_API_URL", None)
    asked = subprocess.run(
        [sys.executable, "-c", ACCOUNTS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    none, first, gone, second, gone_again = json.loads(asked.stdout)
    assert (first, second) == ([], [])  # it knows of no account
    for each in (none, gone, gone_again):
        assert "start it (outflow up)" in each
