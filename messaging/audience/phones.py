"""Phone numbers: to E.164 by phonenumbers, the port of Google's libphonenumber."""

import re

import phonenumbers
import polars as pl
from phonenumbers import NumberParseException

from messaging.audience.reasons import Reason
from messaging.errors import InputError

_LEADING_ZEROS = re.compile(r"\A[^\w+]*00")  # how most of the world dials abroad, brackets before it or not
_FIRST_SIGN = re.compile(r"[+\uff0b\d]")

_REASONS = {
    NumberParseException.INVALID_COUNTRY_CODE: Reason.PHONE_UNKNOWN_COUNTRY,
    NumberParseException.NOT_A_NUMBER: Reason.PHONE_NOT_A_NUMBER,
    NumberParseException.TOO_SHORT_AFTER_IDD: Reason.PHONE_NOT_A_NUMBER,
    NumberParseException.TOO_SHORT_NSN: Reason.PHONE_NOT_A_NUMBER,
    NumberParseException.TOO_LONG: Reason.PHONE_IMPOSSIBLE,
}

_SCHEMA = {"given": pl.String, "phone": pl.String, "phone_reason": pl.String, "phone_has_more": pl.Boolean}


def check_region(region: str | None) -> None:
    """Accept a country that phone numbers can be read by, or none.

    Raises:
        InputError: There is no such country.
    """
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise InputError(f"{region} is not a country code of ISO 3166: write GB, ES, US and so on")


def judge_phones(given: pl.Series, region: str | None) -> pl.DataFrame:
    """Return a row per distinct number `given`: `phone` or `phone_reason`, and `phone_has_more`.

    The numbers are cleaned already.
    """
    # Sorted, numbers of one country stand together: phonenumbers compiles a country's patterns on use, and
    # Python keeps only 512 of them.
    distinct = given.drop_nulls().unique().sort().to_list()
    return pl.DataFrame([(one, *judge_phone(one, region)) for one in distinct], _SCHEMA, orient="row")


def judge_phone(given: str, region: str | None) -> tuple[str | None, Reason | None, bool]:
    """Judge one number: E.164 or the reason against it, and whether `given` says more (an extension)."""
    text = _LEADING_ZEROS.sub("+", given)
    first = _FIRST_SIGN.search(text)
    international = first is not None and first[0] in "+\uff0b"
    try:
        # Without the region, or a wrong country code would be tried again as a national number.
        number = phonenumbers.parse(text, None if international else region)
    except NumberParseException as error:
        reason = _REASONS[error.error_type]
        if reason is Reason.PHONE_UNKNOWN_COUNTRY and not international:
            reason = Reason.PHONE_NO_COUNTRY
        return None, reason, False
    if not phonenumbers.is_valid_number(number):
        return None, Reason.PHONE_IMPOSSIBLE, False
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return e164, None, number.extension is not None
