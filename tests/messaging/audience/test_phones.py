"""Phone numbers: E.164, or the reason against them."""

import polars as pl
import pytest

from messaging.audience.phones import check_region, judge_phones
from messaging.errors import InputError

NOT_A_NUMBER = "phone: not a number"
NO_COUNTRY = "phone: no country code; give --region"
UNKNOWN_COUNTRY = "phone: unknown country code"
TOO_SHORT = "phone: too short for its country"
TOO_LONG = "phone: too long for its country"
IMPOSSIBLE = "phone: impossible for its country"


def _judged(given, region):
    numbers = pl.DataFrame(
        {"given": [given, None], "region": region}, {"given": pl.String, "region": pl.String}
    )
    return judge_phones(numbers).row(0, named=True)


@pytest.mark.parametrize(
    ("given", "region", "phone"),
    [
        ("020 7946 0001", "GB", "+442079460001"),
        ("+44 20 7946 0001", None, "+442079460001"),
        ("+44 (0)20 7946 0001", "US", "+442079460001"),
        ("0044 20 7946 0001", "US", "+442079460001"),
        ("(0044) 20 7946 0001", None, "+442079460001"),
        ("442079460001", "GB", "+442079460001"),
        ("\uff0b\uff14\uff14 20 7946 0001", None, "+442079460001"),
        ("(416) 555-0123", "CA", "+14165550123"),
        ("1 416 555 0123", "CA", "+14165550123"),
        ("011 44 20 7946 0001", "US", "+442079460001"),
        ("011 15 2345 6789", "AR", "+5491123456789"),
        ("06 6982 1234", "IT", "+390669821234"),
        ("030/1234567", "DE", "+49301234567"),
        ("tel:+34-600-123-456", None, "+34600123456"),
        ("tel:0034600123456", "US", "+34600123456"),
        ("'600123456", "ES", "+34600123456"),
        ("34600123456.0", "ES", "+34600123456"),
    ],
)
def test_a_number_becomes_e164_however_it_is_written(given, region, phone):
    judged = _judged(given, region)

    assert (judged["phone"], judged["phone_reason"]) == (phone, None)
    assert not judged["phone_has_more"]
    assert not judged["phone_several"]


@pytest.mark.parametrize(
    ("given", "region", "reason"),
    [
        ("020 7946 0001", None, NO_COUNTRY),
        ("020 7946 0001", "ZZ", NO_COUNTRY),
        ("+020 7946 0001", "GB", UNKNOWN_COUNTRY),
        ("00999 123456", "GB", UNKNOWN_COUNTRY),
        ("+011 44 20 7946 0001", "US", UNKNOWN_COUNTRY),
        ("011 999 123456", "US", UNKNOWN_COUNTRY),
        ("600 123 45", "ES", TOO_SHORT),
        ("555-0123", "US", TOO_SHORT),
        ("600 123 456 7", "ES", TOO_LONG),
        ("+34 600 123 456 789 012 345 678", None, TOO_LONG),
        ("+34 000 123 456", None, IMPOSSIBLE),
        ("600123456.5", "ES", TOO_LONG),
        ("4.42E+11", "GB", NOT_A_NUMBER),
        ("4,42E+11", "GB", NOT_A_NUMBER),
        ("442E11", "GB", NOT_A_NUMBER),
        ("3460012345E12", "ES", NOT_A_NUMBER),
        ("ask reception", None, NOT_A_NUMBER),
        ("-", "GB", NOT_A_NUMBER),
        ("call me " * 40, "GB", NOT_A_NUMBER),
    ],
)
def test_what_is_no_good_number_has_a_reason(given, region, reason):
    judged = _judged(given, region)

    assert (judged["phone"], judged["phone_reason"]) == (None, reason)
    assert judged["phone_type"] is judged["phone_region"] is judged["phone_time_zone"] is None


