import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from messaging.audience.files import opening
from messaging.audience.files.layout import Reading, ReadOptions
from messaging.audience.files.opening import open_file
from messaging.errors import InputError

PEOPLE = b"Name,E-mail\nAda,ada@example.org\nBob,bob@example.org\n"


@pytest.fixture
def a_file(tmp_path: Path):
    def write(content: bytes, name: str = "people.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def a_large_file(a_file) -> Path:
    """More than the pipe and the child's first block hold, so that the child is still at work."""
    return a_file(b"Name,E-mail\n" + b"Ada Lovelace,ada@example.org\n" * 1_500_000)


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert children() == []


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [child for child in found if any("files.child" in part for part in child.cmdline())]


def rows(path: Path, options: ReadOptions = ReadOptions()) -> list[tuple]:  # noqa: B008 - frozen
    with open_file(path, options) as reading:
        return [row for chunk in reading.chunks for row in chunk.rows()]


def test_a_file_is_read(a_file):
    with open_file(a_file(PEOPLE)) as reading:
        assert isinstance(reading, Reading)
        assert reading.layout.header == ["Name", "E-mail"]
        found = [row for chunk in reading.chunks for row in chunk.rows()]
        assert reading.share() == 1

    assert found == [(2, "Ada", "ada@example.org", None, None), (3, "Bob", "bob@example.org", None, None)]


def test_a_large_file_comes_in_chunks_and_says_how_far_it_is(a_large_file: Path):
    with open_file(a_large_file) as reading:
        assert len(children()) == 1
        shares = [(chunk.height, reading.share()) for chunk in reading.chunks]

    assert sum(height for height, _ in shares) == 1_500_000
    assert 0 < shares[0][1] < 1
    assert shares[-1][1] == 1


def test_options_reach_the_reader(a_file):
    path = a_file("Name\nŁódź\n".encode("cp1250"))

    assert rows(path, ReadOptions(encoding="cp1250")) == [(2, "Łódź", None, None)]


def test_a_link_to_a_file_is_followed(a_file, tmp_path: Path):
    link = tmp_path / "latest.csv"
    link.symlink_to(a_file(PEOPLE))

    assert len(rows(link)) == 2


def test_a_path_that_is_no_file_says_so(a_file, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone.csv")
    for name, says in {
        "none.csv": r"there is no file .*none\.csv: check the path",
        "nowhere": "there is no file",
        "people\0.csv": "there is no file",
        ".": "is a folder: name a file in it",
        "pipe": "is not a file",
        "loop": "cannot be read",
        "n" * 300: "cannot be read",
    }.items():
        with pytest.raises(InputError, match=says):
            rows(tmp_path / name)
    with pytest.raises(InputError, match="there is no file"):
        rows(a_file(PEOPLE) / "people.csv")
    with pytest.raises(InputError, match="is not a file"):
        rows(Path("/dev/zero"))
    with pytest.raises(InputError, match=r"people\.csv is empty"):
        rows(a_file(b""))


@pytest.fixture
def nobody_in_particular() -> Iterator[None]:
    """Be another user than root, who may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_a_file_that_may_not_be_read_says_so(a_file, request: pytest.FixtureRequest):
    path = a_file(PEOPLE)
    path.chmod(0)
    request.getfixturevalue("nobody_in_particular")

    with pytest.raises(InputError, match="check its permissions"):
        rows(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Name,E-mail\n", "people.csv has a header but no rows"),
        (b"<!doctype html><table><tr><td>ada@example.org", "people.csv is a web page"),
        (b"\n <html>\n", "people.csv is a web page"),
        (b'<TABLE border="1">', "people.csv is a web page"),
        (b'[{"email": "ada@example.org"}]', "people.csv is JSON"),
        (b'{"email": "ada@example.org"}\n{"email": "bob@example.org"}\n', "people.csv is JSON"),
        ('<?xml version="1.0"?><Workbook/>'.encode("utf-16"), "people.csv is XML"),
        (b"%PDF-1.7\n", "people.csv is a PDF"),
        (b"\x89PNG\r\n\x1a\n", "people.csv is a picture"),
        (b"SQLite format 3\0", "people.csv is an SQLite database"),
        (b"MZ\x90\0", "people.csv is a program"),
        (bytes(range(256)) * 100, "people.csv holds bytes that are no text"),
        (b"\0" * 10_000, "people.csv holds bytes that are no text"),
    ],
)
def test_a_file_that_is_no_list_says_what_it_is(a_file, content: bytes, says: str):
    with pytest.raises(InputError, match=says) as raised:
        rows(a_file(content))

    assert "@" not in str(raised.value)


def test_the_name_of_a_file_does_not_break_the_sentence(a_file):
    with pytest.raises(InputError, match=r"pe\ufffdop\?le\.csv has a header but no rows"):
        rows(a_file(b"Name,E-mail\n", os.fsdecode(b"pe\nop\xffle.csv")))


def test_whoever_stops_early_leaves_no_process(a_large_file: Path):
    with open_file(a_large_file) as reading:
        next(reading.chunks)
        [child] = children()

    assert not child.is_running()


def test_whoever_fails_leaves_no_process(a_large_file: Path):
    with pytest.raises(ZeroDivisionError), open_file(a_large_file) as reading:
        next(reading.chunks)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGKILL, r"people\.csv needs more than a gigabyte"),
        (signal.SIGABRT, r"people\.csv needs more than a gigabyte"),
        (signal.SIGSEGV, r"the reader of people\.csv crashed"),
    ],
)
def test_a_reader_that_dies_is_an_error_with_a_sentence(a_large_file: Path, number: int, says: str):
    with open_file(a_large_file) as reading:
        next(reading.chunks)
        children()[0].send_signal(number)
        with pytest.raises(
            InputError, match=rf"people\.csv.*{says}|{says}.*|the reader of people\.csv {says}"
        ):
            list(reading.chunks)


def test_a_reader_that_hangs_is_stopped(a_large_file: Path, monkeypatch: pytest.MonkeyPatch):
    with open_file(a_large_file) as reading:
        monkeypatch.setattr(opening, "LONGEST_WAIT", 0.2)
        children()[0].suspend()
        with pytest.raises(InputError, match=r"people\.csv takes too long to read"):
            list(reading.chunks)


HOLDER = """
import sys, time
from pathlib import Path
from messaging.audience.files.opening import open_file

with open_file(Path(sys.argv[1])) as reading:
    next(reading.chunks)
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_reader_ends_with_the_process_that_asked_for_it(a_large_file: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(a_large_file)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"open\n"
        [child] = psutil.Process(holder.pid).children()
        holder.kill()

    child.wait(10)
    assert not child.is_running()


GREEDY = """
import sys
from messaging.audience.files import bounds

bounds.bound_process()
{}
held = []
while True:
    held.append(bytearray(50 << 20))
    print(len(held), flush=True)
"""


@pytest.mark.parametrize(
    ("allowed", "least", "most"), [("", 900, 1_024), ("bounds.allow_large_sheet()", 1_900, 2_048)]
)
def test_the_reader_has_a_gigabyte_and_for_a_full_sheet_another(allowed: str, least: int, most: int):
    code = GREEDY.format(allowed)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)

    assert b"MemoryError" in done.stderr
    assert least < 50 * int(done.stdout.split()[-1]) <= most
