"""What a message says and how large it is, seen as its readers and their servers see it."""

import re
from collections.abc import Sequence
from typing import Final

import inscriptis
from markupsafe import escape

from messaging.campaign.links import problem_of
from messaging.campaign.preflight_links import judge_links
from messaging.campaign.previewing import Shown
from messaging.settings import settings
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.preflight import Line, Verdict
from schemas.states import Channel

LARGEST_HTML: Final = 102 * 1024
"""Bytes of HTML of which Gmail shows all; the rest stands behind "View entire message"."""
LARGEST: Final = 10_000_000
"""Bytes of a whole message; many servers take no more than 10 MB."""
LONGEST_SUBJECT: Final = 78
"""Characters: as many as RFC 5322, 2.1.1, wants of a line; most programs show fewer."""
_WORD = re.compile(r"[^\W_]+")


def judge_content(spec: CampaignSpec, made: Sequence[Shown]) -> list[Line]:
    """Return the lines on messages that could be made; without an email there are none."""
    emails = [shown for shown in made if channel_of(shown.account) is Channel.EMAIL and not shown.problem]
    if not emails:
        return []
    return [
        _subject(emails),
        *(judge_links(spec.html) if spec.html else []),
        _unsubscribing(emails),
        _public_url(),
        _postal_address(emails),
        _size(emails),
    ]


def _subject(emails: Sequence[Shown]) -> Line:
    longest = max(len(shown.subject) for shown in emails)
    if longest <= LONGEST_SUBJECT:
        return Line(what="subject", verdict=Verdict.OK, said=f"{longest} characters at most")
    return Line(
        what="subject",
        verdict=Verdict.WARN,
        said=f"{longest} characters, of which most programs show {LONGEST_SUBJECT} or fewer",
        do="make it shorter, or cut values with the filter truncate",
    )


def _unsubscribing(emails: Sequence[Shown]) -> Line:
    missing = {
        part
        for shown in emails
        for part, text, url in (
            ("HTML", shown.html, str(escape(shown.unsubscribe_url))),
            ("text", shown.text, shown.unsubscribe_url),
        )
        if text and url not in text
    }
    if not missing:
        return Line(what="unsubscribe link", verdict=Verdict.OK, said="in each part, and in the headers")
    said = f"the {' and the '.join(sorted(missing))} show no link to unsubscribe; only the headers have one"
    if len(missing) == 1:
        said = said.replace("show no", "part shows no", 1)
    do = "put {{ unsubscribe_url }} into the template"
    return Line(what="unsubscribe link", verdict=Verdict.WARN, said=said, do=do)


def _public_url() -> Line:
    problem = problem_of(settings().public_url)
    if not problem:
        said = f"links of our own begin with {settings().public_url}"
        return Line(what="public address", verdict=Verdict.OK, said=said)
    said, _, do = problem.partition(": ")
    return Line(what="public address", verdict=Verdict.WARN, said=said, do=do)


def _postal_address(emails: Sequence[Shown]) -> Line:
    wanted = settings().postal_address.strip()
    if not wanted:
        return Line(
            what="postal address",
            verdict=Verdict.WARN,
            said="messages must show a postal address (CAN-SPAM, 15 U.S.C. 7704(a)(5)), and none is known to "
            "look for",
            do="set OUTFLOW_POSTAL_ADDRESS so that Outflow can look for it",
        )
    missing = {
        part
        for shown in emails
        for part, text in (
            ("HTML", inscriptis.get_text(shown.html) if shown.html else ""),
            ("text", shown.text),
        )
        if (text or part == "text") and _folded(wanted) not in _folded(text)
    }
    if not missing:
        return Line(what="postal address", verdict=Verdict.OK, said="in each part")
    return Line(
        what="postal address",
        verdict=Verdict.WARN,
        said=f"not in the {' and the '.join(sorted(missing))} of the message",
        do="put the address of OUTFLOW_POSTAL_ADDRESS into the template, as it is written there",
    )


def _folded(text: str) -> str:
    """Return the words of a text alone: how lines and commas part them says nothing."""
    words = " ".join(_WORD.findall(text.casefold()))
    return f" {words} "


def _size(emails: Sequence[Shown]) -> Line:
    html = max(len(shown.html.encode()) for shown in emails)
    whole = max(len(shown.content) for shown in emails)
    said = f"{_bytes(whole)} in all" + (f", of it {_bytes(html)} of HTML" if html else "")
    if html > LARGEST_HTML:
        return Line(
            what="size",
            verdict=Verdict.WARN,
            said=f"{said}: Gmail cuts HTML of more than {_bytes(LARGEST_HTML)} off",
            do="make the HTML smaller: styles and tables that repeat are most of it",
        )
    if whole > LARGEST:
        return Line(
            what="size",
            verdict=Verdict.WARN,
            said=f"{said}: many servers take no more than {LARGEST // 1_000_000} MB",
            do="lead to large files by links",
        )
    return Line(what="size", verdict=Verdict.OK, said=said)


def _bytes(size: int) -> str:
    return f"{size / 1024:,.0f} KB" if size >= 1024 else f"{size} bytes"  # noqa: PLR2004 - a KB
