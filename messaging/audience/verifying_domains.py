"""Whether the domains of addresses take mail, as DNS says: each distinct one asked once, believed for days.

A domain takes mail when it has an MX record or, without one, an address (RFC 5321, 5.1); a null MX says that
it takes none (RFC 7505). No answer, or a fault, is held against nobody.
"""

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import dns.name
from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.resolver import NXDOMAIN, Answer, NoResolverConfiguration
from sqlalchemy import Engine

from messaging.errors import InputError, MessagingError
from messaging.storage import audiences, mail_domains
from messaging.storage.failing import database_errors
from schemas.states import DomainVerdict

PLANNING_SECONDS: Final = 60.0
"""What the planning of a campaign waits for DNS; domains not asked by then are held against nobody."""

_PAYLOAD = 1232  # bytes of an answer over UDP that no network cuts in pieces (DNS flag day 2020)
_REMEMBERED_AT_ONCE = 500
# Who does not know it sees an inner network only, and says no to everybody else's domains.
_SURELY_THERE = "com"
_TRIES = 2
_WITH_PORT = re.compile(r"(?:\[([^]]+)\]|([^:]+)):([0-9]{1,5})")

_log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""Hears how many domains are judged, of how many."""


@dataclass(frozen=True, slots=True)
class Resolving:
    """Whom to ask, and how."""

    nameservers: tuple[str, ...] = ()
    """IP addresses; none: those that this machine uses."""
    port: int = 53
    timeout: float = 3.0
    """Seconds that one server has for one question; a second server, or try, has as much again."""
    at_once: int = 50
    """Questions on their way."""


HERE: Final = Resolving()


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking came to."""

    verdicts: Mapping[str, DomainVerdict]
    """Of those that were asked; `unknown` gave no answer."""
    left: int = 0
    """Domains not asked: the time was up, or DNS does not answer here."""
    is_silent: bool = False
    """Whether DNS does not answer here at all, or only for an inner network."""


def resolving_by(server: str) -> Resolving:
    """Return how to ask a server given as 9.9.9.9, 127.0.0.1:5353 or [::1]:5353; empty: this machine's.

    Raises:
        InputError: It is no IP address.
    """
    if not server:
        return HERE
    found = _WITH_PORT.fullmatch(server)
    try:
        if found is None:
            return Resolving((str(ipaddress.ip_address(server)),))
        return Resolving((str(ipaddress.ip_address(found[1] or found[2])),), int(found[3]))
    except ValueError:
        raise InputError(
            f"{server} is no DNS server: write its IP address, as in 9.9.9.9 or 127.0.0.1:5353"
        ) from None


async def ask_domains(
    domains: Collection[str],
    resolving: Resolving = HERE,
    *,
    engine: Engine | None = None,
    most_seconds: float | None = None,
    told: Told = lambda _done, _of: None,
) -> Asked:
    """Ask DNS about domains (lower-case ASCII), each once, and those without an answer once more at the end.

    With `engine` what it says is kept, as it comes, also when this is cancelled. Those not begun after
    `most_seconds` are left.

    Raises:
        InputError: This machine has no DNS server.
        DatabaseError: The ledger went away.
    """
    asking = _Asking(resolver_of(resolving), engine, list(dict.fromkeys(domains)), told)
    loop = asyncio.get_running_loop()
    deadline = None if most_seconds is None else loop.time() + most_seconds
    try:
        try:
            for _ in range(_TRIES):
                waiting = iter(asking.unanswered())
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(resolving.at_once, len(asking.domains))):
                        group.create_task(asking.work(waiting, deadline))
        finally:  # also for who is stopped
            await asking.keep()
    except* MessagingError as errors:
        raise errors.exceptions[0] from None
    return Asked(asking.verdicts, len(asking.domains) - len(asking.verdicts), asking.works is False)


def verify_members(engine: Engine, audience: str, where: str = "", resolving: Resolving = HERE) -> None:
    """Ask DNS about those domains of an audience's members of which nothing is known, within a minute.

    Raises:
        InputError: There is no such audience, or the filter cannot be evaluated.
        DatabaseError: The ledger went away.
    """
    with engine.begin() as connection:
        members = audiences.members(connection, audiences.named(connection, audience), where)
        domains = mail_domains.unknown(connection, members)
    if not domains:
        return
    _log.info("asking DNS about %d domains of audience %r", len(domains), audience)

    async def ask() -> Asked:
        return await ask_domains(
            domains, resolving, engine=engine, most_seconds=PLANNING_SECONDS, told=_Progress()
        )

    try:
        with ThreadPoolExecutor(1) as pool:  # whoever plans may run a loop of their own
            asked = pool.submit(lambda: asyncio.run(ask())).result()
    except InputError as error:
        _log.warning("no domain is judged, so nobody is left out for it: %s", error)
        return
    if asked.is_silent:
        _log.warning("DNS does not answer here: no domain is judged, so nobody is left out for it")
    elif asked.left:
        _log.warning(
            "%d of %d domains were not asked in time: nobody is left out for them", asked.left, len(domains)
        )


