"""Phone numbers: to E.164 by phonenumbers, the port of Google's libphonenumber; ordinary ones by expression.

`judge_phone` says what a number is worth, in the plainest way. `settle` says the same over whole columns for
texts of nothing but digits and the usual signs between them; a test compares the two.
"""

import re
from typing import NamedTuple

import phonenumbers
import polars as pl
from phonenumbers import NumberParseException, ValidationResult
from phonenumbers.timezone import time_zones_for_number

from messaging.audience import numbering
from messaging.errors import InputError
from schemas.reasons import Reason

_LONGEST = 250  # characters; phonenumbers reads no more
_LEADING_ZEROS = re.compile(r"\A[^\d+\uff0b]*00")  # how most of the world dials abroad, tel: before it or not
_FIRST_SIGN = re.compile(r"[+\uff0b\d]")
_DECIMAL = re.compile(r"'?\+?[0-9]{6,}\.0")  # a spreadsheet or pandas took the number for a quantity
_SCIENTIFIC = re.compile(r"\d[.,]?\d*E[+-]?\d+", re.IGNORECASE)  # 4.42E+11: most of its digits are lost
_WORDS = "or|and|o|y|e|ou|et|oder|und"  # codespell:ignore oder
_BETWEEN_NUMBERS = re.compile(rf"[;,|/]|\s(?:{_WORDS})\s|\s\(?(?=\+)", re.IGNORECASE)
_FEWEST_DIGITS = 6  # of each number where a cell holds several: fewer may be an area code or an extension

# What phonenumbers reads as nothing but a number: no letters, no extension, one plus sign and that first.
_PLAIN = r"\A(?i:tel:)?[' (./-]*\+?[ (./-]*[0-9][0-9 ()./-]*\z"
_LONGEST_PLAIN = 60
_FEWEST_PLAIN = 4  # digits
_FEWEST_OF_A_COUNTRY = 25  # fewer are judged one by one before a country's expressions are compiled

_REASONS = {
    NumberParseException.INVALID_COUNTRY_CODE: Reason.PHONE_UNKNOWN_COUNTRY,
    NumberParseException.NOT_A_NUMBER: Reason.PHONE_NOT_A_NUMBER,
    NumberParseException.TOO_SHORT_AFTER_IDD: Reason.PHONE_NOT_A_NUMBER,
    NumberParseException.TOO_SHORT_NSN: Reason.PHONE_TOO_SHORT,
    NumberParseException.TOO_LONG: Reason.PHONE_TOO_LONG,
}
_LENGTH_REASONS = {
    ValidationResult.TOO_SHORT: Reason.PHONE_TOO_SHORT,
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: Reason.PHONE_TOO_SHORT,  # without its area code
    ValidationResult.TOO_LONG: Reason.PHONE_TOO_LONG,
}

# Without it a list of the whole world compiles the same patterns over and over: `re` keeps only 512.
phonenumbers.enable_pattern_cache()


class PhoneVerdict(NamedTuple):
    """What a number is, or the reason against it."""

    phone: str | None = None
    """In E.164."""
    phone_type: str | None = None
    phone_region: str | None = None
    """ISO 3166; none for numbers that belong to no country."""
    phone_time_zone: str | None = None
    """Its IANA name when there is no doubt about it."""
    phone_reason: Reason | None = None
    phone_has_more: bool = False
    """The text says more than E.164 can: an extension, another number."""
    phone_several: bool = False


_SCHEMA = {
    "given": pl.String,
    "region": pl.String,
    "phone": pl.String,
    "phone_type": pl.String,
    "phone_region": pl.String,
    "phone_time_zone": pl.String,
    "phone_reason": pl.String,
    "phone_has_more": pl.Boolean,
    "phone_several": pl.Boolean,
}


def check_region(region: str | None) -> None:
    """Accept a country that phone numbers can be read by, or none.

    Raises:
        InputError: There is no such country.
    """
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise InputError(f"{region} is not a country code of ISO 3166: write GB, ES, US and so on")


def judge_phones(numbers: pl.DataFrame) -> pl.DataFrame:
    """Return a row per distinct `given` (cleaned) and `region` with the fields of `PhoneVerdict`."""
    distinct = numbers.select("given", "region").drop_nulls("given").unique()
    settled, unsettled = settle(distinct, _FEWEST_OF_A_COUNTRY)
    slow = [(given, region, *judge_phone(given, region)) for given, region in unsettled.iter_rows()]
    return pl.concat([settled, pl.DataFrame(slow, _SCHEMA, orient="row")])


