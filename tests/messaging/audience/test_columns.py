"""Columns: which is read as what, by choice, by header and by content."""

import tomllib
from pathlib import Path

import polars as pl
import pytest

from messaging.audience.columns import Columns, find_columns, with_late_columns
from messaging.audience.files.layout import cell
from messaging.audience.words import words_of
from messaging.errors import InputError

HEADERS = tomllib.loads(Path(__file__).with_name("headers.toml").read_text(encoding="utf-8"))
ROWS = range(8)
EMAILS = [f"person{i}@example.org" for i in ROWS]
MORE_EMAILS = [f"p{i}@example.com" for i in ROWS]
PHONES = [f"+34 600 12 34 {i}1" for i in ROWS]
DATES = [f"2024-05-0{i + 1}" for i in ROWS]
NAMES = [
    "Ada Lovelace",
    "Grace Hopper",
    "Alan Turing",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Donald Knuth",
    "Ana María López",
    "Juan de la Cruz",
]


def columns_of(
    header: list[str], values: list[list[str]] | None = None, chosen: dict[str, list[str]] | None = None
) -> Columns:
    """Find the columns of a file with these values by column."""
    values = values or [[] for _ in header]
    sample = pl.DataFrame({cell(i): pl.Series(column, dtype=pl.String) for i, column in enumerate(values)})
    return find_columns(header, sample, chosen or {}, "people.csv")


def read_as(
    header: list[str], values: list[list[str]] | None = None, chosen: dict[str, list[str]] | None = None
) -> dict[str, str]:
    """Say what was read as what, several columns separated by a bar."""
    columns = columns_of(header, values, chosen)
    return {role: " | ".join(header[i] for i in places) for role, places in columns.roles.items()}


@pytest.mark.parametrize("file", [pytest.param(file, id=name) for name, file in HEADERS.items()])
def test_headers_of_many_languages_and_programs_are_recognised(file: dict[str, str]):
    header = " ".join(file["header"].split()).split(", ")

    assert read_as(header) == {role: columns for role, columns in file.items() if role != "header"}


@pytest.mark.parametrize(
    ("header", "best_first"),
    [
        ("Telephone,Mobile,Landline", "Mobile | Telephone | Landline"),
        ("Work phone,Home phone,Phone,WhatsApp", "WhatsApp | Phone | Home phone | Work phone"),
        ("Phone 2,Phone,Primary Phone", "Primary Phone | Phone | Phone 2"),
    ],
)
def test_the_phone_that_is_likely_a_persons_own_comes_first(header: str, best_first: str):
    assert read_as(header.split(","))["phone"] == best_first


def test_the_main_address_comes_before_the_others():
    header = ["Secondary e-mail", "Work email", "Email 2", "Email", "Primary Email"]

    assert read_as(header)["email"] == "Primary Email | Email | Email 2 | Work email | Secondary e-mail"


@pytest.mark.parametrize(
    "column",
    [
        "Email sent",
        "Email Type",
        "Email Verified",
        "Email domain",
        "Email 1 - Label",
        "Owner email",
        "Assistant's phone",
        "Phone extension",
        "Fax",
    ],
)
def test_what_only_speaks_of_addresses_is_an_attribute(column: str):
    assert read_as([column, "Mail"]) == {"email": "Mail"}


@pytest.mark.parametrize(
    "column", ["Last contact", "Country of birth", "User name", "Product name", "SMS opt-in", "Lead status"]
)
def test_words_that_mean_something_else_beside_others_are_not_taken(column: str):
    assert read_as([column, "Mail"]) == {"email": "Mail"}


def test_an_opt_in_is_a_consent_and_no_address():
    assert read_as(["Email opt-in", "Email"]) == {"email": "Email", "consent": "Email opt-in"}


