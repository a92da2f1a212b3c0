"""Read what a mail system sent back: from the bytes of a mail to who failed, why and what it means.

`read_bounces` is the one way in. It never raises, whatever the bytes: mail comes from anybody.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from messaging.feedback.addresses import addresses, first_address
from messaging.feedback.arf import Complaint, read_complaint
from messaging.feedback.automatic import automatic_reason
from messaging.feedback.codes import Codes, codes_in
from messaging.feedback.dsn import Group, read_fields, read_groups
from messaging.feedback.findings import Finding, Findings
from messaging.feedback.free_text import Named, Report, named_recipients, only_address, unqualified_recipient
from messaging.feedback.mail import Headers, Mail
from messaging.feedback.origin import read_origin
from messaging.feedback.reasons import Judgement, class_of, judge
from messaging.feedback.ses_notices import bounced, complained, complaint_reason, read_notice
from schemas.bounces import BounceClass, BounceReason

_SUCCESS = {"delivered", "relayed", "expanded", "deliverable"}  # the last is Postfix's, of an address probe
_CERTAIN = 0.99
_BY_WORDS = 0.9
_VAGUE = ".0.0"
_FEW_LETTERS = 8
_LONGEST_DIAGNOSTIC = 1000
_PROGRAM = ("|", "/", ":")
_OURS = (b"to", b"from", b"delivered-to", b"return-path", b"reply-to", b"x-original-to", b"envelope-to")
_REJECTED_NOTICE = re.compile(
    rb"^disposition:.*(?:deleted|denied|failed|error)", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a report says about one recipient, before it is judged."""

    recipient: str | None
    words: tuple[str, ...]
    """What was said, best first; never empty."""

    context: tuple[str, ...] = ()
    delayed: bool = False
    status: str = ""
    action: str = ""
    reporting_mta: str = ""
    aliases: tuple[str, ...] = ()


def read_bounces(mail: bytes) -> Findings:
    """Return what a mail says about our recipients: bounces, complaints, automatic answers.

    Order: a complaint (RFC 5965), a delivery status (RFC 3464), an automatic answer (RFC 3834), free text.
    """
    try:
        opened = Mail(mail)
        findings = _read(opened)
        if findings:
            origin = read_origin(opened, _envelope_id(opened))
            findings = [replace(finding, origin=origin) for finding in findings]
        return Findings(tuple(findings), tuple(opened.notes))
    except Exception as error:  # noqa: BLE001 - one mail that cannot be read must not stop the others
        return Findings(notes=(f"could not be read: {type(error).__name__}",))


def _read(mail: Mail) -> list[Finding]:
    if complaint := read_complaint(mail):
        return _of_complaint(complaint)
    report = Report(mail)
    if notice := read_notice(mail):
        if recipients := complained(notice):
            return _of_complaint(Complaint(recipients, complaint_reason(notice), "Amazon SES: complaint"))
        return _of_groups(report, bounced(notice))
    if groups := _groups(report):
        return _of_groups(report, groups)
    if report.from_mail_system and mail.returned and not mail.report.strip():
        return _read(Mail(mail.returned))  # a gateway has put the whole report into another mail
    return _of_words(report)


def _of_words(report: Report) -> list[Finding]:
    mail = report.mail
    if not (report.is_real and report.from_mail_system):
        automatic = automatic_reason(mail, report.text)
        if automatic:
            reason, rule = automatic
            sender = first_address(mail.headers.text(b"from")) or None
            return [Finding(sender, class_of(reason), reason, _BY_WORDS, rule)]
    if report.is_real or (report.points > 1 and "message/delivery-status" in mail.kinds):
        return _of_text(report)
    return []


def _envelope_id(mail: Mail) -> str:
    return next((group.envelope_id for group in read_groups(mail)), "")


def _of_complaint(complaint: Complaint) -> list[Finding]:
    if complaint.reason is BounceReason.NOT_SPAM:
        return []
    meaning = class_of(complaint.reason)
    return [
        Finding(recipient, meaning, complaint.reason, _CERTAIN, complaint.rule)
        for recipient in complaint.recipients or (None,)
    ]


def _groups(report: Report) -> list[Group]:
    mail = report.mail
    groups = read_groups(mail) if report.may_have_fields else []
    if not groups and report.is_certain and "final-recipient:" in mail.report.lower():
        groups = [group for group in read_fields(mail.report.encode()) if "final-recipient" in group.fields]
    if not groups and report.from_mail_system:  # Dovecot's refusals are notices of a message deleted unread
        notices = [part.content() for part in mail.parts if part.kind == "message/disposition-notification"]
        rejected = [notice for notice in notices if _REJECTED_NOTICE.search(notice)]
        groups = [
            group for notice in rejected for group in read_fields(notice) if group.final or group.original
        ]
    return groups


