"""Bodies: the text of a part as the lines that travel, plain or quoted-printable (RFC 2045 6.7).

Quoted-printable works line by line, and a soft line break may stand anywhere in a line. So the lines that a
template writes for everybody are encoded once, and per recipient only the lines with a value are; of a very
long line, only the neighbourhood of its values.
"""

import re
from binascii import b2a_qp
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

BOUNDARY_START: Final = "=_"
"""How a boundary begins: quoted-printable and base64 never hold it; a body that does is not sent plain."""

_MAX_LINE: Final = 76  # RFC 2045 6.7 (5)
_NEAR: Final = 30  # characters beside a value that are encoded with it
_LONG: Final = 4 * _NEAR  # a stretch of text longer than this is cut where no line ends
_ENDS: Final = {" ": "=20", "\t": "=09"}  # blanks that end a line are lost on the way

_UNSENDABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\ud800-\udfff]")  # NUL and the like


@dataclass(frozen=True, slots=True)
class _Cut:
    """A template's own text between two values, with all that can be encoded before they are known."""

    head: str
    """Ends the line of the value before; escaped. All of a text too short to be cut."""
    lines: str | None
    """The encoded lines that follow, or None when the text was not cut."""
    tail: str = ""
    """Begins the line of the value after; escaped."""
    broken: bool = False
    """Whether a soft line break follows the head."""


class Body:
    """Encodes one part's body for recipient after recipient."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Encode the texts that the template writes for everybody; another text is encoded when it comes."""
        clean = {text for text in texts if not _UNSENDABLE.search(text)}
        self._cuts = {text: _cut(text) for text in clean}
        self._never_plain = {text for text in clean if not _travels_plain(text)}

    def encode(self, pieces: list[str]) -> tuple[bytes, bytes]:
        """Return the transfer encoding and the lines, each ended by CRLF, of the text that the pieces make.

        Plain when all lines are short and ASCII, else quoted-printable; relays may refuse 8bit.
        """
        text = "".join(pieces)
        if "\r" in text:  # it may be half of a line end, and the other half in the next piece
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            pieces = [text]
        if self._never_plain.isdisjoint(pieces) and _travels_plain(text):
            text = "".join([piece if piece in self._cuts else _sendable(piece) for piece in pieces])
            return b"7bit", (text.removesuffix("\n") + "\n").replace("\n", "\r\n").encode()
        return b"quoted-printable", self._quoted(pieces).encode()

    def _quoted(self, pieces: list[str]) -> str:
        cuts = self._cuts
        encoded: list[str] = []
        line: list[str] = []
        for piece in pieces:
            cut = cuts.get(piece)
            if cut is None:
                line.append(_escaped(piece))
                continue
            line.append(cut.head)
            if cut.lines is not None:
                encoded += (_wrapped("".join(line), broken=cut.broken), cut.lines)
                line = [cut.tail]
        rest = "".join(line)
        if rest or not encoded:
            encoded.append(_wrapped(rest.removesuffix("\n")))
        return "".join(encoded)


def _cut(text: str) -> _Cut:
    """Cut a text at its first and its last newline, or within a long line."""
    first, last = text.find("\n"), text.rfind("\n")
    broken = (len(text) if first < 0 else first) > _LONG
    if first < 0 and not broken:
        return _Cut(_escaped(text), None)
    breaks = len(text) - last > _LONG
    head, start = (text[:_NEAR], _NEAR) if broken else (text[:first], first + 1)
    end = len(text) - _NEAR if breaks else last + 1
    lines = text[start:end] if breaks else text[start:end].removesuffix("\n")
    encoded = _wrapped(_escaped(lines), broken=breaks) if start < end else ""
    return _Cut(_escaped(head), encoded, _escaped(text[end:]), broken)


def _escaped(text: str) -> str:
    """Write what quoted-printable cannot hold as =XX; lines stay as long as they are."""
    if text.isascii() and text.isprintable() and "=" not in text:
        return text
    # The x keeps blanks at the end, which `_wrapped` knows better: a line may go on behind them.
    data = _sendable(text).encode() + b"x"
    return b2a_qp(data).replace(b"=\n", b"")[:-1].decode()


def _wrapped(text: str, *, broken: bool = False) -> str:
    """End each line of escaped text by CRLF, and break those that are long; `broken` leaves the last open."""
    if "\n" in text:
        *lines, last = text.split("\n")
        return "".join(map(_wrapped, lines)) + _wrapped(last, broken=broken)
    if text[-1:] in _ENDS and not broken:
        text = text[:-1] + _ENDS[text[-1]]
    most = _MAX_LINE - broken  # the sign of a soft line break takes a column
    lines = []
    start = 0
    while len(text) - start > most:
        end = start + _MAX_LINE - 1
        if text[end - 1] == "=":
            end -= 1
        elif text[end - 2] == "=":
            end -= 2
        lines.append(text[start:end])
        start = end
    lines.append(text[start:])
    return "=\r\n".join(lines) + ("=\r\n" if broken else "\r\n")


def _sendable(text: str) -> str:
    """Replace what no mail may hold by blanks."""
    return text if text.isprintable() else _UNSENDABLE.sub(" ", text)


def _travels_plain(text: str) -> bool:
    return text.isascii() and BOUNDARY_START not in text and max(map(len, text.split("\n"))) <= _MAX_LINE