def test_who_opted_out_is_never_read_as_a_consent_and_other_channels_are_told():
    columns = columns_of(["Email", "Email Opt Out", "SMS opt out"])

    assert columns.roles == {"email": [0], "opt_out": [1]}
    assert "'SMS opt out' may say who wants no messages" in columns.notes[0]


def test_a_chosen_column_wins_and_the_others_are_still_found():
    header = ["Email", "Contacto", "Titular"]
    chosen = {"phone": ["Contacto"], "name": ["Titular"]}

    columns = columns_of(header, chosen=chosen)

    assert columns.roles == {"email": [0], "phone": [1], "name": [2]}
    assert columns.how == {0: "header", 1: "chosen", 2: "chosen"}


def test_of_a_chosen_role_no_other_column_is_read():
    assert read_as(["Email", "Correo", "Mail"], chosen={"email": ["Mail", "Correo"]}) == {
        "email": "Mail | Correo"
    }


def test_a_column_may_be_chosen_without_regard_to_case():
    assert read_as(["E-Mail", "TELÉFONO"], chosen={"phone": ["teléfono"]})["phone"] == "TELÉFONO"


def test_a_column_is_chosen_whatever_it_holds():
    columns = columns_of(["Login", "Email"], [["yes"] * 8, EMAILS], {"email": ["Login"]})

    assert columns.roles == {"email": [0]}


def test_the_halves_of_a_name_stay_attributes():
    columns = columns_of(["First name", "Last name", "Email", "City", "Country"])

    assert columns.attributes == [0, 1, 3, 4]
    assert columns.first("email") == 2
    assert columns.first("phone") is None


def test_a_file_without_a_header_is_read_by_its_values():
    columns = columns_of(["Column 1", "Column 2", "Column 3"], [NAMES, EMAILS, PHONES])

    assert columns.roles == {"email": [1], "phone": [2], "name": [0]}
    assert columns.how == {
        0: "content: 100 % look like names of people",
        1: "content: 100 % look like e-mail addresses",
        2: "content: 100 % look like phone numbers",
    }


def test_a_list_of_addresses_alone_is_read():
    assert read_as(["Column 1"], [EMAILS]) == {"email": "Column 1"}


def test_a_phone_column_called_contacto_is_found_by_its_values():
    assert read_as(["Email", "Contacto"], [EMAILS, PHONES]) == {"email": "Email", "phone": "Contacto"}


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        (["Email sent", "Correo del socio"], [DATES, EMAILS], {"email": "Correo del socio"}),
        (["Email", "Contact"], [["yes", "no"] * 4, EMAILS], {"email": "Contact"}),
        (["Email", "Phone"], [PHONES, EMAILS], {"email": "Phone", "phone": "Email"}),
        (["Phone", "Email"], [DATES, EMAILS], {"email": "Email"}),
        (["Estado", "Email"], [["Madrid", "Jalisco"] * 4, EMAILS], {"email": "Email"}),
    ],
)
def test_values_deny_a_header_that_says_otherwise(
    header: list[str], values: list[list[str]], expected: dict[str, str]
):
    assert read_as(header, values) == expected


def test_a_denied_header_is_told():
    columns = columns_of(["Email", "Contact"], [["yes", "no"] * 4, EMAILS])

    assert columns.notes == ["column 'Email' is not read as email: its values look otherwise"]


BAD = ["ask her", "none yet", "ada at example.org", "?", "left", "see notes", "to do", "grace@example.org"]


@pytest.mark.parametrize("header", ["Owner email", "Manager", "Vorgesetzter", "Login"])
def test_a_column_of_bad_addresses_is_not_replaced_by_somebody_elses_good_ones(header: str):
    columns = columns_of([header, "Email", "City"], [EMAILS, BAD, ["Bath"] * 8])

    assert columns.roles == {"email": [1]}
    assert "'Email' is read as email, as its header says, although only 14 % of its" in columns.notes[0]
    assert (f"{header!r} looks like it: if it is these people's own" in columns.notes[0]) == (
        header in {"Vorgesetzter", "Login"}
    )


