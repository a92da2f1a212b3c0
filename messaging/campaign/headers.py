"""Header text: any value as the body of an RFC 5322 header, folded at spaces or encoded (RFC 2047)."""

import re
from binascii import b2a_base64
from typing import Final

_MAX_LINE: Final = 78  # characters of a header line, where it can be folded (RFC 5322 2.1.1)
_MAX_NAME: Final = 100  # characters of a display name: more is no name
_WORD_SIZE: Final = 39  # bytes: as base64 after "Reply-To: =?utf-8?b?" they fit RFC 2047's 76 characters
_UPPER_BITS, _GOES_ON = 0xC0, 0x80  # of a UTF-8 byte that is not the first one of its character

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]+")
_LONG_WORD = re.compile("[^ ]{900}| {900}")  # cannot be folded, only encoded
_PHRASE = re.compile(r"[A-Za-z0-9]+(?: [A-Za-z0-9]+)*")


def one_line(text: str) -> str:
    """Make header text of a value: nothing in it can end the header."""
    return (text if text.isprintable() else _CONTROL.sub(" ", text)).strip(" ")


def with_name(name: str, address: str) -> str:
    """Write `name <address>` as a header's body; without a name, the address alone."""
    name = one_line(name)[:_MAX_NAME].strip()
    if not name:
        return address
    if not name.isascii() or "=?" in name:  # that would read as an encoded word
        return f"{_encoded_words(name)}\r\n <{address}>"
    if not _PHRASE.fullmatch(name):
        name = '"' + name.replace("\\", r"\\").replace('"', r"\"") + '"'
    return _folded(f"{name} <{address}>", _MAX_LINE - len("Reply-To: "))  # the longest of these headers


def unstructured(header: str, text: str) -> str:
    """Write plain text as the body of a header of that name: folded at its spaces, or encoded."""
    if not text.isascii() or "=?" in text or _LONG_WORD.search(text):
        return _encoded_words(text)
    return _folded(text, _MAX_LINE - len(header) - len(": "))


def _folded(text: str, room: int) -> str:
    """Break text before its spaces where lines grow too long; readers take only the breaks away."""
    if len(text) <= room:
        return text
    first, *pieces = re.findall(r" *[^ ]+", text)
    lines = [first]
    for piece in pieces:
        if len(lines[-1]) + len(piece) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
            room = _MAX_LINE
    return "\r\n".join(lines)


def _encoded_words(text: str) -> str:
    """Write text as RFC 2047 words on lines of their own; readers join them without the space between."""
    encoded = text.encode()
    words = []
    start = 0
    while start < len(encoded):
        end = start + _WORD_SIZE
        while end < len(encoded) and encoded[end] & _UPPER_BITS == _GOES_ON:
            end -= 1  # a word holds whole characters (RFC 2047 5)
        words.append(f"=?utf-8?b?{b2a_base64(encoded[start:end], newline=False).decode()}?=")
        start = end
    return "\r\n ".join(words)
