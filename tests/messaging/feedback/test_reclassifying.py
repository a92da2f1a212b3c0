"""Under better rules what was kept says something else, and the ledger follows; asked only, it stays."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from messaging.feedback import bounces
from messaging.feedback.bounces import read_bounces
from messaging.feedback.mail_evidence import evidence_of, kept, numbered_like
from messaging.feedback.reclassifying import reclassify
from messaging.feedback.recording import record
from messaging.storage import returned_mails, suppressions
from messaging.storage.returned_mails import Returned
from messaging.storage.tables import metadata
from schemas.bounces import BounceClass, BounceReason
from schemas.states import Channel
from tests.fakes import reports
from tests.messaging.feedback.reached import Sent, sent

BOX = "imap-mailbox/bounces"
NOW = datetime.now(UTC)


def keep(
    ledger: Engine, mail: bytes, then: tuple[BounceClass, BounceReason] | None, at: datetime = NOW
) -> str:
    """Keep and record a mail as older rules would have read it; return its event's name."""
    return keep_all(ledger, [mail], then, at)[0]


def keep_all(
    ledger: Engine, mails: list[bytes], then: tuple[BounceClass, BounceReason] | None, at: datetime = NOW
) -> list[str]:
    digests = [hashlib.sha256(mail).digest() for mail in mails]
    read = [{} if then is None else dict(enumerate(older(mail, *then))) for mail in mails]
    together = list(zip(digests, mails, read, strict=True))
    returned = [
        Returned(digest, len(mail), mail, kept(findings), [], at) for digest, mail, findings in together
    ]
    evidence = [piece for digest, _, findings in together for piece in evidence_of(findings, BOX, digest, at)]
    with ledger.begin() as connection:
        returned_mails.keep(connection, BOX, returned)
        record(connection, evidence)
    return [f"{digest.hex()}:0" for digest in digests]


def older(mail: bytes, meaning: BounceClass, reason: BounceReason) -> list[Any]:
    return [replace(finding, bounce_class=meaning, reason=reason) for finding in read_bounces(mail)]


def event(ledger: Engine, name: str) -> tuple[str, str, str, str] | None:
    with ledger.begin() as connection:
        row = connection.execute(
            text("""
                SELECT kind, details ->> 'class' AS class, details ->> 'reason' AS reason, address
                FROM events e LEFT JOIN attempts a ON a.id = e.attempt_id
                WHERE source = :source AND source_id = :name
            """),
            {"source": BOX, "name": name},
        ).one_or_none()
    return tuple(row) if row else None


def suppressed(ledger: Engine) -> dict[str, str | None]:
    """Return who is suppressed, and who was, with who ended it."""
    with ledger.begin() as connection:
        rows = suppressions.page(connection, 0, 100, Channel.EMAIL, ended=True)
    return {row.address_key: row.lifted_by for row in rows}


def snapshot(ledger: Engine) -> dict[str, list[str]]:
    with ledger.begin() as connection:
        return {
            table.name: sorted(map(str, connection.execute(table.select())))
            for table in metadata.sorted_tables
        }


HARD = (BounceClass.HARD, BounceReason.USER_UNKNOWN)
SOFT = (BounceClass.SOFT, BounceReason.UNKNOWN)


@pytest.fixture
def people(ledger: Engine) -> list[Sent]:
    return sent(ledger, "ada@example.org", "bo@example.org", "cy@example.org", "di@example.org")


def test_what_was_too_hard_is_lifted_and_what_was_too_soft_suppresses(ledger: Engine, people: list[Sent]):
    ada, bo, cy, di = people
    too_hard = keep(ledger, reports.dsn(ada.address, ada.message, reports.FULL), HARD)
    too_soft = keep(ledger, reports.dsn(bo.address, bo.message), SOFT)
    right = keep(ledger, reports.dsn(cy.address, cy.message), HARD)
    overlooked = keep(ledger, reports.complaint(di.address, di.message), None)
    assert suppressed(ledger) == {ada.address: None, cy.address: None}
    before = snapshot(ledger)

    asked = reclassify(ledger, apply=False)
    assert snapshot(ledger) == before
    applied = reclassify(ledger, apply=True)

    assert asked.model_copy(update={"applied": True, "seconds": 0}) == applied.model_copy(
        update={"seconds": 0}
    )
    assert (applied.mails, applied.changed, applied.lifted, applied.suppressed) == (4, 3, 1, 2)
    assert applied.changes == {
        "hard, user unknown": {"soft, mailbox full": 1},
        "soft, unknown": {"hard, user unknown": 1},
        "nothing": {"complaint, abuse": 1},
    }
    assert event(ledger, too_hard) == ("bounced", "soft", "mailbox full", ada.address)
    assert event(ledger, too_soft) == ("bounced", "hard", "user unknown", bo.address)
    assert event(ledger, right) == ("bounced", "hard", "user unknown", cy.address)
    assert event(ledger, overlooked) == ("complained", "complaint", "abuse", di.address)
    assert suppressed(ledger) == {
        ada.address: "reclassified", bo.address: None, cy.address: None, di.address: None,
    }  # fmt: skip
    assert reclassify(ledger, apply=True).changed == 0


