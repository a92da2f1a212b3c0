# ruff: noqa: RUF001 - words of other scripts
import io

import pytest

from messaging.audience.files.child import read
from messaging.audience.files.encodings import BLOCK_BYTES, read_text
from messaging.audience.files.layout import Reading, ReadOptions
from messaging.errors import InputError

# Words apart from those of our tables.
SPANISH = "Name,City\nRamón Cañizares,Logroño\nÓscar Quiñones,Mérida\nBelén Ordóñez,Almería\n"
POLISH = "Name,City\nBogusława Żurawska,Świnoujście\nZdzisław Gołębiewski,Łomża\nRóża Mączyńska,Nowy Sącz\n"
RUSSIAN = "Name,City\nГеннадий Мещеряков,Пермь\nЛариса Пономарёва,Волгоград\nЖанна Ефимова,Уфа\n"
CHINESE = "Name,City\n欧阳建平,昆明\n龚雅琴,石家庄\n赖志远,哈尔滨\n"
JAPANESE = "Name,City\n堀内まゆみ,札幌市\n菅原ひろし,鹿児島\n桜井ゆうこ,熊本\n"


class Stream(io.BytesIO):
    """What cannot be read twice."""

    def seekable(self) -> bool:
        return False


def reading(content: bytes, encoding: str | None = None) -> Reading:
    return read(io.BufferedReader(io.BytesIO(content)), "people.csv", ReadOptions(encoding=encoding))


def text_of(content: bytes, encoding: str | None = None) -> str:
    found = read_text(io.BufferedReader(io.BytesIO(content)), "people.csv", encoding)
    return b"".join(found.blocks).decode()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((SPANISH, encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        *((SPANISH, encoding) for encoding in ("utf-32", "utf-32-le", "utf-32-be")),
        *((SPANISH, encoding) for encoding in ("cp1252", "iso8859-15", "mac_roman", "cp850")),
        *((POLISH, encoding) for encoding in ("cp1250", "iso8859-2", "mac_latin2", "cp852")),
        *((RUSSIAN, encoding) for encoding in ("cp1251", "koi8-r", "mac_cyrillic", "cp866", "utf-16-le")),
        *((CHINESE, encoding) for encoding in ("gb2312", "gbk", "gb18030", "utf-16-le")),
        *((JAPANESE, encoding) for encoding in ("shift_jis", "cp932", "euc_jp", "iso2022_jp", "utf-16-be")),
    ],
)
def test_the_encoding_is_told(text: str, encoding: str):
    assert text_of(text.encode(encoding)) == text


def test_spanish_is_not_taken_for_polish():
    layout = reading(SPANISH.encode("cp1252")).layout

    assert layout.encoding == "cp1252"


def test_a_guess_is_said_with_what_it_reads_and_what_else_it_may_be():
    [note] = reading("Name;E-mail\nMuñoz;m@example.org\n".encode("cp1252")).layout.notes

    assert note == (
        'people.csv is read as cp1252 (Western European), which is a guess: it gives "Muñoz"; '
        "if that is wrong, give --encoding cp1250"
    )


def test_what_is_sure_is_not_called_a_guess():
    assert reading(RUSSIAN.encode("cp1251")).layout.notes == []
    assert reading(SPANISH.encode()).layout.notes == []


