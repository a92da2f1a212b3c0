"""What DNS says of a sending domain, asked of a real resolver on loopback, zone by zone."""

import asyncio
import base64
from collections.abc import Callable, Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from messaging.audience.verifying_domains import Resolving
from messaging.campaign.preflight_domain import judge_sender
from schemas.preflight import Line
from tests.fakes.dns import FakeDns


def key_of(bits: int) -> str:
    public = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def short_key() -> str:
    """Return an RSA key of 512 bits, which the library makes no more."""

    def der(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    numbers = der(0x30, der(0x02, b"\0" + b"\xc3" * 64) + der(0x02, b"\1\0\1"))
    algorithm = der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    return base64.b64encode(der(0x30, algorithm + der(0x03, b"\0" + numbers))).decode()


def quoted(record: str) -> str:
    """Write a record as a zone file does: in strings of 255 bytes at most."""
    return "TXT " + " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))


RSA_2048 = quoted(f"v=DKIM1; k=rsa; p={key_of(2048)}")
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
WORLD = {"com": ["NS a.gtld-servers.net."]}
MX = "MX 10 mail.shop.co."
SPF = quoted("v=spf1 ip4:192.0.2.0/24 -all")
DMARC = quoted("v=DMARC1; p=reject; rua=mailto:d@shop.co")
GOOD = {
    "shop.co": [MX, SPF],
    "google._domainkey.shop.co": [RSA_2048],
    "_dmarc.shop.co": [DMARC],
}
INCLUDES = " ".join(f"include:i{n}.co" for n in range(11))

Zone = dict[str, Sequence[str]]
ALL_OK = "MX ok, SPF ok, DKIM ok, DMARC ok"
# Names instead of those of GOOD; what comes of it; and words that one line has.
ZONES: dict[str, tuple[Zone, str, str]] = {
    "all in order": ({}, ALL_OK, "one SPF record of 0 look-ups, which ends in -all"),
    "nothing but the name": (
        {"shop.co": [], "google._domainkey.shop.co": [], "_dmarc.shop.co": []},
        "MX warn, SPF warn, DKIM unknown, DMARC warn",
        "shop.co has no mail server",
    ),
    "null MX": ({"shop.co": ["MX 0 .", SPF]}, "MX warn, SPF ok, DKIM ok, DMARC ok", "RFC 7505"),
    "an address and no MX": ({"shop.co": ["A 192.0.2.1", SPF]}, ALL_OK, "shop.co takes answers"),
    "two SPF records": (
        {"shop.co": [MX, SPF, quoted("v=spf1 -all")]},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "2 SPF records",
    ),
    "SPF beside other texts": ({"shop.co": [MX, quoted("site-verification=1"), SPF]}, ALL_OK, "-all"),
    "a record that only looks like SPF": (
        {"shop.co": [MX, quoted("v=spf10 -all")]},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "has no SPF record",
    ),
    "SPF for everybody": (
        {"shop.co": [MX, quoted("v=spf1 include:i0.co +all")], "i0.co": [SPF]},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "lets everybody send",
    ),
    "SPF of too many look-ups": (
        {"shop.co": [MX, quoted(f"v=spf1 {INCLUDES} -all")], **{f"i{n}.co": [SPF] for n in range(11)}},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "11 look-ups or more",
    ),
    "SPF of ten look-ups, nested": (
        {
            "shop.co": [MX, quoted("v=spf1 a mx include:i0.co exists:%{i}.x.co ~all")],
            "i0.co": [quoted("v=spf1 include:i1.co include:i2.co include:i3.co -all")],
            **{f"i{n}.co": [quoted("v=spf1 a:a.co -all")] for n in (1, 2, 3)},
        },
        ALL_OK,
        "one SPF record of 10 look-ups, which ends in ~all",
    ),
    "SPF that redirects": (
        {"shop.co": [MX, quoted("v=spf1 redirect=i0.co")], "i0.co": [quoted("v=spf1 mx -all")]},
        ALL_OK,
        "2 look-ups, which ends in -all",
    ),
    "SPF in a circle": (
        {
            "shop.co": [MX, quoted("v=spf1 include:i0.co -all")],
            "i0.co": [quoted("v=spf1 include:shop.co -all")],
        },
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "in a circle",
    ),
    "SPF that includes nothing": (
        {"shop.co": [MX, quoted("v=spf1 include:gone.co -all")]},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "include leads to gone.co, which has no SPF records",
    ),
    "misspelt SPF": (
        {"shop.co": [MX, quoted("v=spf1 inculde:i0.co -all")]},
        "MX ok, SPF warn, DKIM ok, DMARC ok",
        "'inculde:i0.co' is no term",
    ),
    "a key cut off": (
        {"google._domainkey.shop.co": [quoted("v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB")]},
        "MX ok, SPF ok, DKIM warn, DMARC ok",
        "no RSA key",
    ),
    "a key that is too short": (
        {"google._domainkey.shop.co": [quoted(f"v=DKIM1; k=rsa; p={short_key()}")]},
        "MX ok, SPF ok, DKIM warn, DMARC ok",
        "it has 512 bits",
    ),
    "a revoked key": (
        {"google._domainkey.shop.co": [quoted("v=DKIM1; k=rsa; p=")]},
        "MX ok, SPF ok, DKIM warn, DMARC ok",
        "it was revoked",
    ),
    "a key of 1024 bits at an alias": (
        {
            "google._domainkey.shop.co": ["CNAME k.provider.co."],
            "k.provider.co": [quoted(f"k=rsa; p={key_of(1024)}")],
        },
        ALL_OK,
        "RSA, 1024 bits); 2048 bits are usual today",
    ),
    "an Ed25519 key": (
        {
            "google._domainkey.shop.co": [
                quoted(f"v=DKIM1; k=ed25519; p={base64.b64encode(ED25519).decode()}")
            ]
        },
        ALL_OK,
        "at google (Ed25519)",
    ),
    "a key of a name that nobody knows": (
        {"google._domainkey.shop.co": [], "unheard._domainkey.shop.co": [RSA_2048]},
        "MX ok, SPF ok, DKIM unknown, DMARC ok",
        "it may have another",
    ),
    "two DMARC records": (
        {"_dmarc.shop.co": [DMARC, DMARC.replace("reject", "none")]},
        "MX ok, SPF ok, DKIM ok, DMARC warn",
        "2 DMARC records",
    ),
    "DMARC without a policy": (
        {"_dmarc.shop.co": [quoted("v=DMARC1; rua=mailto:d@shop.co")]},
        "MX ok, SPF ok, DKIM ok, DMARC warn",
        "no policy that receivers know",
    ),
    "a server that fails": (
        {"shop.co": ["SERVFAIL"], "_dmarc.shop.co": ["SERVFAIL"], "google._domainkey.shop.co": ["REFUSED"]},
        "MX unknown, SPF unknown, DKIM unknown, DMARC unknown",
        "DNS gave no answer",
    ),
    "a server that says nothing of SPF's include": (
        {"shop.co": [MX, quoted("v=spf1 include:i0.co -all")], "i0.co": ["SILENT"]},
        "MX ok, SPF unknown, DKIM ok, DMARC ok",
        "DNS gave no answer",
    ),
    "a DNS that knows an inner network only": (
        {"com": ["SERVFAIL"], "shop.co": [], "google._domainkey.shop.co": [], "_dmarc.shop.co": []},
        "MX unknown, SPF unknown, DKIM unknown, DMARC unknown",
        "an inner network only",
    ),
}

Judge = Callable[..., list[Line]]


@pytest.fixture
def judged() -> Judge:
    def judge(names: Zone, domain: str = "shop.co", bounces: str = "") -> list[Line]:
        with FakeDns(WORLD | GOOD | names).running() as dns:
            resolving = Resolving(("127.0.0.1",), dns.port)
            return asyncio.run(judge_sender(domain, bounces or domain, resolving))

    return judge


def verdicts(lines: list[Line]) -> str:
    return ", ".join(f"{line.what} {line.verdict}" for line in lines)


@pytest.mark.parametrize("zone", ZONES)
def test_each_zone_gets_its_verdict(judged: Judge, zone: str):
    names, expected, words = ZONES[zone]

    lines = judged(names)

    assert verdicts(lines) == expected
    assert words in "\n".join(line.said for line in lines)


def test_a_warning_says_what_to_do_and_what_is_in_order_asks_for_nothing(judged: Judge):
    for names, _, _ in [ZONES["all in order"], ZONES["nothing but the name"], ZONES["two SPF records"]]:
        for line in judged(names):
            assert bool(line.do) == (line.verdict != "ok"), line


def test_a_domain_that_does_not_exist_is_warned_of_and_not_refused(judged: Judge):
    lines = judged({}, domain="nowhere.co")

    assert verdicts(lines) == "MX warn, SPF warn, DKIM unknown, DMARC warn"
    assert "nowhere.co does not exist" in lines[0].said


def test_a_name_below_has_the_policy_of_the_domain_above_it(judged: Judge):
    names = {
        "news.shop.co": [MX, SPF],
        "google._domainkey.news.shop.co": [RSA_2048],
        "_dmarc.shop.co": [quoted("v=DMARC1; p=reject; sp=quarantine")],
    }

    lines = judged(names, domain="news.shop.co")

    assert verdicts(lines) == ALL_OK
    assert lines[-1].said == "_dmarc.shop.co asks receivers for p=quarantine"


@pytest.mark.parametrize(
    ("policy", "bounces", "verdict"),
    [
        ("p=reject", "bounces.shop.co", "ok"),
        ("p=reject; aspf=s", "bounces.shop.co", "warn"),
        ("p=reject", "mailer.net", "warn"),
        ("p=none", "mailer.net", "ok"),
    ],
)
def test_spf_is_asked_of_where_bounces_go_and_counts_when_it_is_aligned(
    judged: Judge, policy: str, bounces: str, verdict: str
):
    lines = judged(
        {
            bounces: [MX, quoted("v=spf1 ip4:198.51.100.1 ~all")],
            "_dmarc.shop.co": [quoted(f"v=DMARC1; {policy}")],
        },
        bounces=bounces,
    )

    assert verdicts(lines) == f"MX ok, SPF ok, DKIM ok, DMARC {verdict}"
    assert f"{bounces} has one SPF record" in lines[1].said


@pytest.mark.parametrize(
    "domain", ["example.org", "shop.example.com", "shop.test", "x.invalid", "localhost", "mail"]
)
def test_names_of_examples_and_tests_are_not_asked_about(domain: str):
    with FakeDns(WORLD).running() as dns:
        [line] = asyncio.run(judge_sender(domain, domain, Resolving(("127.0.0.1",), dns.port)))

    assert (line.what, line.verdict) == ("DNS", "unknown")
    assert not dns.asked


def test_everything_is_asked_at_once_so_silence_costs_seconds_and_is_unknown():
    async def judge(port: int) -> tuple[list[Line], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        lines = await judge_sender("shop.co", "shop.co", Resolving(("127.0.0.1",), port))
        return lines, loop.time() - began

    with FakeDns({"com": ["SILENT"], "*.co": ["SILENT"], "shop.co": ["SILENT"]}).running() as dns:
        lines, seconds = asyncio.run(judge(dns.port))

    assert {line.verdict for line in lines} == {"unknown"}
    assert seconds < 60  # one after the other, they would take minutes
