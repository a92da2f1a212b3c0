"""Headers, parts and text of a mail, and the bounds of what is read."""

import pytest

from messaging.feedback.mail import MAX_BYTES, MAX_PARTS, Headers, Mail, decoded_words, plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"folded\n  over lines", "folded over lines"),
        (b"=?utf-8?B?w6nDqQ==?= =?utf-8?Q?_=C3=A9?=", "\xe9\xe9 \xe9"),
        (b"=?utf-8?B?w6k=?= and =?iso-8859-1?q?=E9?=", "\xe9 and \xe9"),
        (b"=?no-such?Q?=41?= x", "A x"),
        ("caf\xe9".encode(), "caf\xe9"),
        ("caf\xe9".encode("latin-1"), "caf\xe9"),
        (b"=?utf-8?B?5pel?==?utf-8?B?5pys?=", "\u65e5\u672c"),
    ],
)
def test_words_of_a_header_are_decoded(value: bytes, text: str):
    assert decoded_words(value) == text


def test_letters_cut_in_two_by_encoded_words_are_whole_again():
    assert decoded_words(b"=?utf-8?B?5g==?= =?utf-8?B?l6U=?=") == "\u65e5"


def test_a_report_ends_where_the_returned_message_begins():
    mail = Mail(
        b"Content-Type: multipart/mixed; boundary=B\n\npreamble\n--B\n\nThe report.\n"
        b"--B\nContent-Type: message/rfc822\n\nSubject: x\n\nOurs.\n--B\n\nAfter.\n--B--\n"
    )

    assert (mail.report.strip(), mail.returned.strip()) == ("The report.", b"Subject: x\n\nOurs.")


def test_a_boundary_that_begins_another_is_told_apart():
    mail = Mail(
        b"Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: multipart/mixed; boundary=BB\n\n"
        b"--BB\n\none\n--BB\n\ntwo\n--BB--\n--B\n\nthree\n--B--\n"
    )

    assert mail.report.split() == ["one", "two", "three"]


def test_parts_without_an_end_and_without_headers_are_read():
    assert Mail(b"Content-Type: multipart/mixed; boundary=B\n\n--B\n\nno end").report.strip() == "no end"
    assert Mail(b"Content-Type: multipart/mixed; boundary=X\n\nno parts").report == "no parts"


def test_html_is_read_where_there_is_no_text():
    mail = Mail(b"Content-Type: text/html\n\n<style>p {}</style><p>Not &lt;here&gt;</p>to <joe@corp.example>")

    assert mail.report.split() == ["Not", "<here>", "to", "<joe@corp.example>"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("base64", b"VW5rbm93biB1c2Vy"), ("quoted-printable", b"Unknown=20us=\ner"), ("x-own", b"Unknown user")],
)
def test_a_transfer_encoding_is_undone(encoding: str, body: bytes):
    assert Mail(f"Content-Transfer-Encoding: {encoding}\n\n".encode() + body).report == "Unknown user"


@pytest.mark.parametrize("body", [b"VW5rb", b"VW5r\xff\xfe!b", b"V", b""])
def test_broken_base64_is_read_as_far_as_it_goes(body: bytes):
    assert Mail(b"Content-Transfer-Encoding: base64\n\n" + body).report in {"Unk", "Unkn", "Un\ufffd", ""}


@pytest.mark.parametrize(
    "charset", ["iso-2022-jp", "shift_jis", "euc-jp", "utf-16le", "unicode-1-1-utf-7", "zip", ""]
)
def test_any_charset_gives_text(charset: str):
    assert isinstance(
        Mail(f"Content-Type: text/plain; charset={charset}\n\n".encode() + b"\x1b$B\xff+A").report, str
    )


def test_a_charset_is_used():
    body = "\u5b9b\u5148\u4e0d\u660e".encode("iso-2022-jp")

    assert (
        Mail(b"Content-Type: text/plain; charset=ISO-2022-JP\n\n" + body).report == "\u5b9b\u5148\u4e0d\u660e"
    )


def test_what_is_beyond_the_bounds_is_left_and_said():
    big = Mail(b"Subject: x\n\n" + b"a" * MAX_BYTES)
    many = Mail(
        b"Content-Type: multipart/mixed; boundary=B\n\n" + b"--B\n\nx\n" * (MAX_PARTS + 5) + b"--B--\n"
    )
    deep = b"end"
    for number in range(30):
        deep = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%b\n--b%d--\n" % (
            number,
            number,
            deep,
            number,
        )
    nested = Mail(deep)

    assert (len(big.source), len(many.parts), nested.parts) == (MAX_BYTES, MAX_PARTS, [])
    assert big.notes == ["only the first 1,048,576 of 1,048,588 bytes were read"]
    assert many.notes == ["parts after the first 200 were not read"]
    assert nested.notes == ["parts nested deeper than 10 were not read"]


def test_comments_and_styles_without_an_end_take_the_rest():
    assert plain("before <!-- comment") == "before "


def test_headers_are_found_by_name_and_parameters_by_theirs():
    headers = Headers(
        b'From somebody Mon\nX: 1\nx: 2\nContent-Type: Text/PLAIN;\n charset="utf-8"; Format=flowed'
    )

    assert headers.raw(b"x") == [b"1", b"2"]
    assert (headers.kind, headers.parameter(b"charset"), headers.parameter(b"format")) == (
        "text/plain",
        b"utf-8",
        b"flowed",
    )
