"""Access tokens come from any provider's endpoint, and a refusal says what to do in our words."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl

import pytest

from messaging.errors import AccountError, InputError, NotSent
from messaging.feedback.access_tokens import TokenSource


@contextmanager
def endpoint(status: int, answer: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Run a token endpoint that gives one answer; give its URL and what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token", asked
        finally:
            server.shutdown()
            thread.join(30)


def test_a_refresh_token_or_else_the_client_itself_is_what_is_shown():
    with endpoint(200, b'{"access_token": "fresh", "expires_in": 3600}') as (url, asked):
        assert TokenSource(url, "client", "secret", "allowed").fetch() == "fresh"
        assert TokenSource(url, "client", "secret", scope="mail").fetch() == "fresh"

    client = {"client_id": "client", "client_secret": "secret"}
    assert asked == [
        client | {"grant_type": "refresh_token", "refresh_token": "allowed"},
        client | {"grant_type": "client_credentials", "scope": "mail"},
    ]


@pytest.mark.parametrize(
    ("status", "answer", "error", "sentence"),
    [
        (400, {"error": "invalid_grant", "error_description": "canary"}, AccountError, "sign in anew"),
        (401, {"error": "invalid_client"}, AccountError, "client_id or client_secret is wrong"),
        (400, {"error": "canary"}, AccountError, "see to client_id"),
        (200, {"access_token": 7}, AccountError, "see to client_id"),
        (503, {}, NotSent, "answered 503"),
        (429, {"error": "canary"}, NotSent, "answered 429"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, answer: dict, error: type[Exception], sentence: str):
    with (
        endpoint(status, json.dumps(answer).encode()) as (url, _),
        pytest.raises(error, match=sentence) as refusal,
    ):
        TokenSource(url, "client", "canary-secret", "canary-token").fetch()

    assert "canary" not in str(refusal.value)


def test_an_endpoint_that_says_something_else_or_nothing_is_said_so():
    with endpoint(200, b"<html>") as (url, _), pytest.raises(AccountError, match="no access token"):
        TokenSource(url, "client", "secret").fetch()
    with pytest.raises(NotSent, match="no answer"):
        TokenSource("http://127.0.0.1:1/token", "client", "secret").fetch()


@pytest.mark.parametrize(
    ("url", "client", "secret"),
    [
        ("http://login.example.org/token", "client", "secret"),
        ("https://", "c", "s"),
        ("https://x.org", "c", ""),
    ],
)
def test_what_cannot_work_or_would_tell_secrets_is_refused(url: str, client: str, secret: str):
    with pytest.raises(InputError):
        TokenSource(url, client, secret)
