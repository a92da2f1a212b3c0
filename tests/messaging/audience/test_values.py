"""Values: countries, languages, time zones, consents and statuses as files say them."""

import subprocess
import sys
from collections.abc import Callable
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from messaging.audience.values import (
    judge_consents,
    judge_countries,
    judge_languages,
    judge_opt_outs,
    judge_statuses,
    judge_time_zones,
)
from messaging.audience.words import words_of
from schemas.states import SubscriptionStatus

JUDGES = [judge_countries, judge_languages, judge_time_zones, judge_consents, judge_statuses]


def judged(judge: Callable[[pl.Series], pl.DataFrame], *values: str) -> dict[str, object]:
    """Return each value's verdict."""
    return {row[0]: row[1] for row in judge(pl.Series(values)).iter_rows()}


@pytest.mark.parametrize(
    ("country", "values"),
    [
        (
            "DE",
            "DE, de, DEU, GERMANY, Deutschland, Alemania, allemagne, Германия, 德国, ドイツ, ألمانيا",
        ),
        ("ES", "ES, ESP, España, espana, Spain, Spanien, Espagne, 스페인, Canarias"),
        ("GB", "GB, UK, U.K., United Kingdom, Great Britain, England, Scotland, Reino Unido"),
        ("US", "US, USA, U.S.A., United States, United States of America, EE. UU., Estados Unidos, США"),
        ("NL", "Holland, The Netherlands, Nederland, Países Bajos"),
        ("CZ", "Czech Republic, Czechia, Česko, Česká republika"),
        ("KR", "South Korea, Korea, 대한민국, Republic of Korea"),
        ("CI", "Côte d\u2019Ivoire, Cote d'Ivoire, Ivory Coast"),
        ("TR", "Türkiye, Turkey, Türkei"),
        ("AT", "Österreich, OESTERREICH, Autriche"),
        ("GR", "Ελλάδα, Greece"),
        ("IL", "ישראל, Israel"),
        ("FI", "Suomi, Finnland"),
        ("XK", "XK, Kosovo"),
    ],
)
def test_countries_are_known_by_their_codes_and_by_names_of_many_languages(country: str, values: str):
    names = values.split(", ")

    assert judged(judge_countries, *names) == dict.fromkeys(names, country)


def test_what_is_no_country_or_may_be_two_has_no_verdict():
    values = ["Narnia", "Congo", "EU", "ZZ", "276", "Virgin Islands", "Europe", "?", "🇩🇪"]

    assert judged(judge_countries, *values) == dict.fromkeys(values)


@pytest.mark.parametrize(
    ("language", "values"),
    [
        ("de", "de, DE, ger, deu, German, Deutsch, alemán, ALLEMAND, ドイツ語"),
        ("de-AT", "de-AT, de_at, Austrian German"),
        ("pt-BR", "pt-BR, pt_BR, Brazilian Portuguese, Portuguese (Brazil), português (Brasil)"),
        ("zh-Hans-CN", "zh-Hans-CN, zh_hans_cn"),
        ("en-GB", "en-gb, en-UK, British English"),
        ("he", "he, iw, Hebrew, עברית"),
        ("es-419", "es-419"),
        ("ja", "日本語, Japanese, 일본어"),
    ],
)
def test_languages_are_known_by_their_tags_and_names(language: str, values: str):
    names = values.split(", ")

    assert judged(judge_languages, *names) == dict.fromkeys(names, language)


def test_what_is_no_language_has_no_verdict():
    values = ["xx", "Klingon", "12", "Country", "english please"]

    assert judged(judge_languages, *values) == dict.fromkeys(values)


@pytest.mark.parametrize(
    ("value", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("us_slash_eastern", "America/New_York"),
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("Europe/Kiev", "Europe/Kyiv"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("Pacific Standard Time", "America/Los_Angeles"),
        ("Pacific Time (US & Canada)", "America/Los_Angeles"),
        ("UTC", "Etc/UTC"),
    ],
)
def test_time_zones_are_known_by_old_and_new_names(value: str, zone: str):
    assert judged(judge_time_zones, value) == {value: zone}


def test_a_zone_that_another_one_stands_for_keeps_its_own_name():
    assert judged(judge_time_zones, "Europe/Stockholm") == {"Europe/Stockholm": "Europe/Stockholm"}


def test_offsets_and_letters_are_no_time_zone():
    values = [
        "GMT+1",
        "UTC+02:00",
        "+02:00",
        "EST",
        "MST",
        "Etc/GMT+5",
        "Berlin",
        "Factory",
        "../../etc/passwd",
    ]

    assert judged(judge_time_zones, *values) == dict.fromkeys(values)


def test_every_zone_given_can_be_used():
    values = [
        "europe/madrid",
        "Asia/Calcutta",
        "Japan",
        "CET",
        "Central Europe Standard Time",
        "India Standard Time",
    ]

    zones = judged(judge_time_zones, *values)

    assert all(isinstance(zone, str) and ZoneInfo(zone) for zone in zones.values())


@pytest.mark.parametrize(
    ("consent", "values"),
    [
        (True, "yes Y TRUE 1 x ✓ ✔️ ☑ subscribed opt-in sí sim oui ja tak ano kyllä evet igen"),
        (True, "да 是 はい 예 نعم כן 同意 동의 согласен"),
        (False, "no N false 0 ✗ ❌ ☐ unsubscribed opt-out nein não non nee nie nej ei hay\u0131r nem"),
        (False, "нет 否 いいえ 아니오 لا לא 同意しない 미동의"),
    ],
)
def test_yes_and_no_are_known_in_many_languages(values: str, *, consent: bool):
    words = values.split()

    assert judged(judge_consents, *words) == dict.fromkeys(words, consent)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2024-05-01", "2024-05-01T00:00:00+00:00"),
        ("2024-05-01 10:11:12", "2024-05-01T10:11:12+00:00"),
        ("2024-05-01T10:11:12.123Z", "2024-05-01T10:11:12+00:00"),
        ("2024-05-01T10:11:12+0200", "2024-05-01T10:11:12+02:00"),
        ("2024/5/1 9:05", "2024-05-01T09:05:00+00:00"),
        ("1.5.2024", "2024-05-01T00:00:00+00:00"),
        ("13/5/2024 9:05 PM", "2024-05-13T21:05:00+00:00"),
        ("5/13/2024 12:05 am", "2024-05-13T00:05:00+00:00"),
        ("5/5/2024", "2024-05-05T00:00:00+00:00"),
    ],
)
def test_a_date_is_a_consent_given_then(value: str, at: str):
    assert judge_consents(pl.Series([value])).rows() == [(value, True, at, None)]


