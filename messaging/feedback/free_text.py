"""Recognise reports that follow no standard, and find in them who failed and what was said.

What they look like is data, in `free_text.toml`; here is how that is applied.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from messaging.feedback.addresses import Found, addresses, first_address
from messaging.feedback.mail import Headers, Mail
from messaging.feedback.reasons import folded

_ANSWERS = re.compile(
    r"(?:\s*(?:re|fwd?|aw|wg|sv|vs|antw|tr|rv|res|enc|i|r|odp|ynt|回复|答复|转发)\s*(?:\[\d+\])?\s*[:\uff1a])+\s*"
)
_LIST_FIELDS = {
    b"list-unsubscribe",
    b"list-post",
    b"list-help",
    b"list-subscribe",
    b"feedback-id",
    b"x-mailing-list",
}
_QUOTED = re.compile(r"^[ \t]*[>|].*$", re.MULTILINE)
_FORWARDED = re.compile(
    r"^[-_* >]*(?:forwarded message|original message|weitergeleitete nachricht|message transféré"
    r"|mensaje reenviado)[-_* :]*$",
    re.IGNORECASE | re.MULTILINE,
)
_SMTP_SAID = re.compile(r"\b[45]\d\d[ -]#?[45]\.\d{1,3}\.\d{1,3}\b|said: [45]\d\d|\b5\d\d[ -]")
_WORDS = re.compile(r"[^\W\d_]{3}")

_BY_SOMEBODY = re.compile(
    r"\b(?:from|by|sender|contact|reply-to|cc|von|de|da|от)\s*[:=]?\s*[<\"'(\[]?\Z", re.IGNORECASE
)

_SEPARATORS = re.compile(r"[-_.]")
_NO_REPLY = {"noreply", "no-reply", "no_reply", "donotreply", "do-not-reply"}

_ABOUT_MAIL = re.compile(
    r"\b(?:e-?mail|mail|messages?|recipients?|nachricht|zustell|empfanger|courri|destinatai|correo|mensaje"
    r"|destinatari|mensagem|messaggi|bericht|geadresseerd|wiadomosc|zprava|uzenet|mesaj|ileti|meddelande|melding|besked|viesti)"
    r"|письм|сообщен|лист|メール|宛先|邮件|郵件|收件人|메일|메시지"
)
_PERSONAL = re.compile(
    r"\?(?:\s|$)|^\s*(?:hi(?!. this is )|hello|hey|dear|hallo|hola|ciao|bonjour|fyi|thanks|thank you"
    r"|sehr geehrte|guten)\b",
    re.IGNORECASE,
)

_ENOUGH_WITH_WORDS = 2
_ENOUGH_WITHOUT = 5
_BEGINNING = 1500
_NEAR = 160
_LONGEST_PARAGRAPH = 3000
_NOBODYS = (
    "postmaster@",
    "mailer-daemon@",
    "abuse@",
    "support@",
    "helpdesk@",
    "noreply@",
    "no-reply@",
    "hostmaster@",
    "webmaster@",
    "admin@",
    "info@support",
)


@dataclass(frozen=True, slots=True)
class _Shape:
    before: re.Pattern[str]
    after: re.Pattern[str]
    from_line_start: bool


@dataclass(frozen=True, slots=True)
class _Shapes:
    sender_locals: frozenset[str]
    sender_names: tuple[str, ...]
    subjects: tuple[str, ...]
    subjects_anywhere: tuple[str, ...]
    openers: tuple[str, ...]
    delays: tuple[str, ...]
    returned: re.Pattern[str]
    groups: tuple[tuple[bool, tuple[_Shape, ...]], ...]
    """Each with whether an address of ours may be the recipient when it names no other."""

    unqualified: re.Pattern[str]
    aliases: tuple[_Shape, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A recipient that a report names, what it says of it, and the address it was forwarded from."""

    address: str
    paragraph: str
    alias: str


