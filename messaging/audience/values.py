"""Countries, languages, time zones, consents and statuses as files say them, to the words the ledger keeps.

Each function returns a row per distinct value. What is not certain is null: a wrong country would dial a
stranger, a wrong consent would write to somebody who said no.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

import polars as pl

from messaging.audience.words import words_of
from schemas.states import SubscriptionStatus

# CLDR also names groups of countries, test codes and some islands; these are parts of countries.
_NO_COUNTRIES = {"AC", "CP", "CQ", "DG", "EU", "EZ", "QO", "TA", "UN", "XA", "XB", "ZZ"}
_PARTS = {"IC": "ES", "EA": "ES"}
_TAG = r"^([a-z]{2})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|\d{3}))?$"
_NO_ZONES = re.compile(r"Factory|[EMH]ST$|Etc/GMT.?[1-9]")

_APOSTROPHES = "['`\u2019\u02bc\u05f3\u05f4]+"
_TIME = r"(?:[T\s,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?\s*([AaPp]\.?[Mm]\.?)?)?"
_OFFSET = r"\s*(Z|UTC|GMT|[+-](?:0\d|1[0-4]):?[0-5]\d)?"
_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_YEAR_FIRST = rf"^(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}{_OFFSET}$"
_YEAR_LAST = rf"^(\d{{1,2}})[-/.](\d{{1,2}})[-/.](\d{{4}}){_TIME}{_OFFSET}$"
_EARLIEST = 1990  # before it nobody agreed to mail: programs write 0000-00-00 or 1970-01-01 for "never"
_WORDING = r"(?:^| )\p{L}+ (?:.* )?\p{L}+ (?:.* )?\p{L}+(?: |$)"  # three words say what somebody agreed to


def meant(value: pl.Expr) -> pl.Expr:
    """Return the value, null where it is a word for there being none: n/a, -, unknown."""
    return pl.when(~value.str.to_lowercase().is_in(words_of("value", "hints")["no_value"])).then(value)


def folded(value: pl.Expr) -> pl.Expr:
    """Return the value without case, accents and signs, words separated by one space."""
    letters = value.str.normalize("NFKD").str.to_lowercase().str.replace_all(r"\p{M}+", "")
    # Letters that do not decompose.
    letters = letters.str.replace_many(
        ["\u0131", "ł", "ø", "đ", "ß", "æ", "œ"], ["i", "l", "o", "d", "ss", "ae", "oe"]
    )
    # Marks such as a tick are all of their value: they stay.
    words = letters.str.replace_all(_APOSTROPHES, "").str.replace_all(r"[^\p{L}\p{N}\p{So}✓]+", " ")
    return words.str.strip_chars().str.normalize("NFC")


def judge_countries(given: pl.Series) -> pl.DataFrame:
    """Return `given` and `country` (ISO 3166 alpha-2), from codes and names in some forty languages."""
    distinct = _distinct(given)
    judged = _looked_up(distinct, _countries("first"), "country")
    if judged["country"].null_count():
        judged = _filled(judged, _looked_up(distinct, _countries("others"), "country"), "country")
    return judged.select("given", "country")


def judge_languages(given: pl.Series) -> pl.DataFrame:
    """Return `given` and `language` (a tag such as `de` or `pt-BR`), from tags and names of languages."""
    distinct = _distinct(given)
    judged = _filled(_tags(distinct), _looked_up(distinct, _languages("first"), "language"), "language")
    if judged["language"].null_count():
        judged = _filled(judged, _looked_up(distinct, _languages("others"), "language"), "language")
    return judged.select("given", "language")


def judge_time_zones(given: pl.Series) -> pl.DataFrame:
    """Return `given` and `time_zone`: IANA's current name, from IANA's names, old and new, and Windows'.

    Fixed offsets such as GMT+1 and letters such as EST are no zone: they do not say when clocks change.
    """
    key = pl.col("given").str.to_lowercase().str.replace_all("_slash_", "/", literal=True).str.strip_chars()
    distinct = _distinct(given).with_columns(key=key.str.replace_all(" ", "_", literal=True))
    judged = distinct.join(_zones(), on="key", how="left", maintain_order="left")
    if judged["time_zone"].null_count():
        judged = _filled(judged, _looked_up(_distinct(given), _zones_by_name(), "time_zone"), "time_zone")
    return judged.select("given", "time_zone")


def judge_consents(given: pl.Series) -> pl.DataFrame:
    """Return `given`, `consent`, `consent_at` (ISO 8601 with offset) and `consent_text`.

    A date is a consent given then; three words or more are its wording, unless one of them may deny it. What
    is neither is kept as text and says nothing. A date that may be read in two ways is kept as text too.
    """
    distinct = _distinct(given)
    like_a_date = pl.col("given").str.contains(_DATE)
    return pl.concat([_dated(distinct.filter(like_a_date)), _worded(distinct.filter(~like_a_date))])


def judge_statuses(given: pl.Series) -> pl.DataFrame:
    """Return `given` and `status`, a `SubscriptionStatus`; words about leaving count among others too."""
    judged = _looked_up(_distinct(given), _statuses(), "status")
    left = pl.when(pl.col("key").str.contains(_leaving())).then(pl.lit(SubscriptionStatus.UNSUBSCRIBED.value))
    return judged.select("given", status=pl.coalesce("status", left))


def judge_opt_outs(given: pl.Series) -> pl.DataFrame:
    """Return `given` and `opted_out`: true for words and dates that do not clearly say no.

    In doubt somebody is not written to; a date before the web, such as 0000-00-00, says nobody opted out.
    """
    judged = judge_consents(given).join(judge_statuses(given), on="given", how="left", maintain_order="left")
    left = pl.col("status") == SubscriptionStatus.UNSUBSCRIBED.value
    # Letters, or a day as spreadsheets count them.
    says_something = meant(pl.col("given")).str.contains(r"\p{L}|^\d{5}(\.\d+)?$").fill_null(value=False)
    return judged.select("given", opted_out=pl.coalesce(left, "consent", says_something))


def _distinct(given: pl.Series) -> pl.DataFrame:
    return given.rename("given").cast(pl.String).drop_nulls().unique(maintain_order=True).to_frame()


def _looked_up(distinct: pl.DataFrame, table: pl.DataFrame, column: str) -> pl.DataFrame:
    keyed = distinct.select("given", key=folded(pl.col("given")))
    return keyed.join(table, on="key", how="left", maintain_order="left").select("given", "key", column)


def _filled(judged: pl.DataFrame, other: pl.DataFrame, column: str) -> pl.DataFrame:
    """Fill what is null from another frame of the same rows."""
    return judged.with_columns(pl.col(column).fill_null(other[column]))


def _meanings(words: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    return [(word, meaning) for meaning, all_words in words.items() for word in all_words]


def _unambiguous(meanings: list[tuple[str, str]], column: str) -> pl.DataFrame:
    """Return a row per folded word that has one meaning only."""
    table = pl.DataFrame(meanings, {"word": pl.String, column: pl.String}, orient="row")
    table = table.select(column, key=folded(pl.col("word"))).filter(pl.col("key") != "").unique()
    return table.filter(pl.col("key").is_unique())


def _preferring(sure: list[tuple[str, str]], names: list[tuple[str, str]], column: str) -> pl.DataFrame:
    """Return the words of `sure`, and the other names that have one meaning only."""
    known = _unambiguous(sure, column)
    return pl.concat([known, _unambiguous(names, column).join(known, on="key", how="anti")])


# Babel costs 20 ms and each of its languages 10 ms and 1 MB: only files with such a column import it.
@cache
def _countries(locales: str) -> pl.DataFrame:
    from babel import Locale  # noqa: PLC0415
    from babel.core import get_global  # noqa: PLC0415

    names = [
        (name, _PARTS.get(code, code))
        for locale in words_of("value", "locales")[locales]
        for code, name in Locale.parse(locale).territories.items()
        if len(code) == 2 and code not in _NO_COUNTRIES  # noqa: PLR2004 - the others are continents
    ]
    three_letters = [
        (old, new[0])
        for old, new in get_global("territory_aliases").items()
        if len(old) == 3 and old.isalpha() and len(new) == 1  # noqa: PLR2004
    ]
    codes = [(code, code) for code in {code for _, code in names}]
    ours = words_of("value", "countries")
    sure = [
        *codes,
        *three_letters,
        *_meanings({code: words for code, words in ours.items() if code != "ambiguous"}),
    ]
    return _preferring(sure, names, "country").filter(~pl.col("key").is_in(ours["ambiguous"]))


@cache
def _languages(locales: str) -> pl.DataFrame:
    from babel import Locale  # noqa: PLC0415
    from babel.core import get_global  # noqa: PLC0415

    codes = set(words_of("value", "language_codes")["iso_639_1"])
    names = [
        (name, code.replace("_", "-"))
        for locale in words_of("value", "locales")[locales]
        for code, name in Locale.parse(locale).languages.items()
        if code.partition("_")[0] in codes
    ]
    three_letters = [
        (old, new)
        for old, new in get_global("language_aliases").items()
        if len(old) == 3 and new in codes  # noqa: PLR2004
    ]
    return _preferring([*three_letters, *_meanings(words_of("value", "languages"))], names, "language")


def _tags(distinct: pl.DataFrame) -> pl.DataFrame:
    """Return the tags that need no table: `de`, `pt_br`, `zh-Hans-CN`."""
    codes = words_of("value", "language_codes")
    withdrawn = {old: code for code, all_old in codes.items() if code != "iso_639_1" for old in all_old}
    parts = pl.col("given").str.strip_chars().str.to_lowercase().str.extract_groups(_TAG)
    language = parts.struct.field("1").replace(withdrawn)
    script = "-" + parts.struct.field("2").str.to_titlecase()
    region = "-" + parts.struct.field("3").replace({"uk": "gb"}).str.to_uppercase()
    tag = language + script.fill_null("") + region.fill_null("")
    return distinct.select("given", language=pl.when(language.is_in(codes["iso_639_1"])).then(tag))


@cache
def _zones() -> pl.DataFrame:
    folder = resources.files("tzdata").joinpath("zoneinfo")
    names = resources.files("tzdata").joinpath("zones").read_text("utf-8").split()
    used = {line.split("\t")[2] for line in _lines(folder.joinpath("zone.tab").read_text("utf-8"))}
    links = {
        words[2]: words[1]
        for line in _lines(folder.joinpath("tzdata.zi").read_text("utf-8"))
        if (words := line.split())[0] == "L"
    }
    # IANA links Europe/Stockholm to Europe/Berlin too: whoever lives there would wonder.
    current = {name: name if name in used else links.get(name, name) for name in names}
    return _frame({name.lower(): zone for name, zone in current.items() if not _NO_ZONES.match(name)})


@cache
def _zones_by_name() -> pl.DataFrame:
    from babel.core import get_global  # noqa: PLC0415

    names = [*get_global("windows_zone_mapping").items(), *_meanings(words_of("value", "time_zones"))]
    zones = _unambiguous(names, "zone").with_columns(pl.col("zone").str.to_lowercase())
    return zones.join(_zones(), left_on="zone", right_on="key").select("key", "time_zone")


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _frame(zones: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame({"key": list(zones), "time_zone": list(zones.values())})


@cache
def _consents() -> pl.DataFrame:
    words = words_of("value", "consent")
    table = _unambiguous(_meanings({"yes": words["yes"], "no": words["no"]}), "consent")
    return table.with_columns(consent=pl.col("consent") == "yes")


@cache
def _leaving() -> str:
    """Return a pattern of the words that mean unsubscribed wherever they stand."""
    words = pl.Series(words_of("value", "status")["leaving"])
    keys = pl.select(folded(pl.lit(words))).to_series().to_list()
    return rf"(?:^| )(?:{'|'.join(map(re.escape, keys))})(?: |$)"


@cache
def _statuses() -> pl.DataFrame:
    return _unambiguous(
        _meanings({word: words_of("value", "status")[word] for word in SubscriptionStatus}), "status"
    )


def _worded(distinct: pl.DataFrame) -> pl.DataFrame:
    """Judge consents that say yes, no or what somebody agreed to."""
    judged = _looked_up(distinct, _consents(), "consent")
    negations = words_of("value", "consent")["negations"]
    denied = pl.col("key").str.split(" ").list.eval(pl.element().is_in(negations)).list.any()
    denied |= pl.col("key").str.contains(r"\bopt(?:ed)? out\b")
    agreeing = words_of("value", "consent")["agreeing"]
    agrees = pl.col("key").str.split(" ").list.eval(pl.element().is_in(agreeing)).list.any()
    is_wording = pl.col("key").str.contains(_WORDING) & agrees & ~denied
    return judged.select(
        "given",
        consent=pl.coalesce("consent", pl.when(is_wording).then(pl.lit(value=True))),
        consent_at=pl.lit(None, pl.String),
        consent_text=pl.when(pl.col("consent").is_null()).then("given"),
    )


def _dated(distinct: pl.DataFrame) -> pl.DataFrame:
    """Judge consents that say when they were given."""
    year_first, year_last = pl.col("year_first"), pl.col("year_last")
    moments = distinct.with_columns(
        year_first=pl.col("given").str.extract_groups(_YEAR_FIRST),
        year_last=pl.col("given").str.extract_groups(_YEAR_LAST),
    ).with_columns(
        year_first=_moment(year_first, "123"),
        day_first=_moment(year_last, "321"),
        month_first=_moment(year_last, "312"),
    )
    ambiguous = pl.col("day_first") != pl.col("month_first")
    with_dots = pl.col("given").str.contains(r"^\d+\.")  # then the day comes first everywhere
    either = pl.coalesce("day_first", "month_first")
    at = pl.coalesce("year_first", pl.when(with_dots | ~ambiguous.fill_null(value=False)).then(either))
    return moments.select(
        "given",
        consent=pl.when(pl.coalesce("year_first", either).is_not_null()).then(pl.lit(value=True)),
        consent_at=at,
        consent_text=pl.when(at.is_null()).then("given"),
    )


def _moment(groups: pl.Expr, order: str) -> pl.Expr:
    """Return ISO 8601 text from the groups of a date, `order` naming those of year, month and day."""
    year, month, day = (groups.struct.field(group) for group in order)
    hour = groups.struct.field("4").fill_null("0").cast(pl.Int8)
    half = groups.struct.field("7").str.to_lowercase().str.slice(0, 1)
    hour = (
        pl.when(half.is_null()).then(hour).otherwise(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    )
    minute, second = (groups.struct.field(group).fill_null("00") for group in "56")
    local = pl.format(
        "{}-{}-{}T{}:{}:{}",
        year,
        month.str.zfill(2),
        day.str.zfill(2),
        hour.cast(pl.String).str.zfill(2),
        minute,
        second,
    )
    known = local.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)
    offset = groups.struct.field("8").str.replace(r"^([+-]\d\d):?(\d\d)$", "${1}:${2}")
    offset = pl.when(offset.str.contains(r"^[+-]")).then(offset).otherwise(pl.lit("+00:00"))
    return pl.when(known.dt.year() >= _EARLIEST).then(local + offset)
