"""What is known of an audience's addresses before they are written to."""

import csv
import stat
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.audience.verifying_audience import NumberCheck, verify_audience
from messaging.audience.verifying_domains import Resolving
from messaging.errors import InputError
from messaging.storage import whatsapp_numbers
from schemas.verifying import AddressVerdict, AudienceVerification
from tests.fakes.dns import FakeDns

MX = ["MX 10 mail.example."]
NAMES = {
    "com": ["NS ns.example."],
    "good.example": MX,
    "gmial.com": MX,
    "mailinator.com": MX,
    "null.example": ["MX 0 ."],
    "text.example": ["TXT hello"],
    "broken.example": ["SERVFAIL"],
}
CAMPAIGN = """
    INSERT INTO campaigns (name, spec, audience_id, state)
    VALUES (:name, '{}', (SELECT id FROM audiences WHERE name = 'customers'), 'finished');
    INSERT INTO batches (campaign_id, number) SELECT max(id), 1 FROM campaigns;
    INSERT INTO attempts
        (campaign_id, batch_id, contact_id, address_key, address, state, unreachable, answered_at)
    SELECT (SELECT max(id) FROM campaigns), (SELECT max(id) FROM batches), id, email_key, email,
        CASE WHEN email_key LIKE 'refused%' THEN :refused ELSE 'accepted' END,
        email_key LIKE 'refused%' AND :refused = 'rejected', now() - CAST(:ago AS interval)
    FROM contacts WHERE email_key IS NOT NULL
"""
EVENT = """
    INSERT INTO events (attempt_id, kind, source, source_id, details, occurred_at)
    SELECT id, :kind, 'test', address_key, jsonb_build_object('class', CAST(:class AS text)),
        now() - interval '1 day'
    FROM attempts WHERE address_key = :address
"""


def an_audience(ledger: Engine, *addresses: str, name: str = "customers") -> None:
    with ledger.begin() as connection:
        connection.execute(text("INSERT INTO audiences (name) VALUES (:name)"), {"name": name})
        connection.execute(
            text("""
                WITH made AS (
                    INSERT INTO contacts (email_key, email, phone)
                    SELECT CASE WHEN a LIKE '%@%' THEN lower(a) END, CASE WHEN a LIKE '%@%' THEN a END,
                        CASE WHEN a NOT LIKE '%@%' THEN a END
                    FROM unnest(CAST(:addresses AS text[])) WITH ORDINALITY AS given (a, n) ORDER BY n
                    RETURNING id)
                INSERT INTO audience_members SELECT (SELECT max(id) FROM audiences), id FROM made
            """),
            {"addresses": list(addresses)},
        )


def sent(ledger: Engine, ago: str, refused: str = "rejected", name: str = "earlier") -> None:
    with ledger.begin() as connection:
        for statement in CAMPAIGN.split(";"):
            connection.execute(text(statement), {"name": name, "ago": ago, "refused": refused})


def heard(ledger: Engine, kind: str, address: str, bounce_class: str = "hard") -> None:
    with ledger.begin() as connection:
        connection.execute(text(EVENT), {"kind": kind, "address": address, "class": bounce_class})


async def verified(ledger: Engine, **options) -> AudienceVerification:
    with FakeDns(NAMES).running() as dns:
        resolving = Resolving(("127.0.0.1",), dns.port, timeout=2)
        return await verify_audience(ledger, "customers", resolving, **options)


def told(found: AudienceVerification) -> dict[tuple[str, str], int]:
    assert sum(count.addresses for count in found.counts) == found.addresses == sum(found.verdicts.values())
    return {(count.verdict, count.reason): count.addresses for count in found.counts}


async def test_addresses_are_counted_by_verdict_and_reason(ledger: Engine, tmp_path: Path):
    an_audience(
        ledger,
        "ada@good.example", "Bo@good.example", "cy@null.example", "di@text.example", "ed@gone.example",
        "ed@broken.example", "flo@gmial.com", "gil@mailinator.com", "info@good.example", "info@gone.example",
        "+447400000001",
    )  # fmt: skip
    file = tmp_path / "not-good.csv"

    found = await verified(ledger, csv=file)

    assert told(found) == {
        ("good", ""): 2,
        ("bad", "no such domain"): 2,
        ("bad", "no mail server"): 1,
        ("bad", "takes no mail"): 1,
        ("unknown", "DNS gave no answer"): 1,
        ("risky", "e-mail: domain likely mistyped"): 1,
        ("risky", "e-mail: throw-away domain"): 1,
        ("risky", "e-mail: a role, not a person"): 1,
    }
    assert [count.verdict for count in found.counts] == ["good", *["bad"] * 3, *["risky"] * 3, "unknown"]
    assert found.verdicts == {
        AddressVerdict.GOOD: 2, AddressVerdict.RISKY: 3, AddressVerdict.UNKNOWN: 1, AddressVerdict.BAD: 4,
    }  # fmt: skip
    assert (found.contacts, found.addresses, found.domains_asked) == (11, 10, 7)
    assert found.suggestions == {"gmial.com → gmail.com": 1}
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    assert len(rows) == 8
    assert rows[0] == {
        "address": "cy@null.example", "verdict": "bad", "reason": "takes no mail", "suggestion": "",
    }  # fmt: skip
    assert {row["suggestion"] for row in rows} == {"", "gmial.com → gmail.com"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_what_is_known_is_not_asked_again(ledger: Engine):
    an_audience(ledger, "ada@good.example", "bo@null.example", "cy@broken.example")

    first, again = await verified(ledger), await verified(ledger)

    assert (first.domains_asked, again.domains_asked) == (3, 0)
    assert told(first) == told(again)


async def test_what_came_back_before_is_held_against_an_address(ledger: Engine):
    an_audience(
        ledger,
        *(f"{word}@good.example" for word in ("ada", "bounced", "full", "angry", "refused", "gone", "opted")),
    )
    sent(ledger, "2 days")
    heard(ledger, "bounced", "bounced@good.example")
    heard(ledger, "bounced", "full@good.example", "soft")
    heard(ledger, "complained", "angry@good.example")
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('email', 'gone@good.example', 'unsubscribed', 'test'),
                    ('whatsapp', 'ada@good.example', 'unsubscribed', 'test');
                INSERT INTO audience_opt_outs (audience_id, channel, address_key, source)
                VALUES (1, 'email', 'opted@good.example', 'test'), (2, 'email', 'ada@good.example', 'test')
            """)
        )

    assert told(await verified(ledger)) == {
        ("good", ""): 2,
        ("bad", "bounced before"): 1,
        ("bad", "complained before"): 1,
        ("bad", "refused before: leads to nobody"): 1,
        ("bad", "suppressed: unsubscribed"): 1,
        ("bad", "suppressed: unsubscribed from this audience"): 1,
    }


async def test_what_a_person_has_lifted_since_is_forgiven(ledger: Engine):
    an_audience(ledger, *(f"{word}@good.example" for word in ("bounced", "angry", "refused", "again")))
    sent(ledger, "2 days")
    for word, kind in (("bounced", "bounced"), ("angry", "complained"), ("again", "bounced")):
        heard(ledger, kind, f"{word}@good.example")
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source, expires_at, lifted_by)
                SELECT 'email', email_key, 'bounced', 'test',
                    now() - CAST(CASE WHEN email_key LIKE 'again%' THEN '3 days' ELSE '1 h' END AS interval),
                    'ada on here'
                FROM contacts
            """)
        )

    assert told(await verified(ledger)) == {("good", ""): 3, ("bad", "bounced before"): 1}


