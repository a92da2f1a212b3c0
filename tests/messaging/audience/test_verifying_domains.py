"""Whether domains take mail: real questions to a resolver on loopback."""

import asyncio

import pytest
from sqlalchemy import Engine, text

from messaging.audience.verifying_domains import Resolving, ask_domains, resolving_by, verify_members
from messaging.errors import DatabaseError, InputError
from messaging.storage import mail_domains
from messaging.storage.engine import open_engine
from schemas.states import DomainVerdict
from tests.fakes.dns import FakeDns

WORLD = {"com": ["NS ns.example.org."]}
TAKES, NO_DOMAIN = DomainVerdict.TAKES_MAIL, DomainVerdict.NO_SUCH_DOMAIN
NO_SERVER, NULL, UNKNOWN = DomainVerdict.NO_MAIL_SERVER, DomainVerdict.TAKES_NO_MAIL, DomainVerdict.UNKNOWN

ZONES = {
    "mx.example": (["MX 10 mail.mx.example."], TAKES),
    "several.example": (["MX 10 a.several.example.", "MX 20 b.several.example."], TAKES),
    "elsewhere.example": (["MX 0 mail.nowhere.invalid."], TAKES),
    "address.example": (["A 192.0.2.1"], TAKES),
    "address6.example": (["AAAA 2001:db8::1"], TAKES),
    "null.example": (["MX 0 ."], NULL),
    "null-and-address.example": (["MX 0 .", "A 192.0.2.1"], NULL),
    "null-beside-another.example": (["MX 0 .", "MX 10 mail.example."], TAKES),
    "text.example": (["TXT hello"], NO_SERVER),
    "parent.example": (None, NO_SERVER),
    "child.parent.example": (["MX 10 mail.example."], TAKES),
    "nowhere.example": (None, NO_DOMAIN),
    "xn--nio-8ma.example": (["MX 10 mail.example."], TAKES),
    "alias.example": (["CNAME mx.example."], TAKES),
    "alias-of-address.example": (["CNAME address.example."], TAKES),
    "alias-of-null.example": (["CNAME null.example."], NULL),
    "alias-of-nothing.example": (["CNAME gone.example."], NO_DOMAIN),
    "circle.example": (["CNAME circle-back.example."], UNKNOWN),
    "any.wild.example": (None, TAKES),
    "broken.example": (["SERVFAIL"], UNKNOWN),
    "broken-once.example": (["SERVFAIL 1", "MX 10 mail.example."], TAKES),
    "refused.example": (["REFUSED"], UNKNOWN),
    "silent.example": (["SILENT"], UNKNOWN),
    "silent-once.example": (["SILENT 1", "A 192.0.2.1"], TAKES),
    "noise.example": (["NOISE"], UNKNOWN),
    "large.example": (["TRUNCATED", *(f"MX {n} mail{n}.{'x' * 40}.example." for n in range(60))], TAKES),
}
NAMES = {name: lines for name, (lines, _) in ZONES.items() if lines is not None} | {
    "circle-back.example": ["CNAME circle.example."],
    "*.wild.example": ["MX 10 mail.example."],
}


def by(dns: FakeDns, **options) -> Resolving:
    return Resolving(("127.0.0.1",), dns.port, **{"timeout": 0.4} | options)


async def test_every_kind_of_zone_is_judged_right():
    with FakeDns(NAMES | WORLD).running() as dns:
        asked = await ask_domains(ZONES, by(dns))

    assert asked.verdicts == {name: verdict for name, (_, verdict) in ZONES.items()}
    assert (asked.left, asked.is_silent) == (0, False)
    assert dns.asked["large.example", "MX/tcp"] == 1


async def test_each_domain_is_asked_once_and_only_faults_again():
    domains = [f"d{n}.example" for n in range(500)]
    names = {domain: ["MX 10 mail.example."] for domain in domains} | {"d7.example": ["SERVFAIL"]}
    heard = []

    with FakeDns(names | WORLD).running() as dns:
        asked = await ask_domains(
            [domain for domain in domains for _ in range(20)],
            by(dns, timeout=20.0),
            told=lambda done, of: heard.append((done, of)),
        )

    assert dns.questions == dict.fromkeys(domains, 1) | {"d7.example": 2, "com": 1}
    assert asked.verdicts["d7.example"] is UNKNOWN
    assert heard[499] == (500, 500)


