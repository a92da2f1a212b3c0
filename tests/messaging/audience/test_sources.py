"""Where files come from: paths, patterns, folders and what fsspec reaches."""

import os
import time
from pathlib import Path

import pytest

from messaging.audience.sources import fetched, find_files, new_files
from messaging.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    long_ago = time.time() - 60
    for name in ("b.csv", "a.csv", "c.xlsx", ".hidden.csv", "~$c.xlsx"):
        (tmp_path / name).write_text("email\nada@example.org\n")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "old").mkdir()
    return tmp_path


def test_a_pattern_names_its_files_in_order_and_each_once(folder: Path):
    assert find_files([f"{folder}/*.csv", f"{folder}/b.csv"]) == [f"{folder}/a.csv", f"{folder}/b.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path):
    file = tmp_path / "people [1].csv"
    file.write_text("email\n")

    assert find_files([str(file)]) == [str(file)]


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("nowhere.csv", "there is no file nowhere.csv"),
        ("nowhere/*.csv", "no file matches"),
        ("https://example.org/*.csv", "https:// is nothing files are read from"),
    ],
)
def test_what_names_no_file_gets_a_sentence(reference: str, sentence: str):
    with pytest.raises(InputError, match=sentence.replace("*", r"\*")):
        find_files([reference])


def test_a_watched_folder_gives_each_version_of_a_file_once(folder: Path):
    first = new_files(str(folder), "*.csv", set())
    assert [found.name for found in first] == ["a.csv", "b.csv"]

    known = {found.source for found in first}
    assert new_files(str(folder), "*.csv", known) == []

    (folder / "a.csv").write_text("email\nbo@example.org\ncy@example.org\n")
    long_ago = time.time() - 30
    os.utime(folder / "a.csv", (long_ago, long_ago))
    assert [found.name for found in new_files(str(folder), "*.csv", known)] == ["a.csv"]


def test_a_file_that_changed_just_now_waits_for_the_next_time(folder: Path):
    (folder / "a.csv").write_text("email\n")

    assert [found.name for found in new_files(str(folder), "*.csv", set())] == ["b.csv"]


def test_a_folder_that_is_not_there_gets_a_sentence(tmp_path: Path):
    with pytest.raises(InputError, match="there is no folder"):
        new_files(str(tmp_path / "nowhere"), "*", set())


def test_a_file_of_this_machine_is_read_where_it_lies(folder: Path):
    with fetched(f"{folder}/a.csv") as path:
        assert path == folder / "a.csv"


def test_a_file_elsewhere_is_copied_under_its_own_name_and_the_copy_removed(folder: Path):
    with fetched(f"file://{folder}/a.csv") as path:
        assert (path.name, path.read_bytes()) == ("a.csv", (folder / "a.csv").read_bytes())
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("file:///nowhere/people.csv", "there is no file"),
        ("gs://bucket/people.csv", "gs:// needs a package: pip install gcsfs"),
        ("http://169.254.169.254/latest", "http:// is nothing files are read from"),
    ],
)
def test_what_cannot_be_fetched_gets_a_sentence(reference: str, sentence: str):
    with pytest.raises(InputError, match=sentence), fetched(reference):
        pass