class Report:
    """A mail as a person would read it, prepared once: does it look like a report of a mail system?"""

    def __init__(self, mail: Mail) -> None:
        """Read the header's words; the text is read when first asked for."""
        self.mail = mail
        self.subject = mail.headers.text(b"subject")
        self._sender_points = _sender_points(mail.headers.text(b"from"), _shapes())

    @cached_property
    def text(self) -> str:
        """The report's text up to the message that it returns."""
        return before_returned(self.mail.report)

    @cached_property
    def points(self) -> int:
        """How much the header looks like a mail system's; people's mail and newsletters have none."""
        headers = self.mail.headers
        points = self._sender_points + 3 * bool(headers.raw(b"x-failed-recipients"))
        path = headers.text(b"return-path").strip().lower()
        points += path in {"<>", "<mailer-daemon>"} or path.startswith("<mailer-daemon@")
        points += headers.text(b"auto-submitted").lower().startswith("auto-")
        points += _subject_points(self.subject, _shapes())
        return points if self._sender_points > 1 else points - 3 * bool(_LIST_FIELDS & headers.names())

    @property
    def from_mail_system(self) -> bool:
        """Whether the sender's address or name is that of a mail system, or there is none."""
        return self._sender_points > 0

    @cached_property
    def delayed(self) -> bool:
        """Whether the mail system says that it is still trying."""
        start = f"{folded(self.subject)} {self._start}"
        return any(delay in start for delay in _shapes().delays)

    @cached_property
    def is_real(self) -> bool:
        """Whether header and words together are those of a mail system about a mail."""
        points = self.points
        if points == 1 and (
            returned := self.mail.returned
        ):  # a sender that takes no answers, a message enclosed
            to = first_address(Headers(returned.partition(b"\n\n")[0]).text(b"to")).lower()
            points += bool(to) and to in self.text.lower()
        if points <= 1:
            return False
        own, start = self.text[:_BEGINNING], self._start
        if not self.from_mail_system:  # what a person quotes or passes on is not what that person says
            own = _FORWARDED.split(_QUOTED.sub("", own))[0]
            start = folded(own)
            if not _ABOUT_MAIL.search(start):  # parcels, payments and orders fail to arrive too
                return False
        enough = _ENOUGH_WITHOUT
        if any(opener in start for opener in _shapes().openers) or _SMTP_SAID.search(own):
            enough = _ENOUGH_WITH_WORDS
        return points >= enough and (self.is_certain or not _PERSONAL.search(own))

    @property
    def may_have_fields(self) -> bool:
        """Whether a delivery status in it is its own: a person may pass on one of a report."""
        is_report = self.mail.headers.kind == "multipart/report"
        return is_report or self.from_mail_system or not _ANSWERS.match(self.subject.lower())

    @property
    def is_certain(self) -> bool:
        """Whether more than a sender's name and a subject says so: a person may have both."""
        brings_back = bool(self.mail.returned) or len(self.text) < len(self.mail.report)
        return self.points >= _ENOUGH_WITHOUT or (brings_back and self._sender_points > 1)

    @cached_property
    def _start(self) -> str:
        return folded(self.text[:_BEGINNING])


def before_returned(text: str) -> str:
    """Return a report's text up to the message that it returns."""
    match = _shapes().returned.search(text)
    while match and not _WORDS.search(text, 0, match.start()):  # a report that begins so returns nothing yet
        match = _shapes().returned.search(text, match.end())
    return text[: match.start()] if match else text


def named_recipients(text: str, own: set[str], known: Iterable[str] = ()) -> list[Named]:
    """Return the recipients that a report names, in order.

    Args:
        text: The report, without what it returns.
        own: Addresses that are ours or the reporter's, in lower case: never the recipient by mere mention.
        known: Recipients that a field already names; their paragraphs are looked for.
    """
    found = list(addresses(text))
    chosen = _places_of(known, found) if known else _by_shape(text, found, own)
    named: list[Named] = []
    for index, place in enumerate(chosen):
        start = text.rfind("\n", 0, place.start) + 1 if place.start >= 0 else 0
        end = next(
            (
                text.rfind("\n", 0, other.start) + 1
                for other in chosen[index + 1 :]
                if other.start > place.end
            ),
            len(text),
        )
        paragraph = text[start : max(end, place.end)][:_LONGEST_PARAGRAPH]
        named.append(Named(place.address, paragraph, _alias_in(paragraph)))
    return named


def unqualified_recipient(text: str) -> str:
    """Return the name without a domain that a report lists right after a colon, or nothing."""
    match = _shapes().unqualified.search(text[:_BEGINNING])
    return match[1] if match else ""