@pytest.mark.parametrize("other", [[], PHONES])
def test_where_a_column_of_addresses_holds_something_else_no_unknown_one_takes_its_place(other: list[str]):
    header, values = ["Email", "Vorgesetzter"], [["yes", "no"] * 4, EMAILS]
    if not other:
        says = "holds something else than it says in 'Email', .* as in --map email=Vorgesetzter$"
        with pytest.raises(InputError, match=says):
            columns_of(header, values)
        return
    columns = columns_of([*header, "Phone"], [*values, other])

    assert columns.roles == {"phone": [2]}
    assert "'Email' is not read as email: its values look otherwise; 'Vorgesetzter' looks" in columns.notes[0]


def test_a_late_column_is_read_only_where_no_header_says_where_the_addresses_are():
    late = pl.DataFrame({cell(0): DATES, cell(1): EMAILS, cell(2): PHONES})
    for header, roles in {
        "Sent": {"email": [1], "phone": [2]},
        "Email": {"phone": [2]},
    }.items():
        columns = Columns([header, "Vorgesetzter", "Phone"], {"phone": [2]}, {2: "header"})

        assert with_late_columns(columns, late, {1}).roles == roles


def test_few_values_deny_no_header():
    assert read_as(["Email", "Login"], [["ada", "grace", "?", ""], EMAILS[:4]]) == {"email": "Email"}


def test_bad_addresses_under_a_clear_header_are_still_that_column():
    columns = columns_of(["Email"], [["ada at example.org"] * 7 + ["ada@example.org"]])

    assert columns.roles == {"email": [0]}


def test_rows_that_cannot_be_read_say_nothing_of_their_columns():
    sample = pl.DataFrame({cell(0): EMAILS, cell(1): DATES, "flaw": [None, *["too many cells"] * 7]})

    assert find_columns(["Login", "Email"], sample, {}, "people.csv").roles == {"email": [1]}


def test_placeholders_deny_nothing():
    assert read_as(["Email", "Mobile"], [["n/a"] * 7 + ["a@example.org"], PHONES])["email"] == "Email"


def test_numbers_that_a_spreadsheet_spoilt_are_still_the_phone_column():
    assert read_as(["Email", "Mobile"], [EMAILS, ["6.00E+08"] * 8])["phone"] == "Mobile"


def test_two_columns_of_addresses_without_telling_headers_are_both_read():
    header = ["Column 1", "Column 2"]

    assert read_as(header, [EMAILS, MORE_EMAILS]) == {"email": "Column 1 | Column 2"}


def test_of_two_columns_of_addresses_the_one_that_differs_from_row_to_row_is_read():
    values = [["boss@example.org"] * 8, EMAILS]

    assert read_as(["Zuweisung", "Login"], values) == {"email": "Login"}


def test_the_address_of_somebody_else_is_never_taken():
    assert read_as(["Account manager", "Phone"], [EMAILS, PHONES]) == {"phone": "Phone"}


def test_when_a_header_says_email_no_other_column_of_addresses_is_read():
    assert read_as(["Email", "Vorgesetzter"], [EMAILS, MORE_EMAILS]) == {"email": "Email"}


