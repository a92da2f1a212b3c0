"""Bodies: the text of a part as the lines that travel, plain or quoted-printable (RFC 2045 6.7).

Quoted-printable works line by line, and a soft line break may stand anywhere in a line. So what a template
says is encoded once for all contacts to whom it says the same, with soft line breaks around the values that
stand in long lines, and per recipient only the short lines with a value are put together.
"""

import re
from binascii import b2a_qp
from collections.abc import Sequence
from typing import Final, NamedTuple

from messaging.campaign.pieces import Pieces

BOUNDARY_START: Final = "=_"
"""How a boundary begins: quoted-printable and base64 never hold it; a body that does is not sent plain."""

_MAX_LINE: Final = 76  # RFC 2045 6.7 (5)
_TWO_LINES: Final = 2 * _MAX_LINE - 4  # characters that one soft line break makes room for in any case
_LONG: Final = 24  # text beside a value longer than this is cut where no line ends, to leave the value room
_NEAR: Final = 5  # characters of it that stay in the line of the value
_MAX_OUTLINES: Final = 500  # remembered: conditions can make as many of a template as there are contacts
_ONE_VALUE: Final = (None,)  # the texts of a body of nothing else
_END: Final = "\r\n"
_BREAK: Final = "=\r\n"
_ENDS: Final = {" ": "=20", "\t": "=09"}  # blanks that end a line are lost on the way

_UNSENDABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\ud800-\udfff]")  # NUL and the like


class _Line(NamedTuple):
    """A line with one value; the next value has another line, as a soft line break goes between them."""

    before: str
    after: str
    broken: bool
    """Whether a soft line break ends it."""
    rest: str
    """Its end, and the encoded lines up to the one with the next value."""


class _Outline:
    """What a template says around its values, encoded."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Encode these texts; between each two of them is a value."""
        self.may_be_plain = all(map(_travels_plain, texts))
        self._texts = [""] * (2 * len(texts) - 1)
        self._texts[::2] = texts
        first, *others = texts
        self._lines: list[_Line] = []
        self._first, before = _ahead(first if others else _ended(first))
        ending = others.pop() if others else None
        for text in others:
            before = self._close(before, text)
        self._last = before if ending == "" else None  # it stands before the value that ends the text
        self.ends_with_value = self._last is not None
        if ending:
            self._close(before, _ended(ending))

    def filled(self, values: list[str]) -> str:
        """Return the text with these values."""
        texts = self._texts.copy()
        texts[1::2] = values
        return "".join(texts)

    def quoted(self, values: list[str]) -> str:
        """Return the quoted-printable lines with these values, which are escaped already."""
        encoded = [self._first]
        for (before, after, broken, rest), value in zip(self._lines, values, strict=False):
            line = before + value + after
            size = len(line)
            if size < _MAX_LINE and line.isprintable() and (line[-1:] > " " or broken):
                encoded += (line, rest)
            elif _MAX_LINE < size <= _TWO_LINES and broken and "\n" not in line:
                end = _cut(line, 0)
                encoded += (line[:end], _BREAK, line[end:], rest)
            else:
                encoded += (_wrapped(line, broken=broken), rest)
        if self._last is not None:
            encoded += (_wrapped((self._last + values[-1]).removesuffix("\n")), _END)
        return "".join(encoded)

    def _close(self, before: str, text: str) -> str:
        """End a line with a value in the text behind it; return what begins the next one."""
        end = text.find("\n")
        broken = end < 0 or end > _LONG
        if broken:
            end = len(text) if len(text) <= _LONG else _NEAR
        ahead, tail = _ahead(text[end if broken else end + 1 :])
        self._lines.append(_Line(before, _escaped(text[:end]), broken, (_BREAK if broken else _END) + ahead))
        return tail


