"""What is known of an audience's addresses before they are written to: syntax, DNS, and what came back."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl
from sqlalchemy import Engine, Row

from messaging.audience.emails import judge_emails
from messaging.audience.exports import check_file, write_pages
from messaging.audience.verifying_domains import HERE, Asked, Resolving, ask_domains
from messaging.errors import MessagingError
from messaging.storage import audiences, known_addresses, mail_domains
from messaging.storage.failing import database_errors
from schemas.reasons import Warn
from schemas.states import Channel, DomainVerdict
from schemas.verifying import AddressFault, AddressVerdict, AudienceVerification, VerdictCount

MOST_NUMBERS: Final = 200
"""Numbers that WhatsApp is asked about in one run: asking for many looks suspicious."""

_MOST_TYPOS = 20

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much."""

_ROWS = pl.Schema(dict.fromkeys(("address", "against", "said"), pl.String()))
_NOT_GOOD = pl.Schema(dict.fromkeys(("address", "verdict", "reason", "suggestion"), pl.String()))
_REFUSING = [DomainVerdict.NO_SUCH_DOMAIN, DomainVerdict.NO_MAIL_SERVER, DomainVerdict.TAKES_NO_MAIL]
_SUSPICIONS = {  # the first that applies
    "email_typo": Warn.EMAIL_TYPO,
    "email_disposable": Warn.EMAIL_DISPOSABLE,
    "email_mixed_scripts": Warn.EMAIL_MIXED_SCRIPTS,
    "email_role": Warn.EMAIL_ROLE,
}


@dataclass(frozen=True, slots=True)
class NumberCheck:
    """Have WhatsApp asked whether numbers are registered; it keeps the answers itself."""

    ask: Callable[[list[str]], Awaitable[None]]
    days: int
    """How long an answer is believed."""


async def verify_audience(  # noqa: PLR0913 - an argument per option
    engine: Engine,
    name: str,
    resolving: Resolving = HERE,
    *,
    csv: Path | None = None,
    numbers: NumberCheck | None = None,
    told: Progress = lambda _doing, _done, _of: None,
) -> AudienceVerification:
    """Judge the addresses of an audience's members, and write those that are not good to a file.

    DNS is asked about domains of which nothing is known, and with `numbers` WhatsApp about phone numbers, of
    which else nothing is said. Nothing is sent. Broken off, what DNS said so far is kept.

    Raises:
        InputError: There is no such audience, its filter cannot be evaluated, or the file cannot be written.
        DatabaseError: The ledger went away.
    """
    started = time.perf_counter()
    if csv is not None:
        check_file(csv)
    asked = await _ask_dns(engine, name, resolving, told)
    numbers_asked = 0 if numbers is None else await _ask_whatsapp(engine, name, numbers, told)
    judging = _Judging(engine, name, None if numbers is None else numbers.days, told)
    try:
        contacts = await asyncio.to_thread(judging.run, csv)
    except asyncio.CancelledError:
        judging.stopped.set()
        raise
    return AudienceVerification(
        audience=name,
        contacts=contacts,
        addresses=judging.counts.total(),
        verdicts=judging.verdicts(),
        counts=judging.ordered(),
        suggestions=dict(judging.suggestions.most_common(_MOST_TYPOS)),
        domains_asked=len(asked.verdicts),
        domains_left=asked.left,
        dns_is_silent=asked.is_silent,
        numbers_asked=numbers_asked,
        file=str(csv or ""),
        seconds=time.perf_counter() - started,
    )


async def _ask_dns(engine: Engine, name: str, resolving: Resolving, told: Progress) -> Asked:
    def unknown() -> list[str]:
        with database_errors(), engine.begin() as connection:
            members = audiences.members(connection, audiences.named(connection, name))
            return mail_domains.unknown(connection, members)

    domains = await asyncio.to_thread(unknown)
    return await ask_domains(
        domains, resolving, engine=engine, told=lambda done, of: told("asking DNS", done, of)
    )


async def _ask_whatsapp(engine: Engine, name: str, numbers: NumberCheck, told: Progress) -> int:
    def unknown() -> list[str]:
        with database_errors(), engine.begin() as connection:
            members = audiences.members(connection, audiences.named(connection, name))
            return known_addresses.unknown_numbers(connection, members, numbers.days, MOST_NUMBERS)

    phones = await asyncio.to_thread(unknown)
    if phones:
        told("asking WhatsApp", 0, len(phones))
        await numbers.ask(phones)
    return len(phones)


