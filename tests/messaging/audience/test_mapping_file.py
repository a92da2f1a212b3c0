"""The mapping kept beside a contacts file."""

import os
from pathlib import Path

import pytest

from messaging.audience.columns import ROLES
from messaging.audience.mapping_file import check_place, load_mapping, mapping_of, save_mapping
from messaging.errors import InputError

ODD = ['"; DROP', "__class__", "😀", "yes", "1", "null", "2024-05-01", "a: b", "# no", "- x", "Año\u2028fin"]
ODD += ["{{ x }}", "&a", "*a", "!!python/object:os.system", "~", "0x1F", "1e3", "correo " * 30 + "x"]


@pytest.mark.parametrize(
    ("file", "beside"),
    [
        ("people.csv", "people.columns.yaml"),
        ("people", "people.columns.yaml"),
        ("new people.v2.xlsx", "new people.v2.columns.yaml"),
    ],
)
def test_a_mapping_stands_beside_its_file(file: str, beside: str):
    assert mapping_of(f"folder/{file}") == Path("folder") / beside


@pytest.mark.parametrize(
    "file", ["s3://bucket/exports/people.csv", "block:local-file-system/exports/people.csv"]
)
def test_the_mapping_of_a_file_elsewhere_stands_in_the_current_folder(file: str):
    assert mapping_of(file) == Path("people.columns.yaml")


def test_a_place_that_cannot_be_written_is_told_beforehand(tmp_path: Path):
    check_place(tmp_path / "people.columns.yaml")
    with pytest.raises(InputError, match="may not be written: leave --save-map out"):
        check_place(tmp_path / "missing" / "people.columns.yaml")


def test_what_was_saved_is_loaded_whatever_the_columns_are_called(tmp_path: Path):
    path = tmp_path / "people.columns.yaml"
    roles = {"email": list(range(10)), "phone": list(range(10, len(ODD) - 1)), "name": [len(ODD) - 1]}

    save_mapping(path, {role: [ODD[place] for place in places] for role, places in roles.items()})

    assert load_mapping(path) == {role: [ODD[place] for place in places] for role, places in roles.items()}


def test_a_saved_mapping_can_be_read_and_mended_by_a_person(tmp_path: Path):
    path = tmp_path / "people.columns.yaml"

    save_mapping(path, {"email": ["Correo"], "phone": ["Móvil", "Fijo"]})

    comment, *lines = path.read_text(encoding="utf-8").splitlines()
    assert comment.startswith("# ")
    assert lines == ["email: [Correo]", "phone: [Móvil, Fijo]"]


def test_one_column_needs_no_list(tmp_path: Path):
    path = tmp_path / "people.columns.yaml"
    path.write_text("\ufeffemail: Correo\n", encoding="utf-8")

    assert load_mapping(path) == {"email": ["Correo"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "people.yaml: is empty"),
        ("- email", "people.yaml: must hold fields and values"),
        ("post: [Correo]", "people.yaml: a column cannot be read as 'post': choose from email, phone"),
        ("email: [1]", "people.yaml: email must name columns; put names such as 'yes' or '1' in quotes"),
        ("email: yes", "in quotes"),
        ("email: []", "email must name columns"),
        ("email: {a: b}", "email must name columns"),
        ("phone: [a]\nemail: [a", "people.yaml: line 2: is not YAML"),
        ("email: !!python/object/apply:os.getcwd []", "people.yaml: line 1: is not YAML"),
        ("email: 2024-99-99", "people.yaml: is not YAML that can be read"),
        ("[" * 5_000, "people.yaml: is not YAML that can be read"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nemail: [*b, *b]", "people.yaml: a column cannot be read as 'a'"),
        ("email: \x07", "people.yaml: line 1: is not YAML"),
        ("# " + "x" * 1_000_000, "people.yaml: is larger than 1,000,000 characters"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_what_is_wrong(tmp_path: Path, content: str, says: str):
    path = tmp_path / "people.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=says.replace("[", r"\[")):
        load_mapping(path)


def test_a_mapping_in_another_encoding_is_refused(tmp_path: Path):
    path = tmp_path / "people.yaml"
    path.write_bytes("email: [Dirección]".encode("latin-1"))

    with pytest.raises(InputError, match=r"people.yaml: line 1 is not UTF-8"):
        load_mapping(path)


def test_neither_folders_nor_pipes_are_read(tmp_path: Path):
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)

    for path in (tmp_path, pipe, tmp_path / "missing.yaml"):
        with pytest.raises(InputError, match=r"is a folder|no such file"):
            load_mapping(path)


def test_a_mapping_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be written"):
        save_mapping(tmp_path / "missing" / "people.yaml", {"email": ["a"]})


def test_every_role_can_be_kept(tmp_path: Path):
    path = tmp_path / "people.yaml"

    save_mapping(path, {role: [role] for role in ROLES})

    assert load_mapping(path) == {role: [role] for role in ROLES}