def only_address(text: str, own: set[str]) -> str:
    """Return the one address in a text that is neither ours nor a mail system's, if it is alone."""
    others = {
        found.address.lower() for found in addresses(text) if not _BY_SOMEBODY.search(text, 0, found.start)
    }
    others = {address for address in others - own if not address.startswith(_NOBODYS)}
    return others.pop() if len(others) == 1 else ""


def _sender_points(sender: str, shapes: _Shapes) -> int:
    sender = sender.lower()
    local = first_address(sender).partition("@")[0]
    if "mailer-daemon" in local or "mailer-daemon" in sender:
        return 3
    if _SEPARATORS.sub("", local) in shapes.sender_locals or any(
        name in sender for name in shapes.sender_names
    ):
        return 2
    return int(sender.strip() in {"", "<>"} or local in _NO_REPLY)


def _subject_points(subject: str, shapes: _Shapes) -> int:
    text = folded(subject)
    if any(phrase in text for phrase in shapes.subjects_anywhere) and not _ANSWERS.match(text):
        return 2
    if text.endswith("(delivery failed)"):
        return 2
    if not text.startswith(shapes.subjects) or _ANSWERS.match(text):
        return 0
    return 2


def _by_shape(text: str, found: list[Found], own: set[str]) -> list[Found]:
    for ours_too, group in _shapes().groups:
        chosen: dict[str, Found] = {}
        for place in found:
            address = place.address.lower()
            if address not in chosen and any(_fits(shape, text, place) for shape in group):
                chosen[address] = place
        chosen = {a: place for a, place in chosen.items() if a not in own} or (chosen if ours_too else {})
        if chosen and group is _shapes().groups[0][1]:  # a line that is set in goes on with what was said
            least = min(_indent(text, place) for place in chosen.values())
            chosen = {a: place for a, place in chosen.items() if _indent(text, place) == least}
        if len(chosen) > 1:
            chosen = {a: place for a, place in chosen.items() if not a.startswith(_NOBODYS)} or chosen
        if chosen:
            return list(chosen.values())
    return []


def _indent(text: str, place: Found) -> int:
    line = text[text.rfind("\n", 0, place.start) + 1 : place.start]
    return len(line) - len(line.lstrip())


def _places_of(known: Iterable[str], found: list[Found]) -> list[Found]:
    """Return where each known recipient stands first; one that does not stands nowhere, before all."""
    return [
        next((place for place in found if place.address.lower() == address.lower()), Found(address, -1, -1))
        for address in known
    ]


def _fits(shape: _Shape, text: str, place: Found) -> bool:
    line = text.rfind("\n", 0, place.start) + 1
    if shape.from_line_start:
        before = shape.before.fullmatch(text, line, place.start)
    else:
        before = shape.before.search(text, max(0, place.start - _NEAR), place.start)
    return bool(before and shape.after.match(text, place.end, place.end + _NEAR))


def _alias_in(paragraph: str) -> str:
    for place in addresses(paragraph):
        if any(_fits(shape, paragraph, place) for shape in _shapes().aliases):
            return place.address
    return ""


@cache
def _shapes() -> _Shapes:
    data = tomllib.loads(resources.files(__package__).joinpath("free_text.toml").read_text("utf-8"))
    words = {name: tuple(folded(row) for row in data[name]) for name in ("subjects", "openers", "delays")}
    return _Shapes(
        sender_locals=frozenset(_SEPARATORS.sub("", row) for row in data["sender_locals"]),
        sender_names=tuple(data["sender_names"]),
        subjects=words["subjects"],
        subjects_anywhere=tuple(folded(row) for row in data["subjects_anywhere"]),
        openers=words["openers"],
        delays=words["delays"],
        returned=re.compile("^(?:" + "|".join(data["returned"]) + ")", re.IGNORECASE | re.MULTILINE),
        groups=tuple(
            (name != "sentences", tuple(map(_shape, data[name])))
            for name in ("lines", "keyed", "alone", "sentences")
        ),
        unqualified=re.compile("|".join(data["unqualified"]), re.IGNORECASE | re.MULTILINE),
        aliases=tuple(map(_shape, data["aliases"])),
    )


def _shape(row: str) -> _Shape:
    before, after = row.split("{address}")
    flags = re.IGNORECASE | re.MULTILINE
    if before.startswith("^"):
        return _Shape(re.compile(before[1:], flags), re.compile(after, flags), from_line_start=True)
    return _Shape(re.compile(f"(?:{before})\\Z", flags), re.compile(after, flags), from_line_start=False)