def _of_groups(report: Report, groups: list[Group]) -> list[Finding]:
    text, subject = report.text, report.subject
    recipients = [_recipient(report, group) for group in groups]
    named = named_recipients(text, set(), [recipient or "" for recipient in recipients])
    findings: list[Finding] = []
    for group, recipient, place in zip(groups, recipients, named, strict=True):
        words = (group.diagnostic,) if group.diagnostic else _closest_first(place.paragraph)
        facts = _Facts(
            recipient,
            words,
            (place.paragraph, text, subject),
            group.action == "delayed" or (not group.action and report.delayed),
            group.status,
            group.action,
            group.reporting_mta,
            _others(recipient, group.final, place.alias),
        )
        findings.append(_finding(facts))
    return findings


def _recipient(report: Report, group: Group) -> str | None:
    """Return the address that was written to; a program or a file is not one."""
    if group.original:
        return group.original
    if group.final and not group.final_text.startswith(_PROGRAM):
        return group.final
    failed = list(addresses(report.mail.headers.text(b"x-failed-recipients")))
    if len(failed) == 1:
        return failed[0].address
    return group.final or _returned_to(report) or None


def _of_text(report: Report) -> list[Finding]:
    headers, text, subject, delayed = report.mail.headers, report.text, report.subject, report.delayed
    known = [found.address for found in addresses(headers.text(b"x-failed-recipients"))]
    if not known and report.from_mail_system and (name := unqualified_recipient(text)):
        domain = first_address(headers.text(b"from")).rpartition("@")[2]
        return [_finding(_Facts(f"{name}@{domain}", (text,), (subject,), delayed))]
    own = {
        found.address.lower()
        for name in _OURS
        for value in headers.raw(name)[:5]
        for found in addresses(value[:2000].decode("utf-8", "replace"))
    }
    named = named_recipients(text, own, known)
    if not named:
        recipient = only_address(text, own) or _returned_to(report) or only_address(subject, own)
        if not recipient and not report.is_certain:
            return []
        return [_finding(_Facts(recipient or None, (text,), (subject,), delayed))]
    return [
        _finding(
            _Facts(
                one.address,
                _words_about(named[index:], text, alone=len(named) == 1),
                (text, subject),
                delayed,
                aliases=_others(one.address, one.alias),
            )
        )
        for index, one in enumerate(named)
    ]


def _words_about(named: Sequence[Named], text: str, *, alone: bool) -> tuple[str, ...]:
    """Return what is said about the first; of addresses in a row, what follows the last is about all."""
    for one in named:
        said = one.paragraph.replace(one.address, " ")
        if sum(letter.isalpha() for letter in said[:300]) > _FEW_LETTERS:
            words = _closest_first(one.paragraph)
            return (*words, text) if alone or one is not named[0] else words
    return (text,)


def _closest_first(paragraph: str) -> tuple[str, ...]:
    """Put the lines around an address first where they quote an answer: what follows is the mailer's own."""
    closest, blank, _ = paragraph.partition("\n\n")
    return (closest, paragraph) if blank and codes_in(closest).reply else (paragraph,)


def _others(recipient: str | None, *candidates: str) -> tuple[str, ...]:
    known = (recipient or "").lower()
    return tuple(dict.fromkeys(address for address in candidates if address and address.lower() != known))


def _finding(facts: _Facts) -> Finding:
    codes = next((found for found in map(codes_in, facts.words) if found != Codes()), Codes())
    if not codes.status and not facts.status:
        codes = next((found for found in map(codes_in, facts.context) if found.status), codes)
    if facts.action in _SUCCESS and (facts.status or codes.status or "2").startswith("2"):
        judgement = Judgement(BounceReason.SUCCESS, f"action: {facts.action}", _CERTAIN)
    else:
        judgement = judge(
            facts.words, facts.context, said=codes.status, status=facts.status, reply=codes.reply
        )
    if judgement.reason is BounceReason.HOST_UNKNOWN and facts.status.startswith("4"):
        judgement = replace(judgement, reason=BounceReason.NETWORK)  # a name not found now may be there later
    meaning = class_of(judgement.reason)
    if facts.delayed and meaning is BounceClass.HARD:
        meaning = BounceClass.SOFT
    return Finding(
        facts.recipient,
        meaning,
        judgement.reason,
        judgement.confidence,
        judgement.rule,
        facts.action or ("delayed" if facts.delayed else "failed"),
        codes.status or facts.status or (codes.reply[:1] or ("4" if facts.delayed else "5")) + _VAGUE,
        codes.reply,
        " ".join(facts.words[0].split())[:_LONGEST_DIAGNOSTIC],
        facts.reporting_mta,
        facts.aliases,
    )


def _returned_to(report: Report) -> str:
    """Return the one address that the returned message was written to."""
    mail = report.mail
    block = mail.returned.lstrip(b"\n").partition(b"\n\n")[0] or mail.report[len(report.text) :].encode()
    found = {place.address.lower(): place.address for place in addresses(Headers(block).text(b"to"))}
    return next(iter(found.values())) if len(found) == 1 else ""
