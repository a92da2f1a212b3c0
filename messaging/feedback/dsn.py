"""Read the part of a report that machines write for machines (RFC 3464; older: RFC 1894).

Lenient about what is common and wrong: no blank line between recipients, no `rfc822;` before an address,
fields in a text part, X.400 addresses.
"""

import re
from dataclasses import dataclass

from messaging.feedback.addresses import first_address
from messaging.feedback.mail import Mail, decoded, decoded_words

_FIELD = re.compile(rb"^([A-Za-z][\w-]{2,60})[ \t]*:[ \t]*(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_STARTS_RECIPIENT = {"final-recipient", "original-recipient", "action"}
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_MOST_RECIPIENTS = 1000
_KINDS = {"message/delivery-status", "message/global-delivery-status"}

_ABOUT_RECIPIENT = _STARTS_RECIPIENT | {
    "status", "diagnostic-code", "remote-mta", "last-attempt-date", "final-log-id", "will-retry-until",
    "x-actual-recipient", "x400-originally-specified-recipient-number", "x-display-name",
    "x-supplementary-info", "x400-supplementary-info", "x-postfix-sender", "x-envelope-to",
}  # fmt: skip


@dataclass(slots=True)
class Group:
    """What a report says about one recipient, and about the message as a whole."""

    fields: dict[str, str]
    about_message: dict[str, str]

    @property
    def original(self) -> str:
        """The address that was written to, when the report has it."""
        return _address(_value(self.fields.get("original-recipient", "")))

    @property
    def final(self) -> str:
        """The address at which delivery ended."""
        return _address(self.final_text)

    @property
    def final_text(self) -> str:
        """Where delivery ended, as it stands: an address, a program, a file."""
        return _value(self.fields.get("final-recipient", ""))

    @property
    def action(self) -> str:
        """One word of RFC 3464, 2.3.3, in lower case."""
        words = self.fields.get("action", "").lower().split()
        return words[0].strip(";,.") if words else ""

    @property
    def status(self) -> str:
        """The enhanced status code, or nothing."""
        match = _ENHANCED.search(self.fields.get("status", ""))
        return match[0] if match else ""

    @property
    def diagnostic(self) -> str:
        """What was said, without the name of the protocol before it."""
        extra = " ".join(
            self.fields.get(name, "") for name in ("x400-supplementary-info", "x-supplementary-info")
        )
        return f"{_value(self.fields.get('diagnostic-code', ''))} {extra}".strip()

    @property
    def reporting_mta(self) -> str:
        """The host that reports, or nothing."""
        return _value(self.about_message.get("reporting-mta", "")).split(" ")[0]

    @property
    def envelope_id(self) -> str:
        """What the sender gave as ENVID (RFC 3461, 4.4), or nothing."""
        return self.about_message.get("original-envelope-id", "")


def read_groups(mail: Mail) -> list[Group]:
    """Return a group per recipient of every delivery status part, in order."""
    groups: list[Group] = []
    for part in mail.parts:
        described = part.headers.raw(b"content-description")
        if part.kind in _KINDS or (described and described[0].strip().lower() == b"delivery report"):
            groups += read_fields(part.content().replace(b"\r\n", b"\n"))
    return groups[:_MOST_RECIPIENTS]


def read_fields(text: bytes) -> list[Group]:
    """Return a group per recipient of the fields in a text; what is no field is passed over."""
    about_message: dict[str, str] = {}
    groups: list[Group] = []
    current: dict[str, str] | None = None
    end = 0
    for match in _FIELD.finditer(text):
        name = match[1].decode().lower()
        separated = b"\n\n" in text[end : match.start() + 1] or b"\n \n" in text[end : match.start() + 1]
        end = match.end()
        if name not in _ABOUT_RECIPIENT and (current is None or separated):
            current = None
            about_message.setdefault(name, _text(name, match[2]))
            continue
        begins = name in _STARTS_RECIPIENT and (
            current is None or name in current or (separated and "final-recipient" in current)
        )
        if current is None or begins:
            current = {}
            groups.append(Group(current, about_message))
        current.setdefault(name, _text(name, match[2]))
    return [group for group in groups if group.fields.keys() & _STARTS_RECIPIENT]


def _text(name: str, value: bytes) -> str:
    """Return a field on one line; in an address what looks like an encoded word is none."""
    return " ".join(decoded(value).split()) if name.endswith("-recipient") else decoded_words(value)


def _address(value: str) -> str:
    """Return the address in a field's value: all of it, as odd as it may be, unless there is more in it."""
    whole = value.strip("<>.,;")
    alone = whole.count("@") == 1 and " " not in whole and not whole.startswith("@")
    return whole if alone else first_address(value)


def _value(field: str) -> str:
    """Leave out the type before the semicolon, when what is before it is one word."""
    kind, semicolon, value = field.partition(";")
    return value.strip() if semicolon and " " not in kind.strip() and "@" not in kind else field.strip()
