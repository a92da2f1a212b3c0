"""Headers: which column is read as what."""

import pytest

from messaging.audience.columns import find_columns
from messaging.errors import InputError


def read_as(header: list[str], chosen: dict[str, str] | None = None) -> dict[str, str]:
    columns = find_columns(header, chosen or {}, "people.csv")
    return {role: header[place] for role, place in columns.roles.items()}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["Full Name", "E-mail", "Mobile"], {"name": "Full Name", "email": "E-mail", "phone": "Mobile"}),
        (["E-MAIL ADDRESS", "phone_number"], {"email": "E-MAIL ADDRESS", "phone": "phone_number"}),
        (
            ["Nombre", "Correo electrónico", "Teléfono móvil"],
            {"name": "Nombre", "email": "Correo electrónico", "phone": "Teléfono móvil"},
        ),
        (
            ["Nombre", "Apellidos", "Correo"],
            {"first_name": "Nombre", "last_name": "Apellidos", "email": "Correo"},
        ),
        (["Prénom", "Nom", "Courriel"], {"first_name": "Prénom", "last_name": "Nom", "email": "Courriel"}),
        (
            ["Vorname", "Nachname", "E-Mail"],
            {"first_name": "Vorname", "last_name": "Nachname", "email": "E-Mail"},
        ),
        (["First name", "Name", "Last name", "mail"], {"name": "Name", "email": "mail"}),
        (["First name", "mail"], {"first_name": "First name", "email": "mail"}),
        (["Телефон", "Имя"], {"phone": "Телефон", "name": "Имя"}),
        (["メールアドレス", "電話番号"], {"email": "メールアドレス", "phone": "電話番号"}),
        (["Telephone", "Mobile", "Email"], {"phone": "Mobile", "email": "Email"}),
        (["Email 2", "Mail", "Email"], {"email": "Email"}),
        (["Address", "Tel."], {"phone": "Tel."}),
        (["휴대폰", "이메일", "이름"], {"phone": "휴대폰", "email": "이메일", "name": "이름"}),
    ],
)
def test_common_headers_are_recognised(header: list[str], expected: dict[str, str]):
    assert read_as(header) == expected


def test_a_chosen_column_wins_and_the_others_are_still_found():
    header = ["Email", "Contacto", "Titular"]

    assert read_as(header, {"phone": "Contacto", "name": "Titular"}) == {
        "email": "Email",
        "phone": "Contacto",
        "name": "Titular",
    }


def test_the_halves_of_a_name_stay_attributes():
    columns = find_columns(["First name", "Last name", "Email", "City"], {}, "people.csv")

    assert columns.attributes == [0, 1, 3]


@pytest.mark.parametrize(
    ("header", "chosen", "says"),
    [
        (
            ["Email", "City"],
            {"phone": "Tel"},
            r"people.csv has no column 'Tel' for phone; its columns are: Email, City",
        ),
        (["Email", "City"], {"post": "City"}, "choose from email, phone, name"),
        (["Email", "City"], {"name": "City", "phone": "City"}, "chosen twice"),
        (["Nick", "City"], {}, "its columns are: Nick, City. Say which"),
        (["Nick;City"], {}, "separated by commas"),
        (["Ada", "020 7946 0001"], {}, r"its columns are: Ada, \.\.\.\."),
    ],
)
def test_a_header_that_cannot_be_used_says_what_to_do(header: list[str], chosen: dict[str, str], says: str):
    with pytest.raises(InputError, match=says):
        find_columns(header, chosen, "people.csv")