@pytest.mark.parametrize("header", ["Column 1", "Reference", "Foo"])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param([str(10_000_001 + i) for i in ROWS], id="counted up"),
        pytest.param([str(10_000_001 + i * 37 % 8) for i in ROWS], id="counted up, in disorder"),
        pytest.param(DATES, id="dates"),
        pytest.param([f"0{i + 1}.05.2024" for i in ROWS], id="German dates"),
        pytest.param([f"2024050{i + 1}" for i in ROWS], id="dates without signs"),
        pytest.param([f"1.234.56{i},00" for i in ROWS], id="money"),
        pytest.param([f"12,345.6{i}" for i in ROWS], id="English money"),
        pytest.param([f"ES912100041845020005133{i}" for i in ROWS], id="IBAN"),
        pytest.param([f"2801{i}-1234" for i in ROWS], id="ZIP+4"),
        pytest.param([f"0131{i}-100" for i in ROWS], id="CEP"),
        pytest.param([f"40.41677{i}" for i in ROWS], id="latitudes"),
        pytest.param([f"123-45-678{i}" for i in ROWS], id="SSN"),
        pytest.param([str(1_700_000_000 + i * 1_000_000) for i in ROWS], id="seconds since 1970"),
        pytest.param([f"2024-05-01 10:00:0{i}" for i in ROWS], id="times"),
    ],
)
def test_digits_that_are_no_phone_number_are_not_taken_for_one(header: str, values: list[str]):
    assert read_as([header, "Email"], [values, EMAILS]) == {"email": "Email"}


def test_bare_digits_are_phone_numbers_only_where_the_header_says_nothing_else():
    digits = [str(600_123_456 + i * 7_654_321) for i in ROWS]

    assert read_as(["Column 1", "Email"], [digits, EMAILS])["phone"] == "Column 1"
    assert "phone" not in read_as(["Ref externa", "Email"], [digits, EMAILS])


def test_countries_languages_and_time_zones_are_found_by_their_values():
    values = [EMAILS, ["Germany", "Spain"] * 4, ["Europe/Berlin"] * 8, ["de", "es"] * 4]
    header = ["Email", "Column 2", "Column 3", "Column 4"]

    assert read_as(header, values) == {
        "email": "Email",
        "country": "Column 2",
        "time_zone": "Column 3",
        "language": "Column 4",
    }


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("Destination", ["Germany", "Spain"] * 4),
        ("ST", ["CA", "PA", "DE", "CO"] * 2),
        ("Agreed", ["yes", "no"] * 4),
        ("City", ["New York", "San José"] * 4),
        ("Company", [f"Acme {word}" for word in ("One", "Two", "Six", "Ten", "Red", "Blue", "Gold", "Jade")]),
        ("Contact", ["Ada Lovelace"] * 8),
    ],
)
def test_content_alone_is_believed_only_when_it_is_unmistakable(header: str, values: list[str]):
    assert read_as([header, "Email"], [values, EMAILS]) == {"email": "Email"}


@pytest.mark.parametrize(
    ("header", "chosen", "says"),
    [
        (
            ["Email", "City"],
            {"phone": ["Tel"]},
            r"people.csv has no column 'Tel' for phone; its columns are: Email, City",
        ),
        (["Email", "City"], {"post": ["City"]}, "choose from email, phone, name"),
        (["Email", "City"], {"name": ["City"], "phone": ["City"]}, "chosen twice"),
        (
            ["Email", "City"],
            {"name": ["City", "Email"]},
            "name takes one column: choose one of 'City', 'Email'",
        ),
        (["Nick", "City"], {}, "its columns are: Nick, City. Say which it is, as in --map email=COLUMN"),
        (["Ada", "020 7946 0001"], {}, r"its columns are: Ada, \.\.\.\."),
        (["ada@example.org", "x"], {"email": ["y"]}, r"its columns are: \.\.\., x"),
        ([f"c{i}" for i in range(1_000)], {}, "c48, c49 and 950 more. Say which"),
    ],
)
def test_a_header_that_cannot_be_used_says_what_to_do(
    header: list[str], chosen: dict[str, list[str]], says: str
):
    with pytest.raises(InputError, match=says):
        columns_of(header, chosen=chosen)


def test_no_word_of_headers_has_two_meanings():
    words = [word for words in words_of("header", "says").values() for word in words]

    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize(
    "column", ["", "*", "__class__", '"; DROP', "😀", "a" * 10_000, "メ" * 5_000, "\u0301"]
)
def test_any_text_may_be_a_header(column: str):
    assert read_as([column, "Email"]) == {"email": "Email"}
