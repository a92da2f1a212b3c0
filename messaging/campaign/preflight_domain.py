"""What DNS says of a sending domain: SPF, DKIM, DMARC, and whether it takes answers.

Everything is asked at the same time, and nobody waits for long: no answer is `unknown`, never a fault, as is
a no from a DNS that knows an inner network only.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.resolver import NXDOMAIN

from messaging.audience.verifying_domains import (
    Resolving,
    judge_domain,
    knows_the_world,
    records,
    resolver_of,
)
from messaging.campaign.preflight_dkim import SELECTORS, judge_dkim
from messaging.campaign.preflight_spf import judge_spf
from messaging.errors import InputError
from schemas.preflight import Line, Verdict
from schemas.states import DomainVerdict

MOST_SECONDS: Final = 5.0
"""What all questions about a domain take together; one of them has three."""
_QUESTION_SECONDS: Final = 1.5  # of a try; there are two
# Names that lead nowhere on purpose (RFC 2606, RFC 6761, RFC 6762).
_RESERVED: Final = (
    *("example.com", "example.net", "example.org"),
    *("example", "test", "invalid", "localhost", "local", "internal"),
)
_POLICIES: Final = ("none", "quarantine", "reject")
_TAG = re.compile(r"\s*([A-Za-z]+)\s*=\s*([^;]*?)\s*(?:;|$)")
_MOST_LABELS: Final = 8  # of a domain whose parents are asked (RFC 7489's successor walks as far)
_NAMES: Final = ("MX", "SPF", "DKIM", "DMARC")


def is_reserved(domain: str) -> bool:
    """Tell whether a domain is one of examples and tests, of which DNS says nothing."""
    return any(domain == name or domain.endswith(f".{name}") for name in _RESERVED) or "." not in domain


async def judge_sender(domain: str, bounces: str, resolving: Resolving) -> list[Line]:
    """Return a line each on MX, SPF, DKIM and DMARC.

    Args:
        domain: Of the header From, lower-case ASCII.
        bounces: That bounces go to; SPF is asked of it.
        resolving: Whom to ask; times are our own.
    """
    if is_reserved(domain):
        said = f"{domain} is a name for examples and tests, so DNS was not asked"
        return [Line(what="DNS", verdict=Verdict.UNKNOWN, said=said)]
    try:
        resolver = resolver_of(replace(resolving, timeout=_QUESTION_SECONDS))
    except InputError:
        return _unknown(_NAMES, "this machine has no DNS server")
    asked = {
        "MX": _mx(resolver, domain),
        "SPF": judge_spf(bounces, _texts(resolver)),
        "DKIM": _dkim(resolver, domain),
        "DMARC": _dmarc(resolver, domain, bounces),
    }
    world, *lines = await asyncio.gather(
        _in_time("", knows_the_world(resolver)), *(_in_time(what, work) for what, work in asked.items())
    )
    found = [line for line in lines if isinstance(line, Line)]
    if world is not True and any(line.verdict is Verdict.WARN for line in found):
        why = "DNS does not answer here, or for an inner network only"
        found = [line if line.verdict is Verdict.OK else _unknown([line.what], why)[0] for line in found]
    return found


def _unknown(names: Sequence[str], why: str) -> list[Line]:
    do = "run outflow check where DNS answers, or with --dns"
    return [Line(what=what, verdict=Verdict.UNKNOWN, said=f"not known: {why}", do=do) for what in names]


async def _in_time(what: str, work: Awaitable[Line | bool]) -> Line | bool:
    """Await an answer; none in time is unknown."""
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await work
    except (TimeoutError, DNSException, OSError):
        return _unknown([what], "DNS gave no answer")[0]


def _texts(resolver: Resolver) -> Callable[[str], Awaitable[Sequence[str]]]:
    async def texts(name: str) -> Sequence[str]:
        try:
            found = await records(resolver, name, "TXT")
        except NXDOMAIN:
            return ()
        if found.rrset is None:
            return ()
        return [b"".join(record.strings).decode("ascii", "replace") for record in found.rrset]

    return texts


async def _mx(resolver: Resolver, domain: str) -> Line:
    verdict = await judge_domain(resolver, domain)
    if verdict is DomainVerdict.UNKNOWN:
        return _unknown(["MX"], "DNS gave no answer")[0]
    if verdict is DomainVerdict.TAKES_MAIL:
        return Line(what="MX", verdict=Verdict.OK, said=f"{domain} takes answers")
    why = {
        DomainVerdict.NO_SUCH_DOMAIN: "does not exist",
        DomainVerdict.TAKES_NO_MAIL: "takes no mail (null MX, RFC 7505), so servers may refuse what it sends",
        DomainVerdict.NO_MAIL_SERVER: "has no mail server, so answers and bounces are lost",
    }[verdict]
    do = "send from a domain that takes mail, or give this one an MX record"
    return Line(what="MX", verdict=Verdict.WARN, said=f"{domain} {why}", do=do)


async def _dkim(resolver: Resolver, domain: str) -> Line:
    texts = _texts(resolver)

    async def ask(selector: str) -> Sequence[str] | None:
        try:
            return await texts(f"{selector}._domainkey.{domain}")
        except (DNSException, OSError):
            return None

    answers = await asyncio.gather(*map(ask, SELECTORS))
    found = dict(zip(SELECTORS, answers, strict=True))
    known = {selector: records or () for selector, records in found.items()}
    return judge_dkim(domain, known, sum(answer is None for answer in answers))


async def _dmarc(resolver: Resolver, domain: str, bounces: str) -> Line:
    """Judge the policy of a domain: its own, or that of the nearest domain above it."""
    labels = domain.split(".")[-_MOST_LABELS:]
    names = [".".join(labels[start:]) for start in range(len(labels) - 1)]
    texts = _texts(resolver)
    answers = await asyncio.gather(*(texts(f"_dmarc.{name}") for name in names), return_exceptions=True)
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BaseException):
            raise answer  # what is nearer counts, and it is not known
        policies = [tags for record in answer if (tags := _policy(record))]
        if len(policies) > 1:
            said = f"{name} has {len(policies)} DMARC records, so receivers take none of them"
            return _dmarc_line(Verdict.WARN, said, f"make one TXT record at _dmarc.{name} of them")
        if policies and not (name != domain and policies[0].get("psd") == "y"):
            return _judged(policies[0], name, domain, bounces)
    return _dmarc_line(
        Verdict.WARN,
        f"{domain} has no DMARC record, which Gmail, Yahoo and Outlook ask of senders of many messages",
        f"publish a TXT record at _dmarc.{domain}: v=DMARC1; p=none; rua=mailto:YOUR-ADDRESS",
    )


def _policy(record: str) -> dict[str, str]:
    """Return the tags of a DMARC record; none of anything else."""
    tags = _TAG.findall(record)
    return {name.lower(): value for name, value in tags} if tags and tags[0] == ("v", "DMARC1") else {}


def _judged(tags: dict[str, str], name: str, domain: str, bounces: str) -> Line:
    policy = tags.get("p", "").lower()
    if policy not in _POLICIES:
        said = f"the DMARC record at _dmarc.{name} has no policy that receivers know"
        return _dmarc_line(Verdict.WARN, said, "give it p=none, p=quarantine or p=reject")
    if name != domain:
        policy = tags.get("sp", policy).lower()
    said = f"_dmarc.{name} asks receivers for p={policy}"
    strict = tags.get("aspf", "r").lower() == "s"
    aligned = bounces == domain or (
        not strict and (bounces == name or bounces.endswith(f".{name}") or domain.endswith(f".{bounces}"))
    )
    if aligned:
        return _dmarc_line(Verdict.OK, said)
    said += f"; bounces go to {bounces}, so SPF does not count for {domain} and DKIM alone must"
    if policy == "none":
        return _dmarc_line(Verdict.OK, said)
    return _dmarc_line(
        Verdict.WARN,
        said,
        f"have your provider sign with DKIM as {domain}, or take bounces at a name below {name}",
    )


def _dmarc_line(verdict: Verdict, said: str, do: str = "") -> Line:
    return Line(what="DMARC", verdict=verdict, said=said, do=do)