async def test_questions_on_their_way_are_bounded():
    with FakeDns({"*.example": ["MX 10 mail.example."]}).running() as dns:
        asked = await ask_domains([f"d{n}.example" for n in range(40)], by(dns, timeout=20.0, at_once=1))

    assert set(asked.verdicts.values()) == {TAKES}
    assert set(dns.questions.values()) == {1}


@pytest.mark.parametrize(
    "world", [{}, {"com": ["SILENT"]}, {"com": ["REFUSED"]}, {"com": ["TXT inner"]}], ids=str
)
async def test_who_sees_an_inner_network_only_is_believed_about_nobody(ledger: Engine, world: dict):
    with FakeDns({"inner.example": ["MX 10 mail.inner.example."]} | world).running() as dns:
        outside = [f"d{n}.example" for n in range(300)]
        asked = await ask_domains(["inner.example", *outside], by(dns, at_once=1), engine=ledger)

    assert asked.verdicts == {"inner.example": TAKES}
    assert (asked.left, asked.is_silent) == (300, True)
    assert sum(dns.questions[domain] for domain in outside) == 1  # and no more, be there a million
    assert cached(ledger) == {"inner.example": "takes mail"}


async def test_domains_not_asked_in_time_are_left(ledger: Engine):
    with FakeDns({"*.example": ["MX 10 mail.example."]} | WORLD).running() as dns:
        asked = await ask_domains(["a.example", "b.example"], by(dns), engine=ledger, most_seconds=0)

    assert (asked.verdicts, asked.left, asked.is_silent) == ({}, 2, False)
    assert not dns.asked
    assert cached(ledger) == {}


async def test_no_domains_ask_nothing():
    assert (await ask_domains([], Resolving(("127.0.0.1",), 1))).verdicts == {}


async def test_a_second_server_answers_for_one_that_is_not_there():
    with FakeDns({"a.example": ["MX 10 mail.example."]}).running() as dns:
        resolving = Resolving(("::1", "127.0.0.1"), dns.port, timeout=0.4)
        assert (await ask_domains(["a.example"], resolving)).verdicts == {"a.example": TAKES}


def cached(ledger: Engine) -> dict[str, str]:
    with ledger.begin() as connection:
        return dict(connection.execute(text("SELECT domain, verdict FROM mail_domains")).tuples().all())


async def test_what_dns_says_is_kept_as_it_comes(ledger: Engine):
    names = {f"d{n}.example": ["MX 10 mail.example."] for n in range(1200)} | {"bad.example": ["SERVFAIL"]}
    kept_while_asking = []

    def told(done: int, _: int) -> None:
        if done == 1100:
            kept_while_asking.append(len(cached(ledger)))

    with FakeDns(names | WORLD).running() as dns:
        await ask_domains(names, by(dns, timeout=20.0), engine=ledger, told=told)

    assert kept_while_asking[0] >= 500
    found = cached(ledger)
    assert (len(found), found["bad.example"]) == (1201, "unknown")


async def test_who_stops_it_keeps_what_was_answered(ledger: Engine):
    names = {f"d{n}.example": ["MX 10 mail.example."] for n in range(30)} | {"last.example": ["SILENT"]}
    answered = asyncio.Event()

    def told(done: int, _: int) -> None:
        if done == 30:
            answered.set()

    with FakeDns(names | WORLD).running() as dns:
        asking = asyncio.create_task(ask_domains(names, by(dns, timeout=30.0), engine=ledger, told=told))
        await answered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    assert cached(ledger) == {f"d{n}.example": "takes mail" for n in range(30)}


async def test_a_ledger_that_went_away_is_said_so():
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/nothing")
    with FakeDns({"a.example": ["MX 10 mail.example."]}).running() as dns, pytest.raises(DatabaseError):
        await ask_domains(["a.example"], by(dns), engine=nowhere)
    nowhere.dispose()


