"""Numbering plans: what phonenumbers reads in the digits of a number, as expressions over whole columns.

Each step is phonenumbers' own (its function is named beside it) with the patterns of its metadata; only the
engine is another. That metadata is no stable interface, so a test compares every verdict with phonenumbers'
over numbers of all countries.
"""

import re
from functools import cache
from importlib import resources
from itertools import product

import polars as pl
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    SUPPORTED_REGIONS,
    PhoneMetadata,
    PhoneNumberDesc,
    PhoneNumberType,
    is_number_type_geographical,
)
from phonenumbers.timezone import UNKNOWN_TIMEZONE
from phonenumbers.tzdata import TIMEZONE_DATA

from schemas.reasons import Reason

TYPES = {
    PhoneNumberType.FIXED_LINE: "fixed",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed or mobile",
    PhoneNumberType.TOLL_FREE: "toll free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.VOICEMAIL: "voicemail",
}

NOWHERE = "001"  # what phonenumbers calls the region of numbers that belong to no country

_DIGITS = pl.col("digits")
_NSN = pl.col("nsn")  # the national significant number: without country code and national prefix
_TYPE = pl.col("phone_type")
_VERDICT = dict.fromkeys(
    ("phone", "phone_type", "phone_region", "phone_time_zone", "phone_reason"), pl.String()
)


def judge_digits(rows: pl.DataFrame, fewest: int) -> pl.DataFrame:
    """Judge numbers of four and more `digits`: with a country code if `is_abroad`, else dialled in `region`.

    Adds `phone`, `phone_type`, `phone_region`, `phone_time_zone` and `phone_reason`. Left out are rows that
    begin as a call abroad does in their region, such as 011 in the US, and countries of less than `fewest`.
    """
    abroad = rows.filter("is_abroad").with_columns(head=_DIGITS.str.head(3), has_prefix=pl.lit(value=True))
    abroad = abroad.join(_country_codes(), on="head", how="left").drop("head")
    code_length = pl.col("code").cast(pl.String).str.len_bytes()
    known = abroad.drop_nulls("code").with_columns(nsn=_DIGITS.str.slice(code_length))
    unknown = abroad.filter(pl.col("code").is_null())
    has_region = pl.col("region").is_in(sorted(SUPPORTED_REGIONS)).fill_null(value=False)
    domestic = rows.filter(~pl.col("is_abroad"))
    by_region = domestic.filter(has_region).partition_by("region")
    read = [_read_as_dialled(part, part["region"][0]) for part in by_region if part.height >= fewest]
    by_code = pl.concat([known, *read], how="diagonal").partition_by("code")
    judged = [_judge_national_numbers(part, part["code"][0]) for part in by_code if part.height >= fewest]
    return pl.concat(
        [
            pl.DataFrame(schema=_VERDICT),
            *judged,
            unknown.with_columns(phone_reason=pl.lit(Reason.PHONE_UNKNOWN_COUNTRY.value)),
            domestic.filter(~has_region).with_columns(phone_reason=pl.lit(Reason.PHONE_NO_COUNTRY.value)),
        ],
        how="diagonal",
    )


def _read_as_dialled(rows: pl.DataFrame, region: str) -> pl.DataFrame:
    """Add `code`, `nsn` and `has_prefix`: a national prefix may still stand at the start of `nsn`."""
    is_abroad, has_code, nsn = _as_dialled(region)
    code = pl.lit(_metadata(region).country_code, pl.Int64)
    lazy = rows.lazy().filter(~is_abroad).with_columns(code=code, nsn=nsn, has_prefix=has_code)
    return lazy.collect()


def _judge_national_numbers(rows: pl.DataFrame, code: int) -> pl.DataFrame:
    main, *others = COUNTRY_CODE_TO_REGION_CODE[code]
    lazy = rows.lazy().with_columns(nsn=_behind_code(code)).with_columns(phone_type=_type(code, main))
    rows = lazy.collect()  # lazily, equal parts of expressions are computed once
    # region_code_for_number: the first region that claims a number has it, be it good there or not
    is_main = pl.lit(value=True) if not others else _claims(code, main, _TYPE)
    judged = [rows.filter(is_main).with_columns(_found(code, main))]
    rest = rows.filter(~is_main)
    if not rest.is_empty():
        claims = [pl.when(_claims(code, other, _type(code, other))).then(pl.lit(other)) for other in others]
        claimed = rest.with_columns(phone_region=pl.coalesce(claims))
        judged += [
            _judge_in(code, part["phone_region"][0], part) for part in claimed.partition_by("phone_region")
        ]
    return pl.concat(judged, how="diagonal").with_columns(phone_reason=_reason(code))


def _judge_in(code: int, region: str | None, rows: pl.DataFrame) -> pl.DataFrame:
    if region is None:
        return rows.with_columns(phone_type=pl.lit(None, pl.String))
    return rows.with_columns(phone_type=_type(code, region)).with_columns(_found(code, region))


