import gzip
import io
import random
import zipfile

import pytest
from openpyxl import Workbook

from messaging.audience.files.child import read
from messaging.audience.files.layout import Reading, ReadOptions
from messaging.errors import InputError

PEOPLE = b"Name,E-mail\nAda,ada@example.org\n"


def reading(content: bytes, name: str) -> Reading:
    return read(io.BufferedReader(io.BytesIO(content)), name, ReadOptions())


def rows(content: bytes, name: str) -> list[tuple]:
    return [row for chunk in reading(content, name).chunks for row in chunk.rows()]


def a_zip(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


def named(value: object) -> str:
    """Name a test by its words: archives hold the time, and each process would have tests of its own."""
    return value if isinstance(value, str) else "archive"


def many_people() -> bytes:
    chance = random.Random(1)  # noqa: S311 - the same file every time is the point
    return b"Name,E-mail\n" + b"".join(
        b"Ada %d,ada%d@example.org\n" % (chance.randrange(10**9), row) for row in range(50_000)
    )


@pytest.mark.parametrize(
    ("content", "packing"),
    [
        (gzip.compress(PEOPLE), "gzip"),
        (gzip.compress(PEOPLE[:20]) + gzip.compress(PEOPLE[20:]), "gzip"),
        (a_zip(("people.csv", PEOPLE)), "zip"),
        (a_zip(("../../etc/passwd", PEOPLE), ("__MACOSX/._people.csv", b"\0"), ("folder/", b"")), "zip"),
    ],
    ids=named,
)
def test_what_is_packed_is_read_whatever_it_is_called(content: bytes, packing: str):
    assert rows(content, "people.csv") == [(2, "Ada", "ada@example.org", None, None)]
    assert reading(content, "people.csv").layout.format == f"CSV, cells separated by commas, in {packing}"


def test_a_large_packed_file_is_read_to_its_end():
    people = many_people()

    assert len(rows(gzip.compress(people), "people.csv.gz")) == 50_000
    assert len(rows(a_zip(("people.csv", people)), "people.zip")) == 50_000


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: a_zip(("people.csv", content))])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_packed_file_that_is_cut_off_is_refused(pack, share: float):
    content = pack(many_people())

    with pytest.raises(InputError, match="is cut off or damaged"):
        rows(content[: int(share * len(content))], "people.csv.gz")


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: a_zip(("people.csv", content))])
def test_a_packed_file_with_a_wrong_byte_is_refused(pack):
    content = bytearray(pack(many_people()))
    content[len(content) // 2] ^= 0xFF

    with pytest.raises(InputError, match="is cut off or damaged"):
        rows(bytes(content), "people.csv.gz")


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: a_zip(("people.csv", content))])
def test_a_bomb_is_stopped_while_it_unpacks(pack):
    bomb = pack(b"a,b\n" * 50_000_000)

    taken = 0
    with pytest.raises(InputError, match="unpacks to far more than a list of contacts"):
        for chunk in reading(bomb, "people.csv.gz").chunks:
            taken += chunk.height

    assert taken < 20_000_000


def test_a_zip_that_lies_about_its_size_is_counted_all_the_same():
    bomb = bytearray(a_zip(("people.csv", b"a,b\n" * 50_000_000)))
    size = (200_000_000).to_bytes(4, "little")
    for place in [place for place in range(len(bomb)) if bomb[place : place + 4] == size]:
        bomb[place : place + 4] = (1_000).to_bytes(4, "little")

    with pytest.raises(InputError):
        rows(bytes(bomb), "people.zip")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(gzip.compress(PEOPLE)), "archive within an archive"),
        (gzip.compress(a_zip(("people.csv", PEOPLE))), "archive within an archive"),
        (a_zip(("people.csv.gz", gzip.compress(PEOPLE))), "archive within an archive"),
        (a_zip(("people.zip", a_zip(("people.csv", PEOPLE)))), "archive within an archive"),
        (a_zip(("a.csv", PEOPLE), ("b.csv", PEOPLE)), "holds 2 files"),
        (a_zip(), "holds no file"),
        (a_zip(*((f"{number}.csv", b"") for number in range(1_001))), "holds more than 1,000 files"),
        (a_zip(("word/document.xml", b"")), "is a Word document"),
        (a_zip(("Index/Document.iwa", b"")), "is an Apple Numbers or Pages document"),
    ],
    ids=named,
)
def test_an_archive_that_is_no_list_says_what_to_do(content: bytes, says: str):
    with pytest.raises(InputError, match=says):
        rows(content, "people.zip")


def test_a_zip_with_a_password_is_refused():
    content = bytearray(a_zip(("people.csv", PEOPLE)))
    content[6] |= 1  # the flag in the file's own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory

    with pytest.raises(InputError, match="protected by a password"):
        rows(bytes(content), "people.zip")


def test_a_workbook_in_gzip_is_read(tmp_path):
    workbook = Workbook()
    workbook.active.append(["Name", "E-mail"])
    workbook.active.append(["Ada", "ada@example.org"])
    workbook.save(tmp_path / "people.xlsx")

    content = gzip.compress((tmp_path / "people.xlsx").read_bytes())

    assert rows(content, "people.xlsx.gz") == [(2, "Ada", "ada@example.org", None, None)]