@pytest.mark.parametrize(
    ("verdict", "fresh", "stale"),
    [
        (TAKES, "6 days 23 hours", "7 days 1 minute"),
        (NO_DOMAIN, "23 hours", "24 hours 1 minute"),
        (NO_SERVER, "23 hours", "24 hours 1 minute"),
        (NULL, "23 hours", "24 hours 1 minute"),
        (UNKNOWN, "59 minutes", "61 minutes"),
    ],
)
def test_an_answer_is_believed_for_its_time(ledger: Engine, verdict: DomainVerdict, fresh: str, stale: str):
    with ledger.begin() as connection:
        mail_domains.remember(connection, {"fresh.example": verdict, "stale.example": verdict})
        connection.execute(
            text(
                "UPDATE mail_domains SET checked_at = now() - CAST("
                "CASE domain WHEN 'fresh.example' THEN :fresh ELSE :stale END AS interval)"
            ),
            {"fresh": fresh, "stale": stale},
        )
        assert mail_domains.known(connection, ["fresh.example", "stale.example"]) == {
            "fresh.example": verdict
        }
        mail_domains.remember(connection, {"stale.example": UNKNOWN})
        assert mail_domains.known(connection, ["stale.example"]) == {"stale.example": UNKNOWN}


def an_audience(ledger: Engine, *addresses: str) -> None:
    with ledger.begin() as connection:
        connection.execute(text("INSERT INTO audiences (name) VALUES ('customers')"))
        connection.execute(
            text("INSERT INTO contacts (email_key, email) SELECT a, a FROM unnest(CAST(:a AS text[])) a"),
            {"a": list(addresses)},
        )
        connection.execute(text("INSERT INTO audience_members SELECT 1, id FROM contacts"))


async def test_members_domains_are_asked_once_for_all(ledger: Engine):
    """Within a loop too: planning is a plain function, wherever it is called."""
    an_audience(ledger, *(f"reader{n}@d{n % 500}.example" for n in range(10_000)))
    names = {f"d{n}.example": ["MX 10 mail.example."] for n in range(500)}

    with FakeDns(names).running() as dns:
        verify_members(ledger, "customers", resolving=by(dns, timeout=20.0))
        verify_members(ledger, "customers", resolving=by(dns, timeout=20.0))

    assert len(dns.questions) == 500
    assert set(dns.questions.values()) == {1}
    assert set(cached(ledger).values()) == {"takes mail"}


def test_only_members_for_whom_the_condition_holds_are_asked_about(ledger: Engine):
    an_audience(ledger, "ada@a.example", "bo@b.example")

    with FakeDns({"a.example": ["MX 0 ."]} | WORLD).running() as dns:
        verify_members(ledger, "customers", 'email starts with "ada"', by(dns))

    assert cached(ledger) == {"a.example": "takes no mail"}


def test_dns_that_does_not_answer_stops_no_planning(ledger: Engine, caplog: pytest.LogCaptureFixture):
    an_audience(ledger, "ada@a.example")

    with FakeDns({"a.example": ["SILENT"], "com": ["SILENT"]}).running() as dns:
        verify_members(ledger, "customers", resolving=by(dns))

    assert "nobody is left out" in caplog.text
    assert cached(ledger) == {}


@pytest.mark.parametrize(
    ("server", "resolving"),
    [
        ("", Resolving()),
        ("9.9.9.9", Resolving(("9.9.9.9",))),
        ("127.0.0.1:5353", Resolving(("127.0.0.1",), 5353)),
        ("2620:fe::fe", Resolving(("2620:fe::fe",))),
        ("[::1]:5353", Resolving(("::1",), 5353)),
    ],
)
def test_a_server_is_named_by_its_address(server: str, resolving: Resolving):
    assert resolving_by(server) == resolving


@pytest.mark.parametrize("server", ["dns.example.org", "9.9.9.9:port", ":53", "[::1", "1.2.3.4.5"])
def test_what_is_no_address_gets_a_sentence(server: str):
    with pytest.raises(InputError, match="write its IP address"):
        resolving_by(server)