@pytest.mark.parametrize(
    ("given", "region", "phone"),
    [
        ("600 123 456 / 600 654 321", "ES", "+34600123456"),
        ("600123456/600654321", "ES", "+34600123456"),
        ("020 7946 0001; 07700 900123", "GB", "+442079460001"),
        ("600123456,600654321", "ES", "+34600123456"),
        ("+34600123456,+442079460001", None, "+34600123456"),
        ("+34600123456 (+442079460001)", None, "+34600123456"),
        ("600123456 o 600654321", "ES", "+34600123456"),
        ("030 1234567 oder 030 7654321", "DE", "+49301234567"),  # codespell:ignore oder
        ("000 000 000 | 600654321", "ES", "+34600654321"),
    ],
)
def test_of_several_numbers_the_first_good_one_is_taken(given, region, phone):
    judged = _judged(given, region)

    assert (judged["phone"], judged["phone_reason"]) == (phone, None)
    assert judged["phone_has_more"]
    assert judged["phone_several"]


@pytest.mark.parametrize(
    ("given", "region", "phone"),
    [
        ("020 7946 0001 ext 12", "GB", "+442079460001"),
        ("020 7946 0001, 123456", "GB", "+442079460001"),
    ],
)
def test_an_extension_is_more_than_e164_says_and_no_second_number(given, region, phone):
    judged = _judged(given, region)

    assert judged["phone"] == phone
    assert judged["phone_has_more"]
    assert not judged["phone_several"]


def test_an_area_code_before_a_comma_is_not_taken_for_a_number_of_its_own():
    assert _judged("0171,2345678", "DE")["phone"] is None


@pytest.mark.parametrize(
    ("given", "phone_type", "region", "time_zone"),
    [
        ("+442079460001", "fixed", "GB", "Europe/London"),
        ("+12125550123", "fixed or mobile", "US", "America/New_York"),
        ("+13105550123", "fixed or mobile", "US", "America/Los_Angeles"),
        ("+14165550123", "fixed or mobile", "CA", "America/Toronto"),
        ("+34911234567", "fixed", "ES", "Europe/Madrid"),
        ("+34928123456", "fixed", "ES", "Atlantic/Canary"),
        ("+34600123456", "mobile", "ES", None),  # Madrid or the Canaries
        ("+919812345678", "mobile", "IN", "Asia/Kolkata"),
        ("+6913201234", "fixed or mobile", "FM", "Pacific/Ponape"),
        (
            "+6919501234",
            "fixed or mobile",
            "FM",
            None,
        ),  # three, of which one has the name the country has now
        ("+353851234567", "mobile", "IE", "Europe/Dublin"),
        ("+80012345678", "toll free", None, None),  # a number of no country
    ],
)
def test_a_number_tells_its_type_its_country_and_its_time_zone_when_there_is_no_doubt(
    given, phone_type, region, time_zone
):
    judged = _judged(given, None)

    assert judged["phone"] == given
    assert (judged["phone_type"], judged["phone_region"], judged["phone_time_zone"]) == (
        phone_type,
        region,
        time_zone,
    )


def test_each_number_is_judged_once_per_country_it_is_read_by():
    numbers = pl.DataFrame(
        {
            "given": ["600 123 456", "600 123 456", "600 123 456", None],
            "region": ["ES", "ES", None, "ES"],
        }
    )

    judged = judge_phones(numbers)

    assert set(judged.select("given", "region", "phone").rows()) == {
        ("600 123 456", "ES", "+34600123456"),
        ("600 123 456", None, None),
    }
    assert judged.height == 2


def test_a_file_without_numbers_has_no_verdicts():
    numbers = pl.DataFrame(
        {"given": [None, None], "region": ["ES", None]}, {"given": pl.String, "region": pl.String}
    )

    assert judge_phones(numbers).is_empty()


def test_a_country_that_is_none_is_refused():
    with pytest.raises(InputError, match="UK is not a country code"):
        check_region("UK")