class Body:
    """Encodes one part's body for recipient after recipient."""

    def __init__(self) -> None:
        """Begin without an outline: the first message makes it."""
        self._outlines: dict[tuple[str | None, ...], _Outline] = {}

    def encode(self, pieces: Pieces) -> tuple[bytes, bytes]:
        """Return the transfer encoding and the lines, each ended by CRLF, of the text that the pieces make.

        Plain when all lines are short and ASCII, else quoted-printable; relays may refuse 8bit.
        """
        texts, values = pieces
        together = "".join(values)
        printable = together.isprintable()
        if not printable:
            if "\r" in together:  # it may be half of a line end, and the other half in the next piece
                return self._at_once(pieces.joined().replace("\r\n", "\n").replace("\r", "\n"))
            values = [_sendable(value) for value in values]
        outline = self._outlines.get(texts) or self._learn(texts)
        if outline.may_be_plain and _travels_plain(text := outline.filled(values)):
            return b"7bit", _ended(text).replace("\n", _END).encode()
        if outline.ends_with_value and not values[-1] and texts != _ONE_VALUE:
            return self._at_once(pieces.joined())  # what comes before may have ended the last line
        if not (printable and together.isascii() and "=" not in together):
            values = [_escaped(value) for value in values]
        return b"quoted-printable", outline.quoted(values).encode()

    def _at_once(self, text: str) -> tuple[bytes, bytes]:
        return self.encode(Pieces(_ONE_VALUE, [text]))

    def _learn(self, texts: tuple[str | None, ...]) -> _Outline:
        joined = [""]
        for text in texts:
            if text is None:
                joined.append("")
            else:
                joined[-1] += _sendable(text)
        if len(self._outlines) >= _MAX_OUTLINES:
            self._outlines.clear()
        self._outlines[texts] = outline = _Outline(joined)
        return outline


def _ended(text: str) -> str:
    """End the last line of a text that may have no end there."""
    return text if text.endswith("\n") else f"{text}\n"


def _ahead(text: str) -> tuple[str, str]:
    """Encode all but the beginning of the line that a value ends: return it and that beginning, escaped."""
    start = text.rfind("\n") + 1
    if len(text) - start > _LONG:
        return _wrapped(_escaped(text[:-_NEAR]), broken=True) + _BREAK, _escaped(text[-_NEAR:])
    return _wrapped(_escaped(text[: start - 1])) + _END if start else "", _escaped(text[start:])


def _escaped(text: str) -> str:
    """Write what quoted-printable cannot hold as =XX; lines stay as long as they are."""
    if text.isascii() and text.isprintable() and "=" not in text:
        return text
    # The x keeps blanks at the end, which `_wrapped` knows better: a line may go on behind them.
    data = _sendable(text).encode() + b"x"
    return b2a_qp(data).replace(b"=\n", b"")[:-1].decode()


def _wrapped(text: str, *, broken: bool = False) -> str:
    """Break lines of escaped text that are long; `broken` says that the last line will be broken behind."""
    if "\n" in text:
        *lines, last = text.split("\n")
        return _END.join([*map(_wrapped, lines), _wrapped(last, broken=broken)])
    if text[-1:] in _ENDS and not broken:
        text = text[:-1] + _ENDS[text[-1]]
    most = _MAX_LINE - broken  # the sign of a soft line break takes a column
    lines = []
    start = 0
    while len(text) - start > most:
        end = _cut(text, start)
        lines.append(text[start:end])
        start = end
    lines.append(text[start:])
    return _BREAK.join(lines)


def _cut(text: str, start: int) -> int:
    """Return where a line that begins there can be broken at the latest, outside what stands for a byte."""
    end = start + _MAX_LINE - 1
    return end - 1 if text[end - 1] == "=" else end - 2 if text[end - 2] == "=" else end


def _sendable(text: str) -> str:
    """Replace what no mail may hold by blanks."""
    return text if text.isprintable() else _UNSENDABLE.sub(" ", text)


def _travels_plain(text: str) -> bool:
    return text.isascii() and BOUNDARY_START not in text and max(map(len, text.split("\n"))) <= _MAX_LINE
