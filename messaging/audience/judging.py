"""One verdict per row: a contact, or the reason why it is refused.

A row is refused for a bad e-mail address even when its phone number is good: someone meant to give an
address. A row with a good address and a bad number is a contact without a phone. Where several columns hold
addresses or numbers, the first good one is taken. What the contact does not say then stays in its attributes
under its column's name, so that nothing is lost: a bad number, a second address, an extension.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from messaging.audience.cleaning import cleaned_column, stripped
from messaging.audience.columns import Columns
from messaging.audience.emails import judge_emails
from messaging.audience.files.layout import cell
from messaging.audience.phones import judge_phones
from messaging.audience.suspicions import is_formula, mixes_scripts
from messaging.audience.values import (
    judge_consents,
    judge_countries,
    judge_languages,
    judge_opt_outs,
    judge_statuses,
    judge_time_zones,
    meant,
)
from messaging.storage.staging import CONTACT_FIELDS
from schemas.reasons import Reason, Warn
from schemas.states import SubscriptionStatus

# What each role's cells are judged to be.
_FIELDS: Mapping[str, pl.Schema] = {
    "email": pl.Schema(
        {
            "email": pl.String(),
            "email_key": pl.String(),
            "email_reason": pl.String(),
            "email_mended": pl.Boolean(),
            "email_several": pl.Boolean(),
            "email_role": pl.Boolean(),
            "email_disposable": pl.Boolean(),
            "email_mixed_scripts": pl.Boolean(),
            "email_typo": pl.String(),
        }
    ),
    "phone": pl.Schema(
        {
            "phone": pl.String(),
            "phone_type": pl.String(),
            "phone_region": pl.String(),
            "phone_time_zone": pl.String(),
            "phone_reason": pl.String(),
            "phone_has_more": pl.Boolean(),
            "phone_several": pl.Boolean(),
        }
    ),
    "country": pl.Schema({"country": pl.String()}),
    "time_zone": pl.Schema({"time_zone": pl.String()}),
    "language": pl.Schema({"language": pl.String()}),
    "status": pl.Schema({"status": pl.String()}),
    "consent": pl.Schema({"consent": pl.Boolean(), "consent_at": pl.String(), "consent_text": pl.String()}),
}
_VALUES: Mapping[str, Callable[[pl.Series], pl.DataFrame]] = {
    "country": judge_countries,
    "time_zone": judge_time_zones,
    "language": judge_languages,
    "status": judge_statuses,
    "consent": judge_consents,
}
_NAMED = r"\w[^<]*<[^<>]*@"  # Ada Lovelace <ada@example.org>
_ABROAD = r"\A[^\d+\x{ff0b}]*(?:[+\x{ff0b}]|00)"  # a number with its country code


@dataclass(frozen=True, slots=True)
class Basis:
    """What holds for all rows of a file."""

    region: str | None
    """Country of phone numbers without a country code."""
    consent: str | None
    """Why these people may be written to, in the operator's words."""
    require_consent: bool
    file_name: str


def kept(place: int) -> str:
    """Name the column of judged rows with the cells of an e-mail or phone column that stay attributes."""
    return f"kept_{place}"


def judge(rows: pl.DataFrame, columns: Columns, basis: Basis) -> pl.DataFrame:
    """Add to a chunk's rows `reason`, `CONTACT_FIELDS`, a Boolean column per `Warn`, and what they rest on.

    `reason` is null for contacts, and warnings are about contacts only. `email_typo_hint` says what a domain
    was likely meant to be, `consented` whether there is a basis to write. `kept(place)` holds the cells of an
    e-mail or phone column that the contact's fields do not say all of.

    `country` is the country column's; in files without one it is that of a number given with its country
    code. `time_zone` is its column's, else the phone number's when that leaves no doubt.
    """
    used = [cell(place) for places in columns.roles.values() for place in places]
    readable = rows.select(used)
    if rows["flaw"].null_count() < rows.height:
        # Rows that cannot be read are not looked at: their cells may stand in the wrong columns.
        readable = rows.select(pl.when(pl.col("flaw").is_null()).then(pl.col(used)))
    values = {role: _values(readable, columns, role) for role in _VALUES}
    none_opted_out = pl.repeat(value=False, n=rows.height, eager=True)
    opted_out = pl.select(pl.any_horizontal(none_opted_out, *_opted_out(readable, columns))).to_series()
    region = values["country"]["country"]
    if basis.region:
        region = region.fill_null(basis.region)
    facts = pl.concat(
        [
            rows.select("flaw"),
            _emails(readable, columns),
            _phones(readable, columns, region),
            _names(readable, columns),
            *values.values(),
        ],
        how="horizontal",
    ).with_columns(opted_out.alias("opted_out"))
    facts = facts.with_columns(
        *_consent(columns, basis),
        country=_country(columns),
        time_zone=pl.coalesce("time_zone", "phone_time_zone"),
    ).with_columns(reason=_reason(basis))
    taken = pl.col("reason").is_null()
    return rows.drop("flaw").hstack(
        facts.select(
            "reason",
            *CONTACT_FIELDS,
            *((given & taken).fill_null(value=False).alias(warn.name.lower()) for warn, given in _warnings()),
            "consented",
            pl.selectors.starts_with("kept_"),
            email_typo_hint=pl.when(taken).then("email_typo"),
        )
    )


