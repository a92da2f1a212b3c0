"""Phone numbers: E.164, or the reason against them."""

import polars as pl
import pytest

from messaging.audience.phones import check_region, judge_phones
from messaging.errors import InputError


@pytest.mark.parametrize(
    ("given", "region", "phone", "reason", "has_more"),
    [
        ("020 7946 0001", "GB", "+442079460001", None, False),
        ("+44 20 7946 0001", None, "+442079460001", None, False),
        ("+44 (0)20 7946 0001", "US", "+442079460001", None, False),
        ("0044 20 7946 0001", "US", "+442079460001", None, False),
        ("(0044) 20 7946 0001", None, "+442079460001", None, False),
        ("442079460001", "GB", "+442079460001", None, False),
        ("\uff0b\uff14\uff14 20 7946 0001", None, "+442079460001", None, False),
        ("020 7946 0001 ext 12", "GB", "+442079460001", None, True),
        ("020 7946 0001", None, None, "phone: no country code; give --region", False),
        ("+020 7946 0001", "GB", None, "phone: unknown country code", False),
        ("00999 123456", "GB", None, "phone: unknown country code", False),
        ("+011 44 20 7946 0001", "US", None, "phone: unknown country code", False),
        ("12345", "GB", None, "phone: impossible for its country", False),
        ("+44 20 7946 0001 / 020 7946 0002", "GB", None, "phone: impossible for its country", False),
        ("4.42E+11", "GB", None, "phone: not a number", False),
        ("ask reception", None, None, "phone: not a number", False),
        ("-", "GB", None, "phone: not a number", False),
    ],
)
def test_a_number_becomes_e164_or_a_reason(
    given: str, region: str | None, phone: str | None, reason: str | None, *, has_more: bool
):
    assert judge_phones(pl.Series([given, None]), region).rows() == [(given, phone, reason, has_more)]


def test_a_country_that_is_none_is_refused():
    with pytest.raises(InputError, match="UK is not a country code"):
        check_region("UK")
