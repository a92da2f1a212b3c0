"""Bodies: wherever a text is cut to be encoded ahead, the reader gets the same."""

import quopri
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.campaign.bodies import Body
from messaging.campaign.pieces import Pieces

STRETCHES = st.builds(
    lambda unit, length, end: unit * length + end,
    st.sampled_from(["x", "=", "é", " ", "\t", ".", "ab ", "\U0001f600"]),
    st.integers(0, 170),
    st.sampled_from(["", " ", "\t", "\n", " \n", "\n\n", "\r", "\r\n", ".", "=", "--=_", "\x00", "\udfff"]),
)
TEXTS = st.lists(STRETCHES, max_size=4).map("".join)


def pieces_of(pieces: list[tuple[str, bool]]) -> Pieces:
    """Make pieces of texts and whether they are the template's."""
    texts = tuple(text if known else None for text, known in pieces)
    return Pieces(texts, [text for text, known in pieces if not known])


@given(pieces=st.lists(st.tuples(TEXTS, st.booleans()), max_size=6))
@settings(max_examples=400, deadline=None)
def test_a_body_encoded_in_part_ahead_reads_like_one_encoded_at_once(pieces: list[tuple[str, bool]]):
    pieces = [(text, known and "\r" not in text) for text, known in pieces]  # Jinja2 leaves \n alone
    text = "".join(text for text, _ in pieces)
    meant = re.sub("[\x00\udfff]", " ", text).replace("\r\n", "\n").replace("\r", "\n")

    encoding, lines = Body().encode(pieces_of(pieces))

    assert encoding == Body().encode(pieces_of([(text, False)]))[0]
    assert lines.endswith(b"\r\n")
    assert max(map(len, lines.split(b"\r\n"))) <= 76
    assert b"--=_" not in lines
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", lines) is None
    if encoding == b"quoted-printable":
        assert re.search(rb"[ \t]\r\n|=(?![0-9A-F]{2}|\r\n)|[^\t\r\n -~]", lines) is None
        lines = quopri.decodestring(lines)
    assert lines.decode().replace("\r\n", "\n") == meant.removesuffix("\n") + "\n"


@given(TEXTS.filter(lambda text: "\r" not in text))
@settings(max_examples=100, deadline=None)
def test_a_line_without_a_value_is_encoded_the_same_ahead(text: str):
    ahead = pieces_of([("a", False), (f"\n{text}\n", True), ("b", False)])

    assert Body().encode(ahead) == Body().encode(pieces_of([(f"a\n{text}\nb", False)]))


@given(pieces=st.lists(st.tuples(TEXTS, st.booleans()), max_size=4), others=st.lists(TEXTS, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_was_encoded_for_one_contact_changes_nothing_for_the_next(
    pieces: list[tuple[str, bool]], others: list[str]
):
    body = Body()
    replaced = iter(others)
    before = [(text if known else next(replaced, ""), known) for text, known in pieces]

    body.encode(pieces_of(before))

    assert body.encode(pieces_of(pieces)) == Body().encode(pieces_of(pieces))


def test_ever_new_outlines_do_not_fill_the_memory():
    body = Body()

    for number in range(2_000):
        assert body.encode(Pieces((f"é {number} ", None), ["x"]))[1] == f"=C3=A9 {number} x\r\n".encode()

    assert len(body._outlines) <= 500  # noqa: SLF001 - what else grows cannot be seen