@dataclass(slots=True)
class _Progress:
    """Logs each tenth."""

    _tenth: int = 0

    def __call__(self, done: int, of: int) -> None:
        if 10 * done // of > self._tenth:
            self._tenth = 10 * done // of
            _log.info("%d of %d domains are judged", done, of)


@dataclass(slots=True)
class _Asking:
    """Domains being asked about."""

    resolver: Resolver
    engine: Engine | None
    domains: list[str]
    told: Told
    verdicts: dict[str, DomainVerdict] = field(default_factory=dict)
    works: bool | None = None
    """Whether DNS knows the world; None: not doubted yet."""
    _new: dict[str, DomainVerdict] = field(default_factory=dict)
    _doubt: asyncio.Lock = field(default_factory=asyncio.Lock)

    def unanswered(self) -> list[str]:
        """Return whom nothing is known of."""
        return [
            domain
            for domain in self.domains
            if self.verdicts.get(domain, DomainVerdict.UNKNOWN) is DomainVerdict.UNKNOWN
        ]

    async def work(self, waiting: Iterator[str], deadline: float | None) -> None:
        """Ask about one after the other, as long as there is time and DNS works."""
        loop = asyncio.get_running_loop()
        for domain in waiting:
            if self.works is False or (deadline is not None and loop.time() >= deadline):
                return
            verdict = await judge_domain(self.resolver, domain)
            if verdict is not DomainVerdict.TAKES_MAIL and not await self._sees_the_world():
                return
            self.verdicts[domain] = self._new[domain] = verdict
            self.told(len(self.verdicts), len(self.domains))
            if len(self._new) >= _REMEMBERED_AT_ONCE:
                await self.keep()

    async def keep(self) -> None:
        """Keep what is new."""
        new, self._new = self._new, {}
        if self.engine is not None and new:
            await asyncio.to_thread(_remember, self.engine, new)

    async def _sees_the_world(self) -> bool:
        """Tell whether a no, or no answer, is about the domain and not about where we are."""
        async with self._doubt:
            if self.works is None:
                self.works = await knows_the_world(self.resolver)
            return self.works


async def knows_the_world(resolver: Resolver) -> bool:
    """Tell whether DNS answers here, and not only for an inner network."""
    for _ in range(_TRIES):
        with contextlib.suppress(DNSException, OSError):
            if (await records(resolver, _SURELY_THERE, "NS")).rrset is not None:
                return True
    return False


async def judge_domain(resolver: Resolver, domain: str) -> DomainVerdict:
    """Ask whether a domain takes mail: one question for most, three at most."""
    try:
        found = await records(resolver, domain, "MX")
        if found.rrset is not None:
            if all(record.exchange == dns.name.root for record in found.rrset):
                return DomainVerdict.TAKES_NO_MAIL
            return DomainVerdict.TAKES_MAIL
    except NXDOMAIN:
        return DomainVerdict.NO_SUCH_DOMAIN
    except (DNSException, OSError):
        return DomainVerdict.UNKNOWN
    verdict = DomainVerdict.NO_MAIL_SERVER
    for kind in ("A", "AAAA"):
        try:
            if (await records(resolver, domain, kind)).rrset is not None:
                return DomainVerdict.TAKES_MAIL
        except NXDOMAIN:
            pass  # some servers say so of a name that has no record of the kind
        except (DNSException, OSError):
            verdict = DomainVerdict.UNKNOWN
    return verdict


async def records(resolver: Resolver, domain: str, kind: str) -> Answer:
    """Ask for a name's records of a kind; without any, `rrset` is None.

    Raises:
        NXDOMAIN: There is no such name.
        DNSException: No answer, or a fault.
    """
    # With its last dot: not a name of ours, should this machine's network add one to others.
    seconds = _TRIES * resolver.timeout
    return await resolver.resolve(
        f"{domain}.", kind, raise_on_no_answer=False, search=False, lifetime=seconds
    )


def resolver_of(resolving: Resolving) -> Resolver:
    """Return what asks as told.

    Raises:
        InputError: This machine has no DNS server.
    """
    try:
        resolver = Resolver(configure=not resolving.nameservers)
    except NoResolverConfiguration:
        raise InputError(
            "this machine has no DNS server in /etc/resolv.conf: name one, as in --dns 9.9.9.9"
        ) from None
    if resolving.nameservers:
        resolver.nameservers = list(resolving.nameservers)
        resolver.port = resolving.port
    resolver.timeout = resolving.timeout
    resolver.use_edns(0, 0, _PAYLOAD)
    return resolver


def _remember(engine: Engine, verdicts: Mapping[str, DomainVerdict]) -> None:
    with database_errors(), engine.begin() as connection:
        mail_domains.remember(connection, verdicts)
