"""The fast reading of phone numbers against the plain one, over numbers of every country."""

import random

import phonenumbers
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat

from messaging.audience.phones import PhoneVerdict, judge_phone, judge_phones, settle

_REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
_BIG = ["BR", "CA", "CN", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "MX", "US"]


def _examples():
    """Yield an example number of each type of each region, and of numbers that belong to no country."""
    for region in _REGIONS:
        for kind in sorted(phonenumbers.supported_types_for_region(region)):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is not None:
                yield region, example
    for code in sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        yield None, phonenumbers.example_number_for_non_geo_entity(code)


def _mutated(digits, chance):
    place = chance.randrange(len(digits))
    digit = chance.choice("0123456789")
    return chance.choice(
        [
            digits,
            digits[:place] + digit + digits[place + 1 :],
            digits[:place] + digit + digits[place + 1 :],
            digits[:2] + "".join(chance.choices("0123456789", k=len(digits) - 2)),
            digits[:place] + digits[place + 1 :],
            digits[:place] + digit + digits[place:],
            digits + digits[:place],
        ]
    )


def _separated(digits, chance):
    if chance.random() < 0.5:
        return digits
    text = "".join(
        digit + chance.choice(["", "", "", " ", "-", ".", "/", " - ", ")", " ("]) for digit in digits
    )
    return text if chance.random() < 0.5 else text.strip()


def _written(region, number, chance):
    """Write a number, spoiled or not, in one of the many ways people do."""
    digits = _mutated(phonenumbers.national_significant_number(number), chance)
    code = str(number.country_code)
    metadata = PhoneMetadata.metadata_for_region(region) if region else None
    prefix = (metadata and metadata.national_prefix) or "0"
    abroad = chance.choice(
        [(metadata and metadata.preferred_international_prefix) or "011", "00", "0011", "810"]
    )
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    parts = _separated(digits, chance)
    return chance.choice(
        [
            digits,
            parts,
            prefix + digits,
            f"({prefix}){parts}",
            prefix + parts,
            national,
            code + digits,
            code + parts,
            code + prefix + digits,
            f"+{code}{digits}",
            f"+{code} {parts}",
            f"(+{code}) {parts}",
            f"+{code} ({prefix}) {parts}",
            f"+{code}{prefix}{digits}",
            f"+{prefix}{digits}",
            f"00{code}{digits}",
            f"00 {code} {parts}",
            f"(00{code}) {prefix}{parts}",
            f"{abroad}{code}{digits}",
            f"{abroad} {code} {parts}",
            f"tel:+{code}-{parts}",
            f"'{prefix}{digits}",
            f"{code}{digits}.0",
            f"{parts} ext. 12",
            f"{digits} / {digits}",
        ]
    )


def _inputs(count, seed):
    """Return `count` texts with the region they are read by: mostly their own, else another one or none."""
    chance = random.Random(seed)  # noqa: S311 - the same numbers in every run
    examples = list(_examples())
    rows = set()
    while len(rows) < count:
        region, number = chance.choice(examples)
        same_code = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[number.country_code]
        by = chance.choice(
            [region, region, region, region, chance.choice(same_code), chance.choice(_REGIONS), None]
        )
        rows.add((_written(region, number, chance), by))
    return sorted(rows, key=str)


def _frame(rows):
    return pl.DataFrame(rows, {"given": pl.String, "region": pl.String}, orient="row")


def _differences(rows):
    """Compare what expressions settle, of countries with few rows too, and return what they settled."""
    settled, unsettled = settle(_frame(rows))
    assert settled.height + unsettled.height == len(rows)
    fast = {(given, region): PhoneVerdict(*rest) for given, region, *rest in settled.rows()}
    return len(fast), [(row, fast[row], plain) for row in fast if fast[row] != (plain := judge_phone(*row))]


def test_the_verdicts_are_those_of_phonenumbers_all_over_the_world():
    rows = _inputs(20_000, seed=9)

    settled, differences = _differences(rows)

    assert differences == []
    assert settled > 0.75 * len(rows)


def test_settled_or_not_every_number_is_judged():
    rows = _inputs(2_000, seed=10)

    judged = judge_phones(_frame(rows + rows))

    assert {(given, region): tuple(rest) for given, region, *rest in judged.rows()} == {
        row: judge_phone(*row) for row in rows
    }
    assert judged.height == len(rows)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("0123456789 ()-./+'", min_size=1, max_size=24),
            st.sampled_from(["US", "CA", "GB", "ES", "IT", "AR", "BR", "JE", "AU", "KZ", "ZZ", None]),
        ),
        min_size=1,
        max_size=40,
        unique=True,
    )
)
def test_the_verdicts_are_those_of_phonenumbers_for_any_digits_and_signs(rows):
    _, differences = _differences(rows)

    assert differences == []


@pytest.mark.parametrize("region", _BIG)
def test_ordinary_numbers_are_settled_by_expressions(region):
    numbers = [number for where, number in _examples() if where == region]
    forms = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL)
    texts = {phonenumbers.format_number(number, form) for number in numbers for form in forms}

    settled, unsettled = settle(_frame([(text, region) for text in texts]))

    assert settled["phone"].null_count() == 0
    assert unsettled.height <= 0.05 * len(texts)
