"""What the values of a column look like, whatever its header says."""

import re

import polars as pl
from phonenumbers import SUPPORTED_REGIONS

from messaging.audience.cleaning import cleaned
from messaging.audience.values import (
    folded,
    judge_consents,
    judge_countries,
    judge_statuses,
    judge_time_zones,
)
from messaging.audience.words import words_of

LOOKED_AT = 500  # values of a column, from all over the sample
_MOST_COUNTRIES = 250  # a column with more different values is no country's, and asking is not free

# The share of values that must look like it before a column without a telling header is read as it. Addresses
# are unmistakable; a country or a name guessed wrongly would greet or ring up the wrong way.
ENOUGH = {"email": 0.5, "phone": 0.7, "name": 0.9, "country": 0.9, "time_zone": 0.9, "language": 0.9}

# What a value of the role has at least. Asking a few values in this way spares most columns the costly look.
_FEW_VALUES = 50
_BEGINNING = 100  # characters of each
_HINTS = {
    "email": re.compile(r"\S@\S"),
    "phone": re.compile(r"\d(?:[^\d\n]{0,3}\d){6}"),
    "name": re.compile(r"^[^\W\d][^\d\n]* [^\d\n]*$", re.MULTILINE),
    "country": re.compile(r"^[^\W\d][^\d@\n]{1,80}$", re.MULTILINE),
    "time_zone": re.compile(r"^[A-Za-z]+/[A-Za-z]", re.MULTILINE),
    "language": re.compile(r"^[^\W\d][^\d@\n]{1,20}$", re.MULTILINE),
}

_ADDRESS = r'[^\s@<>()\[\];:,"]{1,64}@[^\s@<>()\[\];:,"]{1,190}\.[\p{L}\p{N}-]{2,}'
_EMAIL = rf'(?:(?:mailto:)?{_ADDRESS}|"?[^"@<>]{{0,80}}"?\s*<\s*(?:mailto:)?{_ADDRESS}\s*>)'
_EMAILS = rf"(?i)^{_EMAIL}(?:[\s;,|/]+{_EMAIL})*[.;,]?$"

_NUMBER = r"[+(]{0,2}\d(?:[\s().\-\u2013/]{0,3}\d){6,14}(?:\s*(?:ext|x|#)\.?\s*\d{1,6})?"
_NUMBERS = rf"(?i)^(?:(?:tel|phone|mobile|mob|p|t|m)\s*[.:]\s*)?{_NUMBER}(?:\s*[;,|/]\s*{_NUMBER})*$"
_DIGITS_ONLY = r"^\d+$"
_DATE = (
    r"^(?:(?:19|20)\d\d(?:[-/.]\d{1,2}[-/.]\d{1,2}|(?:0\d|1[0-2])(?:[0-2]\d|3[01]))"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d\d|(?:19|20)\d\d))(?:[T\s].*)?$"
)
_OTHER_DIGITS = (
    r"^\d{1,3}\.\d{4,}$"  # a latitude
    r"|^\d{1,2}(?:[.\s]\d{3})+$"  # a sum
    r"|^\d{3}-\d{2}-\d{4}$|^\d{6,8}-\d{4}$|^\d{3}\.\d{3}\.\d{3}-\d{2}$"  # a person's number: US, SE, BR
    r"|^\d{5}-\d{3,4}$|^\d{3}-\d{4}$"  # a postal code: US, BR, JP
    r"|^1[4-9]\d{8}(?:\d{3})?$|^\d{7}$"  # seconds since 1970; too short to tell
)
_FIGURE = r"^[^\p{L}@]*\d[^\p{L}@]*$"
_SHORT_FIGURE = r"^[^\p{L}@\d]*(?:\d[^\p{L}@\d]*){1,4}$"
_NAME = (
    r"^\p{Lu}[\p{L}'\u2019.-]*\p{Ll}"
    r"(?: (?:\p{Lu}\.|\p{Lu}[\p{L}'\u2019.-]*|de|del|della|da|dos|di|du|la|van|von|der|den|ter|af|al|bin|y))*"
    r" \p{Lu}[\p{L}'\u2019-]*\p{Ll}$"
)
_COMPANY = (
    r"(?i)\b(?:gmbh|ag|kg|inc|llc|ltd|plc|corp|company|group|holding|s\.?a|s\.?l|srl|spa|bv|ab|oy|street)\b"
)
_MOSTLY_DIFFERENT = 0.8
_FEW = 3  # values that tell nothing by standing close together
_CROWDED = 1_000  # numbers closer together than this, on average, were counted up