def _emails(readable: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    places = columns.roles.get("email")
    if not places:
        return _nothing("email", readable.height)
    cells = [readable.select(given=meant(stripped(pl.col(cell(place))))) for place in places]
    verdicts = judge_emails(pl.concat([one["given"] for one in cells]))
    has_more = pl.col("email_several") | (pl.col("email_mended") & pl.col("given").str.contains(_NAMED))
    return _first_good("email", places, cells, verdicts.with_columns(has_more=has_more))


def _phones(readable: pl.DataFrame, columns: Columns, region: pl.Series) -> pl.DataFrame:
    places = columns.roles.get("phone")
    if not places:
        return _nothing("phone", readable.height)
    given = [cleaned_column(readable[cell(place)]).alias("given").to_frame() for place in places]
    cells = [one.select(meant(pl.col("given")), region=pl.lit(region)) for one in given]
    verdicts = judge_phones(pl.concat(cells))
    return _first_good("phone", places, cells, verdicts.with_columns(has_more="phone_has_more"))


def _first_good(
    kind: str, places: list[int], cells: list[pl.DataFrame], verdicts: pl.DataFrame
) -> pl.DataFrame:
    """Return per row the first good verdict of several columns, else the first of any, and what is kept.

    `{kind}_given` is its cell; `{kind}_bad` tells whether any cell of the row is no good.
    """
    key = {"email": "email_key", "phone": "phone"}[kind]
    judged = [
        one.join(verdicts, on=one.columns, how="left", maintain_order="left", nulls_equal=True)
        for one in cells
    ]
    best = judged[0]
    if len(judged) > 1:
        good = [pl.when(one[key].is_not_null()).then(column) for column, one in enumerate(judged)]
        given = [pl.when(one["given"].is_not_null()).then(column) for column, one in enumerate(judged)]
        column = pl.coalesce(*good, *given, 0).cast(pl.UInt32)
        best = pl.concat(judged).select(pl.all().gather(column * best.height + pl.int_range(best.height)))
    bad = [one["given"].is_not_null() & one[key].is_null() for one in judged]
    says_more = pl.col(key).is_null() | (pl.col(key) != best[key]) | pl.col("has_more")
    stays = pl.when(pl.col("given").is_not_null() & says_more).then("given")
    kept_cells = [
        cleaned_column(one.select(stays.alias(kept(i))).to_series())
        for i, one in zip(places, judged, strict=True)
    ]
    return best.select(
        pl.col("given").alias(f"{kind}_given"), *_FIELDS[kind], pl.any_horizontal(*bad).alias(f"{kind}_bad")
    ).hstack(kept_cells)


def _values(readable: pl.DataFrame, columns: Columns, role: str) -> pl.DataFrame:
    """Return what the role's cells say; `{role}_bad` tells whether a cell says nothing that is known."""
    place = columns.first(role)
    if place is None:
        return _nothing(role, readable.height)
    given = cleaned_column(readable[cell(place)]).alias("given")
    judged = given.to_frame().join(_VALUES[role](given), on="given", how="left", maintain_order="left")
    bad = pl.col("given").is_not_null() & pl.col(role).is_null()
    return judged.select(pl.col("given").alias(f"{role}_given"), *_FIELDS[role], bad.alias(f"{role}_bad"))


def _opted_out(readable: pl.DataFrame, columns: Columns) -> list[pl.Series]:
    """Return for each column of opt-outs whom it says to leave alone."""
    said = []
    for place in columns.roles.get("opt_out", []):
        given = cleaned_column(readable[cell(place)]).alias("given")
        judged = given.to_frame().join(judge_opt_outs(given), on="given", how="left", maintain_order="left")
        said.append(judged["opted_out"].fill_null(value=False).alias(f"opted_out_{place}"))
    return said


def _nothing(role: str, height: int) -> pl.DataFrame:
    """Return what `height` rows of a file without the role's column say."""
    missing = pl.Schema({f"{role}_given": pl.String(), **_FIELDS[role], f"{role}_bad": pl.Boolean()})
    return pl.DataFrame(schema=missing).clear(height)


def _names(readable: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Return the whole name, else its halves."""
    places = [columns.first(role) for role in ("name", "first_name", "last_name")]
    missing = pl.Series([None], dtype=pl.String).new_from_index(0, readable.height)
    whole, first, last = (
        missing if i is None else pl.select(meant(pl.lit(cleaned_column(readable[cell(i)])))).to_series()
        for i in places
    )
    halves = pl.concat_str(first, last, separator=" ", ignore_nulls=True)
    return pl.select(name=pl.coalesce(whole, pl.when(halves != "").then(halves)))


def _country(columns: Columns) -> pl.Expr:
    if columns.first("country") is not None:
        return pl.col("country")
    return pl.when(pl.col("phone_given").str.contains(_ABROAD)).then("phone_region")


def _consent(columns: Columns, basis: Basis) -> list[pl.Expr]:
    """Return whether and on what basis each row may be written to; what its own columns say comes first."""
    # A no is a wish like any other: it outlasts a consent that the whole file claims.
    wants_none = pl.col("opted_out") | ~pl.col("consent").fill_null(value=True)
    says_yes = pl.col("consent").fill_null(value=False) & ~wants_none
    consented = ~wants_none if basis.consent else says_yes
    place = columns.first("consent")
    column = "" if place is None else f"column {columns.header[place]!r} of {basis.file_name}"
    return [
        consented.alias("consented"),
        pl.when(consented).then(pl.lit(basis.consent or column)).alias("consent_source"),
        pl.when(says_yes).then("consent_text").alias("consent_text"),
        pl.when(says_yes).then("consent_at").alias("consent_at"),
        pl.when(wants_none)
        .then(pl.lit(SubscriptionStatus.UNSUBSCRIBED.value))
        .otherwise("status")
        .alias("status"),
    ]


def _reason(basis: Basis) -> pl.Expr:
    by_phone = pl.col("email_given").is_null()
    # Who wants no messages is kept as unsubscribed: refused, the wish would be lost.
    wants_none = (pl.col("status") == SubscriptionStatus.UNSUBSCRIBED.value).fill_null(value=False)
    no_consent = ~pl.col("consented") & ~wants_none if basis.require_consent else pl.lit(value=False)
    return pl.coalesce(
        "flaw",
        "email_reason",
        pl.when(by_phone).then("phone_reason"),
        pl.when(by_phone & pl.col("phone_given").is_null()).then(pl.lit(Reason.NO_ADDRESS.value)),
        pl.when(no_consent).then(pl.lit(Reason.CONSENT_MISSING.value)),
    )


def _without_country() -> pl.Expr:
    return (pl.col("phone_reason") == Reason.PHONE_NO_COUNTRY.value).fill_null(value=False)


def _warnings() -> list[tuple[Warn, pl.Expr]]:
    return [
        (Warn.EMAIL_MENDED, pl.col("email_mended")),
        (Warn.EMAIL_SEVERAL, pl.col("email_several")),
        (Warn.EMAIL_ROLE, pl.col("email_role")),
        (Warn.EMAIL_DISPOSABLE, pl.col("email_disposable")),
        (Warn.EMAIL_TYPO, pl.col("email_typo").is_not_null()),
        (Warn.EMAIL_MIXED_SCRIPTS, pl.col("email_mixed_scripts")),
        (Warn.PHONE_DROPPED, pl.col("phone_bad") & ~_without_country()),
        (Warn.PHONE_WITHOUT_COUNTRY, pl.col("phone_bad") & _without_country()),
        (Warn.PHONE_SEVERAL, pl.col("phone_several")),
        (Warn.NAME_FORMULA, is_formula(pl.col("name"))),
        (Warn.NAME_MIXED_SCRIPTS, mixes_scripts(pl.col("name"))),
        (Warn.COUNTRY_UNKNOWN, pl.col("country_bad")),
        (Warn.TIME_ZONE_UNKNOWN, pl.col("time_zone_bad")),
        (Warn.LANGUAGE_UNKNOWN, pl.col("language_bad")),
        (Warn.STATUS_UNKNOWN, pl.col("status_bad")),
        (Warn.CONSENT_UNKNOWN, pl.col("consent_bad")),
    ]