def settle(numbers: pl.DataFrame, fewest: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judge what expressions can: return the verdicts, and the rows left for `judge_phone`.

    Among them are the rows of countries with less than `fewest`.
    """
    text = pl.col("text")
    zeros = text.str.contains(r"\A[^0-9+]*00")
    digits = text.str.replace_all(r"[^0-9]", "")
    is_decimal = pl.col("given").str.contains(rf"\A(?:{_DECIMAL.pattern})\z")
    bare = pl.when(is_decimal).then(pl.col("given").str.head(-2)).otherwise("given")
    rows = numbers.with_row_index("row").with_columns(text=bare)
    plain = (
        rows.filter(text.str.contains(_PLAIN), text.str.len_bytes() <= _LONGEST_PLAIN)
        .with_columns(
            digits=pl.when(zeros).then(digits.str.slice(2)).otherwise(digits),
            is_abroad=zeros | text.str.contains("+", literal=True),
        )
        .filter(pl.col("digits").str.len_bytes() >= _FEWEST_PLAIN)
    )
    judged = numbering.judge_digits(plain, fewest)
    # What is no good number may be several, and a slash is the only sign between them that is plain.
    settled = judged.filter(pl.col("phone").is_not_null() | ~text.str.contains("/", literal=True))
    unsettled = rows.join(settled, on="row", how="anti")
    missing = [pl.lit(value=False).alias(name) for name in ("phone_has_more", "phone_several")]
    return settled.with_columns(missing).select(list(_SCHEMA)), unsettled.select("given", "region")


def judge_phone(given: str, region: str | None) -> PhoneVerdict:
    """Judge one text: as a whole, and if that is no good number, as several with signs or words between."""
    if len(given) > _LONGEST:
        return PhoneVerdict(phone_reason=Reason.PHONE_NOT_A_NUMBER)
    text = given[:-2] if _DECIMAL.fullmatch(given) else given
    whole = _judge_number(text, region)
    if whole.phone and not whole.phone_has_more:
        return whole
    parts = _BETWEEN_NUMBERS.split(text)
    if len(parts) == 1 or any(sum(map(str.isdecimal, part)) < _FEWEST_DIGITS for part in parts):
        return whole
    good = [verdict for part in parts if (verdict := _judge_number(part, region)).phone]
    if whole.phone:  # phonenumbers takes a second number behind a comma or semicolon for an extension
        return whole._replace(phone_several=len(good) > 1)
    return good[0]._replace(phone_has_more=True, phone_several=True) if good else whole


def _judge_number(text: str, region: str | None) -> PhoneVerdict:
    if _SCIENTIFIC.fullmatch(text):
        return PhoneVerdict(phone_reason=Reason.PHONE_NOT_A_NUMBER)
    text = _LEADING_ZEROS.sub("+", text)
    first = _FIRST_SIGN.search(text)
    is_abroad = first is not None and first[0] in "+\uff0b"
    try:
        # Without the region, or a wrong country code would be tried again as a national number.
        number = phonenumbers.parse(text, None if is_abroad else region)
    except NumberParseException as error:
        reason = _REASONS[error.error_type]
        if (
            reason is Reason.PHONE_UNKNOWN_COUNTRY
            and not is_abroad
            and region not in phonenumbers.SUPPORTED_REGIONS
        ):
            reason = Reason.PHONE_NO_COUNTRY
        return PhoneVerdict(phone_reason=reason)
    kind = phonenumbers.number_type(number)
    if kind == phonenumbers.PhoneNumberType.UNKNOWN:
        possible = phonenumbers.is_possible_number_with_reason(number)
        return PhoneVerdict(phone_reason=_LENGTH_REASONS.get(possible, Reason.PHONE_IMPOSSIBLE))
    found = phonenumbers.region_code_for_number(number)
    return PhoneVerdict(
        phone=phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164),
        phone_type=numbering.TYPES[kind],
        phone_region=None if found == numbering.NOWHERE else found,
        phone_time_zone=numbering.certain_zone(time_zones_for_number(number), found),
        phone_has_more=number.extension is not None,
    )