def values_of(cells: pl.Series) -> pl.Series:
    """Return cleaned values from all over a column, without empty cells and words such as `n/a`."""
    given = cells.drop_nulls()
    given = given.gather_every(max(1, len(given) // LOOKED_AT))
    values = given.to_frame("value").select(cleaned(pl.col("value"))).drop_nulls()
    return values.filter(~pl.col("value").str.to_lowercase().is_in(words_of("value", "hints")["no_value"]))[
        "value"
    ]


def share_like(role: str, values: pl.Series, *, digits_count: bool = True) -> float:
    """Return the share of values that look like the role; 0 without values.

    `digits_count` is false when digits without a sign of a phone number may as well be anything's number.
    """
    few = "\n".join(values.gather_every(max(1, len(values) // _FEW_VALUES)).str.slice(0, _BEGINNING))
    if not _HINTS[role].search(few):
        return 0.0
    value = pl.col("value")
    frame = values.to_frame("value")
    if role == "email":
        like = value.str.contains(_EMAILS)
    elif role == "phone":
        like = _is_number() & (_are_numbers_given_out(frame) if digits_count else ~_is_bare())
    elif role == "name":
        different = frame["value"].n_unique() >= _MOSTLY_DIFFERENT * frame.height
        like = value.str.contains(_NAME) & ~value.str.contains(_COMPANY) & different
    else:
        like = value.is_in(_known(role, frame["value"].unique()))
    return _share(frame, like)


def share_possible(role: str, values: pl.Series) -> float:
    """Return the share of values that may be meant as the role, however badly written; 1 without values."""
    frame = values.to_frame("value")
    if frame.is_empty():
        return 1.0
    value = pl.col("value")
    if role == "email":
        return _share(frame, value.str.contains("@", literal=True))
    if role == "phone":
        five_digits = value.str.contains(r"^[^@\d]*(?:\d[^@\d]*){5,}$")
        scientific = value.str.contains(r"^\d+[.,]?\d*[eE]\+?\d+$")  # what spreadsheets make of numbers
        return _share(frame, (five_digits | scientific) & ~value.str.contains(_DATE))
    if role == "consent":
        judged = judge_consents(frame["value"]).filter(pl.col("consent").is_not_null())
        return _share(frame, value.is_in(judged["given"].implode()))
    if role == "status":
        judged = judge_statuses(frame["value"]).filter(pl.col("status").is_not_null())
        return _share(frame, value.is_in(judged["given"].implode()))
    return _share(frame, value.str.contains(r"\p{L}"))


def share_otherwise(role: str, values: pl.Series) -> float:
    """Return the share of values that clearly are something else than such an address; 0 without values.

    A name, a date, a figure, a yes or a no is something else; "none yet" and "ada at example" are bad ones.
    """
    frame = values.to_frame("value")
    if frame.is_empty():
        return 0.0
    value = pl.col("value")
    consents = judge_consents(frame["value"]).filter(pl.col("consent").is_not_null())
    statuses = judge_statuses(frame["value"]).filter(pl.col("status").is_not_null())
    words = pl.concat([consents["given"], statuses["given"]])
    figure = value.str.contains(_FIGURE) if role == "email" else value.str.contains(_SHORT_FIGURE)
    other = value.str.contains(_EMAILS) if role == "phone" else pl.lit(value=False)
    return _share(
        frame,
        figure | other | value.is_in(words.implode()) | value.str.contains(_DATE) | value.str.contains(_NAME),
    )


def _share(frame: pl.DataFrame, like: pl.Expr) -> float:
    return float(frame.select(like.mean()).item())


def _is_number() -> pl.Expr:
    value = pl.col("value")
    return value.str.contains(_NUMBERS) & ~value.str.contains(_DATE) & ~value.str.contains(_OTHER_DIGITS)


def _is_bare() -> pl.Expr:
    """Say whether a number shows no sign of being dialled: a plus, a zero in front, a separator."""
    return pl.col("value").str.contains(_DIGITS_ONLY) & ~pl.col("value").str.starts_with("0")


def _are_numbers_given_out(frame: pl.DataFrame) -> pl.Expr:
    """Leave bare digits out when they crowd: customers are counted up, phone numbers are not."""
    bare = (
        frame.filter(_is_number() & _is_bare()).select(pl.col("value").cast(pl.Int64, strict=False)).unique()
    )
    if bare.height < _FEW:
        return ~_is_bare() | (pl.col("value").str.len_chars() >= 9)  # noqa: PLR2004 - short ones are rather ids
    lowest, highest = bare.select(pl.col("value").min(), pl.col("value").max().alias("highest")).row(0)
    return ~_is_bare() | (pl.lit((highest - lowest) / bare.height) >= _CROWDED)


def _known(role: str, distinct: pl.Series) -> list[str]:
    """Return the values that are a country, language or time zone, asking as little as can be."""
    values = distinct.to_list()
    hints = words_of("value", "hints")
    if role == "time_zone":
        judged = judge_time_zones(distinct.filter(distinct.str.contains(r"^[A-Za-z]+/[A-Za-z_/+-]+$")))
        return judged.filter(pl.col("time_zone").is_not_null())["given"].to_list()
    if role == "language":
        # A lower-case code is a language's; DE in upper case is rather Germany.
        languages = set(hints["common_languages"])
        return [value for value in values if value.lower() in languages and not _is_code(value)]
    if 2 * sum(map(_is_code, values)) > len(values):
        countries = SUPPORTED_REGIONS.intersection(values)
        return list(countries) if countries.difference(hints["states_like_countries"]) else []
    if len(values) > _MOST_COUNTRIES or not _some_country(distinct):
        return []
    return judge_countries(distinct).filter(pl.col("country").is_not_null())["given"].to_list()


def _is_code(value: str) -> bool:
    return len(value) == 2 and value.isascii() and value.isupper()  # noqa: PLR2004 - ISO 3166 alpha-2


def _some_country(distinct: pl.Series) -> bool:
    """Say whether any value is a country everybody knows: the table of all of them is slow to build."""
    common = pl.DataFrame({"value": words_of("value", "hints")["common_countries"]})
    known = common.select(folded(pl.col("value")))["value"]
    return bool(
        distinct.to_frame("value").select(folded(pl.col("value")).is_in(known.implode()).any()).item()
    )
