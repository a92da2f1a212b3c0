"""Bodies: wherever a text is cut to be encoded ahead, the reader gets the same."""

import quopri
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.campaign.bodies import Body

STRETCHES = st.builds(
    lambda unit, length, end: unit * length + end,
    st.sampled_from(["x", "=", "é", " ", "\t", ".", "ab ", "\U0001f600"]),
    st.integers(0, 170),
    st.sampled_from(["", " ", "\t", "\n", " \n", "\n\n", "\r", "\r\n", ".", "=", "--=_", "\x00", "\udfff"]),
)
TEXTS = st.lists(STRETCHES, max_size=4).map("".join)


@given(pieces=st.lists(st.tuples(TEXTS, st.booleans()), max_size=6))
@settings(max_examples=400, deadline=None)
def test_a_body_encoded_in_part_ahead_reads_like_one_encoded_at_once(pieces: list[tuple[str, bool]]):
    ahead = Body(text for text, known in pieces if known and "\r" not in text)  # Jinja2 leaves \n alone
    texts = [text for text, _ in pieces]
    meant = re.sub("[\x00\udfff]", " ", "".join(texts)).replace("\r\n", "\n").replace("\r", "\n")

    encoding, lines = ahead.encode(texts)

    assert encoding == Body([]).encode(texts)[0]
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
    body = Body([f"\n{text}\n"])

    assert body.encode(["a", f"\n{text}\n", "b"]) == Body([]).encode(["a", f"\n{text}\n", "b"])