def certain_zone(zones: tuple[str, ...], region: str | None) -> str | None:
    """Return the time zone of a number of `region` that phonenumbers places in `zones`, null when in doubt.

    Zones of several countries with one code, such as London and Jersey, are told apart by the region. A zone
    that no country has goes by an old name, so it may be the region's own.
    """
    home = _zones_of_regions().get(region or "", frozenset())
    if len(home) == 1:
        return min(home)
    if len(zones) > 1 and _all_zones().issuperset(zones):
        zones = tuple(home.intersection(zones))
    return zones[0] if len(zones) == 1 and zones[0] != UNKNOWN_TIMEZONE else None


@cache
def _as_dialled(region: str) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Tell of `digits` whether they call abroad, whether they hold the country's code, and the number."""
    metadata = _metadata(region)
    general = metadata.general_desc
    code = str(metadata.country_code)
    # _maybe_extract_country_code
    is_abroad = _DIGITS.str.contains(_beginning(metadata.international_prefix or ""))
    behind_code = _without_prefix(_DIGITS.str.slice(len(code)), metadata)
    has_code = _DIGITS.str.starts_with(code) & (
        (~_fits(_DIGITS, general) & _fits(behind_code, general)) | _is_too_long(_DIGITS, metadata)
    )
    nsn = pl.when(has_code).then(behind_code).otherwise(_without_prefix_if_possible(_DIGITS, metadata))
    return is_abroad, has_code, nsn


@cache
def _behind_code(code: int) -> pl.Expr:
    main = _metadata(COUNTRY_CODE_TO_REGION_CODE[code][0], code)
    return pl.when("has_prefix").then(_without_prefix_if_possible(_NSN, main)).otherwise(_NSN)


def _without_prefix_if_possible(number: pl.Expr, metadata: PhoneMetadata) -> pl.Expr:
    # parse: what is left must have a possible length, or be too long even so
    bare = _without_prefix(number, metadata)
    is_possible = _has_length(bare, _lengths(metadata)) | _is_too_long(bare, metadata)
    return pl.when(is_possible).then(bare).otherwise(number)


def _without_prefix(number: pl.Expr, metadata: PhoneMetadata) -> pl.Expr:
    # _maybe_strip_national_prefix_carrier_code
    if not metadata.national_prefix_for_parsing:
        return number
    prefix = _beginning(metadata.national_prefix_for_parsing)
    bare = number.str.replace(prefix, "")
    if metadata.national_prefix_transform_rule:
        # What its last group holds is put in another order, as Argentina's 15 of mobile numbers.
        last_group = re.compile(metadata.national_prefix_for_parsing).groups
        rule = re.sub(r"\\(\d)", r"${\1}", metadata.national_prefix_transform_rule)
        is_in_order = number.str.extract(prefix, last_group).is_null()
        bare = pl.when(is_in_order).then(bare).otherwise(number.str.replace(prefix, rule))
    general = metadata.general_desc
    return pl.when(_fits(number, general) & ~_fits(bare, general)).then(number).otherwise(bare)


@cache
def _type(code: int, region: str) -> pl.Expr:
    # _number_type_helper
    metadata = _metadata(region, code)
    is_fixed = _is_of(metadata.fixed_line)
    is_mobile = is_fixed if metadata.same_mobile_and_fixed_line_pattern else _is_of(metadata.mobile)
    tests = {
        PhoneNumberType.PREMIUM_RATE: _is_of(metadata.premium_rate),
        PhoneNumberType.TOLL_FREE: _is_of(metadata.toll_free),
        PhoneNumberType.SHARED_COST: _is_of(metadata.shared_cost),
        PhoneNumberType.VOIP: _is_of(metadata.voip),
        PhoneNumberType.PERSONAL_NUMBER: _is_of(metadata.personal_number),
        PhoneNumberType.PAGER: _is_of(metadata.pager),
        PhoneNumberType.UAN: _is_of(metadata.uan),
        PhoneNumberType.VOICEMAIL: _is_of(metadata.voicemail),
        PhoneNumberType.FIXED_LINE_OR_MOBILE: is_fixed & is_mobile,
        PhoneNumberType.FIXED_LINE: is_fixed,
        PhoneNumberType.MOBILE: is_mobile,
    }
    first = pl.coalesce([pl.when(test).then(pl.lit(TYPES[kind])) for kind, test in tests.items()])
    return pl.when(_is_of(metadata.general_desc)).then(first)


def _claims(code: int, region: str, type_there: pl.Expr) -> pl.Expr:
    leading = _metadata(region, code).leading_digits
    return _NSN.str.contains(_beginning(leading)) if leading else type_there.is_not_null()


