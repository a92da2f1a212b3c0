"""Contents: what values look like."""

import polars as pl
import pytest

from messaging.audience.contents import LOOKED_AT, share_like, share_possible, values_of


def like(role: str, value: str) -> bool:
    return share_like(role, pl.Series([value])) == 1


@pytest.mark.parametrize(
    "value",
    [
        "ada@example.org",
        "ADA+list@EXAMPLE.CO.UK",
        "Ada Lovelace <ada@example.org>",
        '"Lovelace, Ada" <ada@example.org>',
        "mailto:ada@example.org",
        "ada@example.org; grace@example.org",
        "ada@example.org.",
        "josé@niño.es",
    ],
)
def test_addresses_look_like_addresses(value: str):
    assert like("email", value)


@pytest.mark.parametrize("value", ["ada", "ada@", "@ada", "ada@example", "write to ada@example.org or call"])
def test_other_texts_do_not_look_like_addresses(value: str):
    assert not like("email", value)


@pytest.mark.parametrize(
    "value",
    [
        "+34 600 123 456",
        "0034600123456",
        "(020) 7946 0001",
        "020-7946-0001",
        "0171/1234567",
        "555.123.4567",
        "Tel: 600 123 456",
        "+1 555 123 4567 ext. 12",
        "600 123 456 / 600 123 457",
        "+81\u20113\u20111234\u20115678".replace("\u2011", "-"),
    ],
)
def test_numbers_look_like_phone_numbers(value: str):
    assert like("phone", value)


@pytest.mark.parametrize(
    "value",
    [
        "123456",
        "1/5/2024",
        "2024-05-01",
        "1,234,567.00",
        "call 600123456 now",
        "ES91 2100 0418",
        "12345-6789",
    ],
)
def test_other_digits_do_not_look_like_phone_numbers(value: str):
    assert not like("phone", value)


def test_the_share_counts_values_and_not_empty_cells():
    values = values_of(pl.Series(["ada@example.org", None, " ", "n/a", "-", "NULL", "grace"]))

    assert values.to_list() == ["ada@example.org", "grace"]
    assert share_like("email", values) == 0.5


def test_a_large_sample_is_looked_at_all_over():
    cells = pl.Series([f"{i}@example.org" if i < 25_000 else "none of them" for i in range(50_000)])

    values = values_of(cells)

    assert len(values) == LOOKED_AT
    assert share_like("email", values) == 0.5


@pytest.mark.parametrize("role", ["email", "phone", "name", "country", "time_zone", "language"])
def test_a_column_without_values_looks_like_nothing_and_denies_nothing(role: str):
    nothing = values_of(pl.Series([None, ""], dtype=pl.String))

    assert share_like(role, nothing) == 0
    assert share_possible(role, nothing) == 1


def test_a_column_of_names_is_mostly_different_people():
    people = pl.Series(["Ada Lovelace", "Conan O\u2019Brien", "J. Smith", "Anne-Marie van der Berg"])
    cities = pl.Series(["New York", "Los Angeles", "New York", "New York", "New York"])

    assert share_like("name", people) == 0.75
    assert share_like("name", cities) == 0


def test_codes_of_countries_and_of_languages_are_told_by_their_case():
    upper, lower = pl.Series(["DE", "ES", "FR"]), pl.Series(["de", "es", "fr"])

    assert share_like("country", upper) == share_like("language", lower) == 1
    assert share_like("country", lower) == share_like("language", upper) == 0


def test_states_are_no_countries():
    assert share_like("country", pl.Series(["CA", "PA", "DE", "CO"])) == 0
