"""What an import would say of a file or of addresses."""

from pathlib import Path

import pytest

from messaging.audience.progress import running
from messaging.audience.verifying import verify_addresses, verify_file
from messaging.errors import InputError
from schemas.contacts import ImportOptions, Verification

FILE = """Full Name,E-mail,Mobile,City
Ada,ada@gmial.com,020 7946 0001,London
Bob,bob,,
Cy,cy@example.org,12345,Leeds
Ada,ada@gmial.com,,
,,,Bath
"""


def verified(folder: Path, content: str, **options) -> Verification:
    path = folder / "people.csv"
    path.write_text(content)
    return verify_file(path, ImportOptions(audience="-", **options))


def test_a_file_is_counted_as_an_import_would_judge_its_rows(tmp_path: Path):
    found = verified(tmp_path, FILE, region="GB")

    assert (found.file_name, found.encoding) == ("people.csv", "utf-8")
    assert (found.rows, found.refused) == (5, 2)
    assert found.reasons == {"e-mail: no @": 1, "no address": 1}
    assert [(column.column, column.role, column.how) for column in found.columns] == [
        ("Full Name", "name", "header"),
        ("E-mail", "email", "header"),
        ("Mobile", "phone", "header"),
        ("City", "attribute", ""),
    ]


def test_a_taken_row_worth_a_look_is_named(tmp_path: Path):
    warnings = verified(tmp_path, FILE, region="GB").warnings

    assert {"gmial.com → gmail.com": 2} in [warned.suggestions for warned in warnings]


def test_verifying_leaves_the_folder_as_it_was(tmp_path: Path):
    verified(tmp_path, FILE)

    assert [file.name for file in tmp_path.iterdir()] == ["people.csv"]
    assert not list(running())


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("Nick,City\nAda,London\n", {}, "its columns are: Nick, City"),
        (FILE, {"region": "XX"}, "XX is not a country code"),
        (FILE, {"columns": {"email": ["Mail"]}}, "no column 'Mail' for email"),
    ],
    ids=["no addresses", "region", "mapping"],
)
def test_a_file_that_no_import_could_use_gets_a_sentence(
    tmp_path: Path, content: str, options: dict, sentence: str
):
    with pytest.raises(InputError, match=sentence):
        verified(tmp_path, content, **options)


def test_addresses_are_judged_one_by_one_in_their_order():
    found = verify_addresses([" Ada@Example.ORG ", "a@b@c.org", "bo@gmial.com", "a@b@c.org"])

    assert [(one.given, one.email, one.reason, one.suggestion) for one in found] == [
        ("Ada@Example.ORG", "Ada@example.org", "", ""),
        ("a@b@c.org", "", "e-mail: more than one @", ""),
        ("bo@gmial.com", "bo@gmial.com", "", "gmial.com → gmail.com"),
        ("a@b@c.org", "", "e-mail: more than one @", ""),
    ]


def test_no_addresses_are_no_answers():
    assert verify_addresses([]) == []