async def test_who_was_reached_after_a_refusal_is_good_again(ledger: Engine):
    an_audience(ledger, "refused@good.example")
    sent(ledger, "2 days")
    assert told(await verified(ledger)) == {("bad", "refused before: leads to nobody"): 1}

    sent(ledger, "1 day", refused="accepted", name="later")

    assert told(await verified(ledger)) == {("good", ""): 1}


async def test_where_dns_does_not_answer_nobody_is_bad(ledger: Engine):
    an_audience(ledger, "ada@good.example", "bo@gone.example")

    with FakeDns({"com": ["REFUSED"], "*.example": ["REFUSED"]}).running() as dns:
        found = await verify_audience(ledger, "customers", Resolving(("127.0.0.1",), dns.port))

    assert told(found) == {("unknown", "DNS was not asked"): 2}
    assert (found.dns_is_silent, found.domains_left) == (True, 2)


async def test_numbers_are_judged_by_what_whatsapp_says(ledger: Engine):
    an_audience(
        ledger, "+447400000001", "+447400000002", "+447400000003", "+447400000004", "ada@good.example"
    )
    asked = []
    with ledger.begin() as connection:
        whatsapp_numbers.remember(connection, {"+447400000001": True})
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('whatsapp', '+447400000004', 'manual', 'test')
            """)
        )

    async def ask(phones: list[str]) -> None:
        asked.extend(phones)
        with ledger.begin() as connection:
            whatsapp_numbers.remember(connection, {"+447400000002": False})

    found = await verified(ledger, numbers=NumberCheck(ask, days=30))

    assert asked == ["+447400000002", "+447400000003"]
    assert found.numbers_asked == 2
    assert told(found) == {
        ("good", ""): 1,
        ("bad", "not on WhatsApp"): 1,
        ("bad", "suppressed: manual"): 1,
        ("unknown", "not asked whether it is on WhatsApp"): 1,
    } | {("good", ""): 1}
    assert {count.channel for count in found.counts} == {"email", "whatsapp"}


async def test_a_file_is_harmless_to_a_spreadsheet_and_not_left_half_written(ledger: Engine, tmp_path: Path):
    an_audience(ledger, "=cmd@null.example", "-a@null.example", "+1@null.example")
    file = tmp_path / "not-good.csv"

    await verified(ledger, csv=file)

    written = [row["address"] for row in csv.DictReader(file.read_text("utf-8-sig").splitlines())]
    assert written == ["'=cmd@null.example", "'-a@null.example", "'+1@null.example"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [("nowhere/file.csv", "there is no folder"), ("file.xlsx", "ends in .csv or .parquet")],
)
async def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(
    ledger: Engine, tmp_path: Path, place: str, sentence: str
):
    an_audience(ledger, "ada@good.example")

    with pytest.raises(InputError, match=sentence):
        await verify_audience(ledger, "customers", Resolving(("127.0.0.1",), 1), csv=tmp_path / place)


async def test_an_audience_that_is_not_there_is_named(ledger: Engine):
    an_audience(ledger, name="custmers")

    with pytest.raises(InputError, match="did you mean 'custmers'"):
        await verified(ledger)


async def test_pages_add_up(ledger: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("messaging.storage.known_addresses._PAGE", 100)
    an_audience(ledger, *(f"reader{n}@{'null' if n % 2 else 'good'}.example" for n in range(1001)))
    steps = []

    found = await verified(
        ledger, csv=tmp_path / "all.csv", told=lambda doing, done, of: steps.append((doing, done, of))
    )

    assert told(found) == {("good", ""): 501, ("bad", "takes no mail"): 500}
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 501
    assert ("asking DNS", 2, 2) in steps
    assert steps[-1] == ("judging e-mail addresses", 1001, 1001)