@dataclass(slots=True)
class _Judging:
    """Addresses being judged, page by page."""

    engine: Engine
    name: str
    days: int | None
    told: Progress
    stopped: threading.Event = field(default_factory=threading.Event)
    counts: Counter[tuple[Channel, str, str]] = field(default_factory=Counter)
    suggestions: Counter[str] = field(default_factory=Counter)

    def run(self, csv: Path | None) -> int:
        """Judge all addresses, write those that are not good, and return how many contacts there are."""
        with database_errors(), self.engine.begin() as connection, ExitStack() as stack:
            audience_id = audiences.named(connection, self.name)
            contacts = audiences.size(connection, audience_id)["contacts"]
            members = audiences.members(connection, audience_id)
            pages = stack.enter_context(closing(known_addresses.emails(connection, audience_id, members)))
            not_good = self._counted(Channel.EMAIL, map(_judge_emails, pages), contacts)
            if self.days is not None:
                found = known_addresses.numbers(connection, audience_id, members, self.days)
                pages = stack.enter_context(closing(found))
                not_good = _both(
                    not_good, self._counted(Channel.WHATSAPP, map(_judge_numbers, pages), contacts)
                )
            if csv is None:
                for _ in not_good:
                    pass
            else:
                write_pages(csv, not_good, _NOT_GOOD)
        return contacts

    def verdicts(self) -> dict[AddressVerdict, int]:
        """Count addresses by verdict."""
        found: Counter[str] = Counter()
        for (_, verdict, _), n in self.counts.items():
            found[verdict] += n
        return {verdict: found[verdict] for verdict in AddressVerdict}

    def ordered(self) -> list[VerdictCount]:
        """Return the counts as a person reads them: what is good first, then what is worst and most."""
        place = {verdict: place for place, verdict in enumerate(("good", "bad", "risky", "unknown"))}
        found = sorted(self.counts.items(), key=lambda one: (one[0][0], place[one[0][1]], -one[1], one[0][2]))
        return [
            VerdictCount(channel=channel, verdict=AddressVerdict(verdict), reason=reason, addresses=n)
            for (channel, verdict, reason), n in found
        ]

    def _counted(
        self, channel: Channel, judged: Iterator[pl.DataFrame], contacts: int
    ) -> Iterator[pl.DataFrame]:
        done = 0
        for page in judged:
            if self.stopped.is_set():
                raise MessagingError("the verification was stopped")
            counted = page.group_by("verdict", "reason").len()
            for verdict, reason, n in counted.iter_rows():
                self.counts[channel, verdict, reason] += n
            self.suggestions.update(dict(page["suggestion"].drop_nulls().value_counts().iter_rows()))
            done += page.height
            self.told(
                f"judging {'e-mail addresses' if channel is Channel.EMAIL else 'numbers'}", done, contacts
            )
            yield page.filter(pl.col("verdict") != AddressVerdict.GOOD.value)


def _both(first: Iterator[pl.DataFrame], second: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield from first
    yield from second


def _judge_emails(page: Sequence[Row[Any]]) -> pl.DataFrame:
    rows = pl.DataFrame(page, _ROWS, orient="row")
    judged = rows.join(
        judge_emails(rows["address"]), left_on="address", right_on="given", how="left", maintain_order="left"
    )
    said = pl.col("said")
    return _verdicts(
        judged,
        bad=pl.coalesce("email_reason", "against", pl.when(said.is_in(_REFUSING)).then(said)),
        unknown=pl.when(said.is_null())
        .then(pl.lit(AddressFault.NOT_ASKED.value))
        .when(said == DomainVerdict.UNKNOWN.value)
        .then(pl.lit(AddressFault.NO_ANSWER.value)),
        risky=pl.coalesce(
            *(
                pl.when(pl.col(name).is_not_null() if name == "email_typo" else pl.col(name)).then(
                    pl.lit(warn.value)
                )
                for name, warn in _SUSPICIONS.items()
            )
        ),
        suggestion=pl.col("email_typo"),
    )


def _judge_numbers(page: Sequence[Row[Any]]) -> pl.DataFrame:
    rows = pl.DataFrame(page, _ROWS, orient="row")
    not_there = pl.col("said") == AddressFault.NOT_ON_WHATSAPP.value
    return _verdicts(
        rows,
        bad=pl.coalesce("against", pl.when(not_there).then("said")),
        unknown=pl.when(pl.col("said").is_null()).then(pl.lit(AddressFault.NUMBER_NOT_ASKED.value)),
        risky=pl.lit(None, pl.String),
        suggestion=pl.lit(None, pl.String),
    )


def _verdicts(
    rows: pl.DataFrame, *, bad: pl.Expr, unknown: pl.Expr, risky: pl.Expr, suggestion: pl.Expr
) -> pl.DataFrame:
    found = rows.select("address", suggestion.alias("suggestion"), bad=bad, unknown=unknown, risky=risky)
    verdict = pl.coalesce(
        *(
            pl.when(pl.col(name).is_not_null()).then(pl.lit(name))
            for name in (AddressVerdict.BAD, AddressVerdict.UNKNOWN, AddressVerdict.RISKY)
        ),
        pl.lit(AddressVerdict.GOOD.value),
    )
    return found.select(
        "address",
        verdict=verdict,
        reason=pl.coalesce("bad", "unknown", "risky", pl.lit("")),
        suggestion="suggestion",
    )