def test_a_sign_far_down_is_seen():
    ascii_rows = "Ada,London\n" * (BLOCK_BYTES // 4)
    content = ("Name,City\n" + ascii_rows + "José Núñez,Logroño\n").encode("cp1252")

    *_, last = reading(content).chunks

    assert last.rows()[-1][1:] == ("José Núñez", "Logroño", None, None)


def test_a_character_that_two_blocks_share_is_whole():
    for encoding in ("utf-8", "utf-16-le", "gb18030"):
        for shift in range(4):
            text = "x" * shift + "ñ" * 10 + "\n" + "é" * BLOCK_BYTES
            assert text_of(text.encode(encoding), encoding) == text


def test_rows_in_another_encoding_than_the_rest_are_refused_and_shown():
    content = (
        "Name,City\nJosé,Logroño\nZoë,Nîmes\n".encode() + "Begoña,Mérida\n".encode("cp1252") + b"Ada,Bath\n"
    )
    found = reading(content)

    assert "rows with other bytes are refused" in found.layout.notes[0]
    assert [row for chunk in found.chunks for row in chunk.rows()] == [
        (2, "José", "Logroño", None, None),
        (3, "Zoë", "Nîmes", None, None),
        (4, "Begoña", "Mérida", None, "bytes that are no text"),
        (5, "Ada", "Bath", None, None),
    ]


def test_bytes_that_a_legacy_encoding_does_not_know_are_never_dropped():
    content = SPANISH.encode("cp1252") + b"Be\x81a,x\n"

    *_, last = reading(content, "cp1252").chunks

    assert last.rows()[-1] == (5, "Be\ufffda", "x", None, "bytes that are no text")


def test_the_encoding_that_is_given_is_taken():
    content = "Name,City\nBełżec,Łódź\n".encode("cp1250")

    assert reading(content, "Windows-1250").layout.encoding == "cp1250"
    assert next(reading(content, "cp1250").chunks).rows() == [(2, "Bełżec", "Łódź", None, None)]
    assert next(reading(content, "latin-1").chunks)["cell_0"].to_list() == ["Be³¿ec"]


@pytest.mark.parametrize(
    "encoding", ["nonsense", "base64", "rot13", "idna", "unicode_escape", "undefined", "\0"]
)
def test_an_encoding_that_is_none_is_refused(encoding: str):
    with pytest.raises(InputError, match="there is no encoding"):
        reading(b"Name,City\nAda,London\n", encoding)


@pytest.mark.parametrize(
    ("written", "given", "place"),
    [
        ("cp1252", "utf-8", "byte 14, in line 2"),
        ("cp1252", "shift_jis", "byte 1"),
        ("cp1252", "euc_kr", "byte 1"),
        ("utf-8", "utf_32", "byte 1, in line 1"),
        ("utf-8", "utf-32-be", "byte 1, in line 1"),
        ("utf-8", "utf-16", "byte 1, in line 1"),
        ("utf-8", "utf-16-be", "byte 1, in line 1"),
        ("utf-16-le", "utf-16-be", "byte 1, in line 1"),
        ("utf-16", "cp1252", "byte 1, in line 1"),
        ("utf-16", "utf_32", "byte 1, in line 1"),
        ("utf-16-le", "utf-8", "byte 27, in line 2"),
    ],
)
def test_an_encoding_that_is_not_the_files_is_refused_with_the_place_and_what_it_looks_like(
    written: str, given: str, place: str
):
    looks = "utf-16-le" if written == "utf-16" else written

    with pytest.raises(InputError, match=rf"people\.csv is not in .*{place}.* looks like {looks}\. Leave"):
        reading((SPANISH + SPANISH).encode(written), given)


@pytest.mark.parametrize("written", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_the_order_of_wide_characters_need_not_be_said(written: str):
    assert text_of(SPANISH.encode(written), written[:6]) == SPANISH


def test_a_stream_that_cannot_be_read_twice_is_looked_at_as_far_as_it_says_nothing():
    content = ("Name,City\n" + "Ada,London\n" * 1_000_000 + "Zoë Núñez,Logroño\n").encode("cp1252")

    found = read_text(io.BufferedReader(Stream(content)), "people.csv", None)

    assert b"".join(found.blocks).decode() == content.decode("cp1252")


def test_one_line_of_other_bytes_before_all_others_does_not_make_a_file_a_legacy_one():
    content = b"Name,City\nBego\xf1a,x\n" + b"Ada,London\n" * 500_000 + "Zoë,Nîmes\n".encode() * 1_000

    found = reading(content)

    assert found.layout.encoding == "utf-8"
    assert [row[0] for chunk in found.chunks for row in chunk.rows() if row[-1]] == [2]


def test_a_line_of_other_bytes_among_many_is_noted_wherever_it_stands():
    for above in (10, 1_000, 100_000):
        content = "Zoë,Nîmes\n".encode() * above + b"Bego\xf1a,x\n" + "Zoë,Nîmes\n".encode() * 1_000

        assert "rows with other bytes are refused" in reading(content, None).layout.notes[0]


def test_a_long_line_of_other_bytes_does_not_confuse():
    content = b"Name,City\n" + b"x" * 10_000 + "José Muñoz,x\n".encode("cp1252")

    assert reading(content).layout.encoding == "cp1252"
