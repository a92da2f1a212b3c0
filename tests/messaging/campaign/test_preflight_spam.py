"""SpamAssassin itself scores messages, offline; every template that we ship is far from spam."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from messaging.campaign.definition import load_campaign
from messaging.campaign.preflight_spam import judge_spam
from messaging.campaign.previewing import From, previews
from messaging.settings import settings
from schemas.accounts import channel_of
from schemas.states import Channel

EXAMPLES = Path(__file__).parents[3] / "examples"
EMAILS = [
    path
    for path in sorted(EXAMPLES.rglob("*.yaml"))
    if channel_of(load_campaign(path).account) is Channel.EMAIL
]
SENDER = From("smtp-account/main", "Example Shop <news@shop.example.org>")
SPAM = b"""From: X <x@shop.example.org>\r
To: you@example.com\r
Subject: URGENT!!! YOU HAVE WON\r
\r
XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r
"""  # the text that every filter is to call spam: https://spamassassin.apache.org/gtube/


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def choose(name: str) -> None:
        monkeypatch.setenv("OUTFLOW_SPAMASSASSIN", name)
        settings.cache_clear()

    yield choose
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def spamassassin(program: Callable[[str], None]) -> None:
    if shutil.which("spamassassin") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no SpamAssassin: apt-get install spamassassin")
        pytest.skip("there is no SpamAssassin")
    program("spamassassin")


@pytest.mark.usefixtures("spamassassin")
@pytest.mark.parametrize("path", EMAILS, ids=lambda path: path.stem)
async def test_every_template_that_we_ship_is_far_from_spam(ledger: Engine, audience, path: Path):
    spec = load_campaign(path)
    audience("ada@example.org", "bob@example.org", name=spec.audience, city="Leeds")
    with ledger.begin() as connection:
        made = previews(connection, spec, [SENDER]).people

    for shown in made:
        line = await judge_spam(shown.content)
        assert line.verdict == "ok"
        assert float(line.said.removeprefix("SpamAssassin gives it ").partition(" ")[0]) <= 1.0
        assert not re.search(r"MISSING_|MIME_|HTML_IMAGE_ONLY", line.said)
    assert made


@pytest.mark.usefixtures("spamassassin")
async def test_spam_is_warned_of_with_the_rules_that_it_breaks():
    line = await judge_spam(SPAM)

    assert (line.what, line.verdict) == ("spam score", "warn")
    assert "GTUBE 1000" in line.said
    assert line.do


@pytest.mark.usefixtures("spamassassin")
async def test_a_message_without_its_usual_headers_loses_points():
    line = await judge_spam(b"Subject: hi\r\n\r\nHello\r\n")

    assert "MISSING_DATE" in line.said
    assert "MISSING_FROM" in line.said or "MISSING_HEADERS" in line.said


async def test_without_the_program_nothing_is_looked_at(program: Callable[[str], None]):
    program("no-such-program")
    line = await judge_spam(SPAM)

    assert (line.verdict, line.do) == ("unknown", "install spamassassin")
    assert line.said == "not looked at: SpamAssassin is not here"

    program("")
    assert (await judge_spam(SPAM)).do == ""


async def test_a_program_that_says_something_else_gives_no_score(
    program: Callable[[str], None], tmp_path: Path
):
    other = tmp_path / "spamassassin"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    program(str(other))

    line = await judge_spam(SPAM)

    assert (line.verdict, line.said) == ("unknown", "SpamAssassin gave no score")