def test_a_date_that_may_be_read_in_two_ways_is_a_consent_with_the_date_as_text():
    assert judge_consents(pl.Series(["1/5/2024"])).rows() == [("1/5/2024", True, None, "1/5/2024")]


@pytest.mark.parametrize("value", ["I agree to the newsletter", "Signed up at the trade fair in 2024"])
def test_a_wording_is_a_consent_and_is_kept(value: str):
    assert judge_consents(pl.Series([value])).rows() == [(value, True, None, value)]


@pytest.mark.parametrize(
    "value",
    [
        "maybe",
        "web form",
        "I do not agree",
        "no quiero recibir correos",
        "Keine Werbung bitte senden",
        "opted out by phone",
        "consent is still pending",
        "0000-00-00 00:00:00",
        "1970-01-01",
        "2024-02-30",
        "2024-05-01 25:00",
        "12 34 56",
    ],
)
def test_what_does_not_clearly_agree_is_kept_as_text_and_says_nothing(value: str):
    assert judge_consents(pl.Series([value])).rows() == [(value, None, None, value)]


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (
            "subscribed",
            "Subscribed, ACTIVE, confirmed, aktiv, suscrito, inscrit, активный, 已订阅, 購読中, مشترك",
        ),
        (
            "unsubscribed",
            "unsubscribed, Opted-Out, cleaned, bounced, abgemeldet, Désabonné, отписан, 退订, 수신거부, הוסר",
        ),
        ("pending", "Pending, unconfirmed, ausstehend, pendiente, en attente, 待确认, ожидает"),
    ],
)
def test_statuses_are_known_in_many_languages(status: str, values: str):
    words = values.split(", ")

    assert judged(judge_statuses, *words) == dict.fromkeys(words, status)


def test_an_unknown_status_has_no_verdict():
    assert judged(judge_statuses, "gold", "1", "Madrid") == dict.fromkeys(["gold", "1", "Madrid"])


def test_where_a_customer_relation_is_at_is_no_subscription():
    words = [
        "New",
        "Open",
        "Offen",  # codespell:ignore
        "Lead",
        "Qualified",
        "Customer",
        "Won",
        "Closed",
        "On hold",
        "Waiting",
        "保留",
    ]

    assert judged(judge_statuses, *words) == dict.fromkeys(words)


def test_statuses_are_words_of_the_ledger():
    assert set(words_of("value", "status")) == {*SubscriptionStatus, "leaving"}


@pytest.mark.parametrize("table", ["consent", "status"])
def test_no_word_has_two_meanings(table: str):
    meanings: dict[str, set[str]] = {}
    for meaning, words in words_of("value", table).items():
        for word in words if meaning not in {"negations", "agreeing", "leaving"} else []:
            meanings.setdefault(word, set()).add(meaning)

    assert {word: found for word, found in meanings.items() if len(found) > 1} == {}


@pytest.mark.parametrize("judge", JUDGES)
def test_each_distinct_value_has_one_row(judge: Callable[[pl.Series], pl.DataFrame]):
    given = pl.Series("anything", ["a", "b", None, "a", "b "])

    assert sorted(judge(given)["given"]) == ["a", "b", "b "]


@pytest.mark.parametrize("judge", JUDGES)
def test_no_values_have_no_rows(judge: Callable[[pl.Series], pl.DataFrame]):
    assert judge(pl.Series([None], dtype=pl.String)).is_empty()
    assert judge(pl.Series([], dtype=pl.String)).is_empty()


def test_tables_of_names_are_not_imported_for_files_without_them():
    program = "import sys, messaging.audience.columns; print('babel' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("opted_out", "texts"),
    [
        (
            True,
            [
                "yes",
                "1",
                "x",
                "true",
                "ja",
                "unsubscribed",
                "opted out",
                "2024-05-01",
                "asked us to stop",
                "perhaps",
            ],
        ),
        (False, ["no", "0", "false", "nein", "n/a", "-", "0000-00-00", "subscribed"]),
    ],
)
def test_who_opted_out_is_told_and_in_doubt_nobody_is_written_to(opted_out: bool, texts: list[str]):  # noqa: FBT001
    judged = judge_opt_outs(pl.Series("given", texts))

    assert dict(judged.iter_rows()) == dict.fromkeys(texts, opted_out)
