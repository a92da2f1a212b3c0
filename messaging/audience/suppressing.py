"""Suppressions as people keep them: added by hand or from a file, lifted, listed, exported."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from sqlalchemy import Engine

from messaging.audience.emails import judge_email
from messaging.audience.exports import write_pages
from messaging.audience.phones import check_region, judge_phone
from messaging.audience.progress import tracked
from messaging.audience.screening import screened
from messaging.errors import InputError
from messaging.storage import known_addresses, suppressions
from messaging.storage.failing import database_errors
from messaging.storage.suppressions import Suppression
from schemas.campaign import GROUP
from schemas.contacts import ImportOptions
from schemas.durations import seconds_of
from schemas.reasons import Reason
from schemas.states import Channel, SuppressionReason
from schemas.suppressing import Lifted, RefusedAddress, Suppressed

WISHES: Final = frozenset({SuppressionReason.UNSUBSCRIBED, SuppressionReason.COMPLAINED})
"""Reasons that are a person's own word: only the same person may take it back."""

_PAGE = 10_000
_NO_PHONE = "no phone number"
_NO_EMAIL = "no e-mail address"
_EXPORTED = pl.Schema(
    {
        "channel": pl.String(),
        "address": pl.String(),
        "reason": pl.String(),
        "source": pl.String(),
        "since": pl.Datetime("us", "UTC"),
        "expires": pl.Datetime("us", "UTC"),
        "lifted_by": pl.String(),
    }
)


@dataclass(frozen=True, slots=True)
class Basis:
    """Why addresses are suppressed, on whose word, and for how long."""

    reason: SuppressionReason
    actor: str
    expires_at: datetime | None = None
    channel: Channel | None = None
    """Of the addresses; None: an e-mail address is for e-mail, a number for WhatsApp."""
    region: str = ""
    """Country of numbers without a country code, as in GB."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which suppressions are meant."""

    channel: Channel | None = None
    reason: SuppressionReason | None = None
    since: datetime | None = None
    ended: bool = False
    """Those that have ended too."""


def time_ahead(text: str) -> datetime:
    """Return the time that is so long from now (90d), or the beginning of a day in UTC (2027-03-01).

    Raises:
        InputError: It is neither, or is not to come.
    """
    at = _time(text, 1)
    if at <= datetime.now(UTC):
        raise InputError(f"{text} has passed: name a time to come, as in 90d or 2027-03-01")
    return at


def time_ago(text: str) -> datetime:
    """Return the time that was so long before now (7d), or the beginning of a day in UTC (2026-10-01).

    Raises:
        InputError: It is neither.
    """
    return _time(text, -1)


def _time(text: str, sign: int) -> datetime:
    try:
        return datetime.now(UTC) + sign * timedelta(seconds=seconds_of(text))
    except ValueError:
        pass
    except OverflowError:
        raise InputError(f"{text} is too long") from None
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{text!r} is neither a length of time, as 90d, nor a date, as 2027-03-01") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def suppress_addresses(engine: Engine, addresses: Sequence[str], basis: Basis) -> Suppressed:
    """Suppress addresses as people type them; those that cannot be read are named, the others are done.

    Raises:
        InputError: There is no such country.
        DatabaseError: The ledger did not take it; nothing was written.
    """
    started = time.perf_counter()
    check_region(basis.region or None)
    keys: dict[tuple[Channel, str], None] = {}
    refused = []
    for given in addresses:
        key = _key(given, basis.channel, basis.region)
        if isinstance(key, str):
            refused.append(RefusedAddress(row=None, given=given, reason=key))
        else:
            keys[key] = None
    added, known = _impose(engine, [list(keys)], basis)
    return Suppressed(added=added, known=known, refused=refused, seconds=time.perf_counter() - started)


def suppress_file(engine: Engine, path: Path, basis: Basis) -> Suppressed:
    """Suppress the addresses of a file that an import could read, all or nothing.

    Of a row with both, without a channel, the e-mail address. Rows that cannot be read are named by number.

    Raises:
        InputError: The file cannot be used; the text says why.
        DatabaseError: The ledger did not take it; nothing was written.
    """
    started = time.perf_counter()
    refused: list[RefusedAddress] = []
    options = ImportOptions(audience="-", region=basis.region)
    with tracked(path) as progress, screened(path, options, progress) as screening:
        pages = (_keys(judged, basis.channel, refused) for judged in screening.judged)
        added, known = _impose(engine, pages, basis)
    return Suppressed(added=added, known=known, refused=refused, seconds=time.perf_counter() - started)


def standing(
    engine: Engine, addresses: Sequence[str], channel: Channel | None = None
) -> Mapping[str, Suppression]:
    """Return the suppressions that hold, by the addresses as they were typed."""
    keys = _typed(addresses, channel)
    with database_errors(), engine.begin() as connection:
        found = suppressions.standing(connection, set(keys.values()))
    return {given: found[key] for given, key in keys.items() if key in found and found[key].is_active}