def test_what_is_no_bounce_any_more_is_no_event_any_more(ledger: Engine, people: list[Sent]):
    mail = reports.ordinary()
    digest = hashlib.sha256(mail).digest()
    findings = dict(enumerate(older(reports.dsn(people[0].address, people[0].message), *HARD)))
    with ledger.begin() as connection:
        returned_mails.keep(connection, BOX, [Returned(digest, len(mail), mail, kept(findings), [], NOW)])
        record(connection, evidence_of(findings, BOX, digest, NOW))

    result = reclassify(ledger, apply=True)

    assert result.changes == {"hard, user unknown": {"nothing": 1}}
    assert event(ledger, f"{digest.hex()}:0") is None
    assert suppressed(ledger) == {people[0].address: "reclassified"}


def test_a_mail_that_our_parser_has_no_answer_to_keeps_what_was_said(
    ledger: Engine, people: list[Sent], monkeypatch: pytest.MonkeyPatch
):
    name = keep(ledger, reports.dsn(people[0].address, people[0].message), HARD)
    before = snapshot(ledger)
    monkeypatch.setattr(bounces, "read_origin", lambda *_: 1 / 0)  # a defect of ours

    result = reclassify(ledger, apply=True)

    assert (result.mails, result.changed, result.lifted) == (1, 0, 0)
    assert snapshot(ledger) == before
    assert event(ledger, name) == ("bounced", "hard", "user unknown", people[0].address)


def test_a_suppression_that_rests_on_something_else_too_stays(ledger: Engine, people: list[Sent]):
    ada, bo, cy, _ = people
    for one in (ada, bo):
        keep(ledger, reports.dsn(one.address, one.message, reports.FULL), HARD)
    keep(ledger, reports.dsn(ada.address, ada.message), HARD)  # a second one, and it is right
    with ledger.begin() as connection:  # a person has said so
        connection.execute(
            text("UPDATE suppressions SET source = 'carol', reason = 'manual' WHERE address_key = :key"),
            {"key": bo.address},
        )
    keep(ledger, reports.dsn(cy.address, cy.message, reports.FULL), HARD)

    assert reclassify(ledger, apply=True).lifted == 1
    assert suppressed(ledger) == {ada.address: None, bo.address: None, cy.address: "reclassified"}


def test_only_mail_since_a_day_is_read_when_asked(ledger: Engine, people: list[Sent]):
    ada, bo, *_ = people
    for one, at in ((ada, NOW - timedelta(days=9)), (bo, NOW)):
        keep(ledger, reports.dsn(one.address, one.message, reports.FULL), HARD, at)

    assert reclassify(ledger, NOW - timedelta(days=1), apply=False).changed == 1


def test_all_of_many_mails_are_read_page_by_page(ledger: Engine):
    people = sent(ledger, *[f"reader{n}@example.org" for n in range(450)])
    keep_all(ledger, [reports.dsn(one.address, one.message, reports.FULL) for one in people], SOFT)
    heard: list[tuple[int, int]] = []

    result = reclassify(ledger, apply=True, heard=lambda done, of: heard.append((done, of)))

    assert (result.mails, result.changed) == (450, 450)
    assert heard == [(200, 450), (400, 450), (450, 450)]


def test_findings_keep_their_numbers_by_whom_they_are_about():
    mail = reports.dsn("ada@example.org", b"Subject: x\r\n\r\n")
    [one] = read_bounces(mail)
    ada, bo, cy, nobody = (replace(one, recipient=who) for who in ("ada@a.org", "bo@a.org", "cy@a.org", None))
    before = kept({0: ada, 1: bo})

    assert numbered_like(before, [bo, ada]) == {1: bo, 0: ada}
    assert numbered_like(before, [cy, bo]) == {0: cy, 1: bo}
    assert numbered_like(before, [bo, cy, nobody]) == {1: bo, 0: cy, 2: nobody}
    assert numbered_like([], [ada, bo]) == {0: ada, 1: bo}
    assert numbered_like(before, []) == {}