@cache
def _found(code: int, region: str) -> list[pl.Expr]:
    is_good = _TYPE.is_not_null()
    return [
        pl.when(is_good).then(pl.concat_str(pl.lit(f"+{code}"), _NSN)).alias("phone"),
        pl.when(is_good).then(pl.lit(None if region == NOWHERE else region, pl.String)).alias("phone_region"),
        pl.when(is_good).then(_time_zone(code, region)).alias("phone_time_zone"),
    ]


def _time_zone(code: int, region: str) -> pl.Expr:
    # time_zones_for_number: by the longest known prefix where numbers have a place, else by country
    zones: dict[str, str] = {}
    for prefix, names in sorted(TIMEZONE_DATA.items()):
        if prefix.startswith(str(code)):
            nsn = prefix.removeprefix(str(code))
            shorter = next((zones[nsn[:n]] for n in range(len(nsn) - 1, -1, -1) if nsn[:n] in zones), None)
            zone = certain_zone(names, region) or ""
            if zone != shorter:
                zones[nsn] = zone
    of_country = zones.pop("", certain_zone((UNKNOWN_TIMEZONE,), region) or "")
    has_place = [word for kind, word in TYPES.items() if is_number_type_geographical(kind, code)]
    of_place = [
        pl.when(_TYPE.is_in(has_place)).then(
            _NSN.str.head(length).replace_strict(
                {prefix: zone for prefix, zone in zones.items() if len(prefix) == length},
                default=None,
                return_dtype=pl.String,
            )
        )
        for length in sorted(set(map(len, zones)), reverse=True)
    ]
    found = pl.coalesce([*of_place, pl.lit(of_country)])
    return pl.when(found != "").then(found)


@cache
def _reason(code: int) -> pl.Expr:
    # is_possible_number_with_reason; a number without its area code is too short as well
    main = _metadata(COUNTRY_CODE_TO_REGION_CODE[code][0], code)
    local = main.general_desc.possible_length_local_only if main.general_desc else ()
    is_short = _has_length(_NSN, local) | (_NSN.str.len_bytes() < min(_lengths(main)))
    return pl.when(_TYPE.is_null()).then(
        pl.when(is_short)
        .then(pl.lit(Reason.PHONE_TOO_SHORT.value))
        .when(_is_too_long(_NSN, main))
        .then(pl.lit(Reason.PHONE_TOO_LONG.value))
        .otherwise(pl.lit(Reason.PHONE_IMPOSSIBLE.value))
    )


def _is_of(desc: PhoneNumberDesc | None) -> pl.Expr:
    # _is_number_matching_desc
    if desc is None or not desc.possible_length:
        return _fits(_NSN, desc)
    return _fits(_NSN, desc) & _has_length(_NSN, desc.possible_length)


def _fits(number: pl.Expr, desc: PhoneNumberDesc | None) -> pl.Expr:
    # _match_national_number
    if desc is None or not desc.national_number_pattern:
        return pl.lit(value=False)
    return number.str.contains(_beginning(desc.national_number_pattern) + r"\z")


def _has_length(number: pl.Expr, lengths: tuple[int, ...]) -> pl.Expr:
    return number.str.len_bytes().is_in(lengths)


def _is_too_long(number: pl.Expr, metadata: PhoneMetadata) -> pl.Expr:
    # _test_number_length; no number without its area code is as long as the longest with it
    return number.str.len_bytes() > max(_lengths(metadata))


def _lengths(metadata: PhoneMetadata) -> tuple[int, ...]:
    return metadata.general_desc.possible_length if metadata.general_desc else ()


def _beginning(pattern: str) -> str:
    return rf"(?-u)\A(?:{pattern})"  # our digits are ASCII; Unicode's take ten times as long to compile


@cache
def _country_codes() -> pl.DataFrame:
    """Return the country `code` of numbers by their first three digits, `head`; no code begins another."""
    pairs = [
        (str(code) + "".join(rest), code)
        for code in COUNTRY_CODE_TO_REGION_CODE
        for rest in product("0123456789", repeat=3 - len(str(code)))
    ]
    return pl.DataFrame(pairs, {"head": pl.String, "code": pl.Int64}, orient="row")


def _metadata(region: str, code: int = 0) -> PhoneMetadata:
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    if metadata is None:
        raise LookupError(f"phonenumbers has no metadata for {region} {code}")
    return metadata


@cache
def _zones_of_regions() -> dict[str, frozenset[str]]:
    table = resources.files("tzdata").joinpath("zoneinfo/zone.tab").read_text("utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    zones: dict[str, set[str]] = {}
    for region, _, zone, *_ in rows:
        zones.setdefault(region, set()).add(zone)
    return {region: frozenset(names) for region, names in zones.items()}


@cache
def _all_zones() -> frozenset[str]:
    return frozenset().union(*_zones_of_regions().values())