def lift(engine: Engine, addresses: Sequence[str], actor: str, channel: Channel | None = None) -> Lifted:
    """Let addresses be written to again, and record who said so.

    Who unsubscribed as a contact, or from one audience, stays so: only an import with a new consent, or the
    person, can change that.

    Raises:
        InputError: Something typed is no address; nothing was written.
        DatabaseError: The ledger did not take it; nothing was written.
    """
    keys = _typed(addresses, channel)
    with database_errors(), engine.begin() as connection:
        found = suppressions.standing(connection, set(keys.values()))
        active = {key for key, suppression in found.items() if suppression.is_active}
        lifted = 0
        still = set()
        for each in Channel:
            mine = [key for kind, key in active if kind is each]
            lifted += suppressions.lift(connection, each, mine, actor)
            still |= {(each, key) for key in known_addresses.unsubscribed(connection, each, mine)}
    return Lifted(
        lifted=lifted,
        unknown=[given for given, key in keys.items() if key not in active],
        still_unsubscribed=[given for given, key in keys.items() if key in still],
    )


def suppressed(engine: Engine, chosen: Chosen) -> Iterator[list[Suppression]]:
    """Yield pages of suppressions, oldest first.

    Raises:
        DatabaseError: The ledger went away.
    """
    last = 0
    while True:
        with database_errors(), engine.begin() as connection:
            page = suppressions.page(
                connection,
                last,
                _PAGE,
                chosen.channel,
                chosen.reason,
                since=chosen.since,
                ended=chosen.ended,
            )
        if page:
            yield page
        if len(page) < _PAGE:
            return
        last = page[-1].id


def export(engine: Engine, path: Path, chosen: Chosen) -> int:
    """Write suppressions to a CSV or Parquet file, and return how many.

    Raises:
        InputError: The file cannot be written.
        DatabaseError: The ledger went away; there is no file.
    """
    return write_pages(path, map(_frame, suppressed(engine, chosen)), _EXPORTED)


def _frame(page: Sequence[Suppression]) -> pl.DataFrame:
    rows = [
        (
            str(one.channel),
            one.address_key,
            str(one.reason),
            one.source,
            one.created_at.astimezone(UTC),
            one.expires_at and one.expires_at.astimezone(UTC),
            one.lifted_by,
        )
        for one in page
    ]
    return pl.DataFrame(rows, _EXPORTED, orient="row")


def _impose(engine: Engine, pages: Iterable[list[tuple[Channel, str]]], basis: Basis) -> tuple[int, int]:
    """Suppress pages of addresses in one transaction; return how many are new, and how many were already."""
    added = known = 0
    with database_errors("the ledger did not take it; nothing was written"), engine.begin() as connection:
        for keys in pages:
            for channel in Channel:
                mine = [key for kind, key in keys if kind is channel]
                if mine:
                    imposed = suppressions.impose_list(
                        connection, channel, mine, basis.reason, basis.actor, basis.expires_at
                    )
                    added, known = added + imposed[0], known + imposed[1]
    return added, known


def _keys(
    judged: pl.DataFrame, channel: Channel | None, refused: list[RefusedAddress]
) -> list[tuple[Channel, str]]:
    """Return the addresses of judged rows, each once; rows without are added to `refused`."""
    email, phone, reason = pl.col("email_key"), pl.col("phone"), pl.col("reason")
    if channel is Channel.WHATSAPP:
        key, why = phone, pl.coalesce(reason, pl.lit(_NO_PHONE))
    elif channel is Channel.EMAIL:
        key, why = pl.when(reason.is_null()).then(email), pl.coalesce(reason, pl.lit(_NO_EMAIL))
    else:
        key, why = pl.when(reason.is_null()).then(pl.coalesce(email, phone)), reason
    rows = judged.select("row_number", key=key, why=why)
    refused += [
        RefusedAddress(row=row, given="", reason=why)
        for row, why in rows.filter(pl.col("key").is_null()).select("row_number", "why").iter_rows()
    ]
    keys = rows["key"].drop_nulls().unique(maintain_order=True)
    return [(_channel(key), key) for key in keys]


def _typed(addresses: Sequence[str], channel: Channel | None) -> dict[str, tuple[Channel, str]]:
    keys = {given: _key(given, channel, "") for given in addresses}
    for place, key in enumerate(keys.values(), 1):
        if isinstance(key, str):
            raise InputError(f"number {place} of what was typed is no address ({key}); nothing was changed")
    return {given: key for given, key in keys.items() if not isinstance(key, str)}


def _key(given: str, channel: Channel | None, region: str) -> tuple[Channel, str] | str:
    """Bring an address into the form that the ledger compares, or say what is wrong with it."""
    bare = given.strip()
    if channel is not Channel.EMAIL and re.fullmatch(GROUP, bare, re.ASCII):
        return Channel.WHATSAPP, bare
    if channel is None:
        channel = _channel(bare)
    if channel is Channel.EMAIL:
        email = judge_email(bare)
        return (channel, email.email_key) if email.email_key else str(email.email_reason)
    phone = judge_phone(bare, region or None)
    if phone.phone is None and "@" in bare:
        return _NO_PHONE
    return (channel, phone.phone) if phone.phone else str(phone.phone_reason or Reason.PHONE_NOT_A_NUMBER)


def _channel(address: str) -> Channel:
    return Channel.EMAIL if "@" in address or not any(map(str.isdigit, address)) else Channel.WHATSAPP
