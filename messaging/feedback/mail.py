"""Read a mail's headers and parts from its bytes: lazily, within bounds, whatever the bytes are.

The `email` package is not used: it spends most of its time on what a report of a bounce does not need, and
some of its answers depend on how well formed a message is (RFC 5322, RFC 2045 and 2046 say what that means).
"""

import binascii
import codecs
import re
from dataclasses import dataclass
from functools import cached_property
from html import unescape

MAX_BYTES = 1 << 20
"""What is read of a mail: a report comes before what it returns, and is far smaller."""

MAX_PARTS = 200
MAX_DEPTH = 10
MAX_TEXT = 1 << 17
"""Bytes read of one part; the longest report seen has a tenth of it."""

_MAX_HEADERS = 1 << 17
_RETURNED = (
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "message/global",
    "message/global-headers",
)

_FIELD = re.compile(rb"^([!-9;-~]{1,76})[ \t]?:[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)
_FIRST_FIELD = re.compile(rb"[!-9;-~]{1,76}:")
_TYPE = re.compile(rb"\s*([\w.+-]{1,80}/[\w.+-]{1,80})")
_PARAMETER = re.compile(rb';\s*([\w-]{1,40})\*?\s*=\s*(?:"([^"\n]{0,300})"|([^\s;"]{1,300}))')
_WORD = re.compile(rb"=\?([\w.:+-]{1,40})(?:\*[\w-]{0,20})?\?([bBqQ])\?([^?\n]{0,4000})\?=")
_CHARSET = re.compile(
    r"utf[-_]?(7|8|16|16-?[lb]e|32)|us-ascii|ascii|iso-?8859-?\d{1,2}(-[ei])?|iso-2022-\w{2,5}|windows-\d{3,4}"
    r"|cp-?\d{3,4}|koi8-[rut]|gb(2312|k|18030)|big5(-?hkscs)?|euc-?(jp|kr|cn)|shift[-_]?jis|sjis|ks_c_5601-1987"
    r"|tis-620|macintosh|mac-?roman|latin-?\d"
)
_OTHER_NAMES = {
    "unicode-1-1-utf-7": "utf-7",
    "iso-8859-8-i": "iso-8859-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}

_IGNORED_HTML = (("<style", "</style>"), ("<script", "</script>"), ("<!--", "-->"))
_LINE_IN_HTML = re.compile(
    r"<(?:br|/p|/div|/tr|/h\d|/li|li|/table|hr|/pre|/td)\b[^<>]{0,2000}>", re.IGNORECASE
)
_TAG = re.compile(r"</?[A-Za-z!?](?![^<>\s]*@)[^<>]{0,4000}>")


def decoded(content: bytes, charset: str = "") -> str:
    """Return text in a charset a mail names: an unknown or wrong one falls back to UTF-8, then Latin-1."""
    name = charset.lower()
    name = _OTHER_NAMES.get(name, name)
    if name not in {"", "us-ascii", "ascii", "utf-8"} and _CHARSET.fullmatch(name):
        try:
            codecs.lookup(name)
            return content.decode(name, "strict" if name == "utf-7" else "replace")
        except (LookupError, UnicodeDecodeError):
            pass
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace") if name == "utf-8" else content.decode("latin-1")


def decoded_words(value: bytes) -> str:
    """Return a header's value on one line with its encoded words decoded (RFC 2047)."""
    if b"=?" not in value:
        return " ".join(decoded(value).split())
    pieces: list[str] = []
    held, charset, end = b"", "", 0
    for match in _WORD.finditer(value):
        gap = value[end : match.start()]
        if gap.strip() or match[1].decode().lower() != charset:
            pieces.append(decoded(held, charset))
            held, charset = b"", match[1].decode().lower()
        if gap.strip() or not end:
            pieces.append(decoded(gap))
        held += _unquoted(match[3], header=True) if match[2] in b"qQ" else _unbased(match[3])
        end = match.end()
    pieces.extend((decoded(held, charset), decoded(value[end:])))
    return " ".join("".join(pieces).split())


def plain(html: str) -> str:
    """Return the text of HTML, a line per block; addresses in angle brackets stay."""
    for start, end in _IGNORED_HTML:
        html = _without(html, start, end)
    text = _LINE_IN_HTML.sub("\n", html.replace("\n", " "))
    return unescape(_TAG.sub("", text)).replace("\xa0", " ")


class Headers:
    """The fields of one header block, read when first asked for."""

    def __init__(self, block: bytes) -> None:
        """Keep the bytes, no more of them than any honest mail has."""
        self.block = block[:_MAX_HEADERS]

    @cached_property
    def _fields(self) -> dict[bytes, list[bytes]]:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in _FIELD.findall(self.block):
            fields.setdefault(name.lower(), []).append(value)
        return fields

    def raw(self, name: bytes) -> list[bytes]:
        """Return the undecoded values of a field, named in lower case, in order."""
        return self._fields.get(name, [])

    def text(self, name: bytes) -> str:
        """Return the first value of a field, decoded, on one line; empty when there is none."""
        values = self._fields.get(name)
        return decoded_words(values[0][:8000]) if values else ""

    def names(self) -> set[bytes]:
        """Return the names of all fields, in lower case."""
        return set(self._fields)

    @cached_property
    def _content_type(self) -> bytes:
        return (self.raw(b"content-type") or [b""])[0].replace(b"\n", b" ")[:2000]

    @property
    def kind(self) -> str:
        """The content type in lower case, such as `text/plain`, which is also the default."""
        match = _TYPE.match(self._content_type)
        return match[1].decode().lower() if match else "text/plain"

    def parameter(self, name: bytes) -> bytes:
        """Return a parameter of the content type, or nothing."""
        for key, quoted, token in _PARAMETER.findall(self._content_type):
            if key.lower() == name:
                return bytes(quoted or token)
        return b""


@dataclass(slots=True)
class Part:
    """A leaf of the tree of parts. A returned message is a leaf too: what is in it is not the report."""

    headers: Headers
    body: bytes
    kind: str

    @property
    def is_returned(self) -> bool:
        """Whether this is the message that came back, or its headers."""
        return self.kind in _RETURNED

    def content(self) -> bytes:
        """Return the bytes behind the transfer encoding (RFC 2045, 6); broken ones as far as they go."""
        encoding = (self.headers.raw(b"content-transfer-encoding") or [b""])[0].strip().lower()
        body = self.body[:MAX_TEXT]
        if encoding == b"base64":
            return _unbased(body)
        return _unquoted(body) if encoding == b"quoted-printable" else body

    def text(self) -> str:
        """Return the part as text with LF at line ends; HTML without its tags."""
        charset = self.headers.parameter(b"charset").decode("ascii", "replace")
        text = decoded(self.content(), charset).replace("\r\n", "\n")
        return plain(text) if self.kind == "text/html" else text


class Mail:
    """A mail: its headers, the leaves of its parts, and what of it was left unread."""

    def __init__(self, mail: bytes) -> None:
        """Look at no more than the first part of the bytes; line ends become LF."""
        self.notes: list[str] = []
        if len(mail) > MAX_BYTES:
            self.notes.append(f"only the first {MAX_BYTES:,} of {len(mail):,} bytes were read")
        self.source = mail[:MAX_BYTES].replace(b"\r\n", b"\n").lstrip(b"\n")
        if b"\n" not in self.source and b"\r" in self.source:
            self.source = self.source.replace(b"\r", b"\n")
        head, _, self.body = self.source.partition(b"\n\n")
        self.headers = Headers(head)

    @cached_property
    def parts(self) -> list[Part]:
        """The leaves, in order."""
        leaves: list[Part] = []
        self._walk(self.headers, self.body, 0, leaves)
        return leaves

    @cached_property
    def kinds(self) -> set[str]:
        """The content types of the leaves."""
        return {part.kind for part in self.parts}

    @cached_property
    def report(self) -> str:
        """The text a person is meant to read: what comes before the returned message, plain before HTML."""
        plains: list[str] = []
        htmls: list[str] = []
        read = 0
        for part in self.parts:
            if part.is_returned or read > MAX_TEXT:
                break
            read += len(part.body)
            if part.kind == "text/html":
                htmls.append(part.text())
            elif part.kind.startswith("text/") and part.kind != "text/calendar":
                plains.append(part.text())
        text = "\n".join(plains)
        return text if text.strip() or not htmls else "\n".join(htmls)

    @cached_property
    def returned(self) -> bytes:
        """The message that came back as its own part, or the headers of it; its transfer encoding undone."""
        return next((part.content() for part in self.parts if part.is_returned), b"")

    def _walk(self, headers: Headers, body: bytes, depth: int, leaves: list[Part]) -> None:
        kind = headers.kind
        boundary = headers.parameter(b"boundary") if kind.startswith("multipart/") else b""
        if boundary and depth >= MAX_DEPTH:
            self._note(f"parts nested deeper than {MAX_DEPTH} were not read")
            return
        pieces = self._pieces(body, boundary) if boundary else []
        if not pieces:
            leaves.append(Part(headers, body, "text/plain" if kind.startswith("multipart/") else kind))
            return
        for piece in pieces:
            if len(leaves) >= MAX_PARTS:
                self._note(f"parts after the first {MAX_PARTS} were not read")
                return
            self._walk(*_split(piece), depth + 1, leaves)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    @staticmethod
    def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
        """Cut at lines that begin with the boundary and have nothing but blanks or `--` after it."""
        mark = b"\n--" + boundary
        body = b"\n" + body + b"\n"
        pieces: list[bytes] = []
        start = -1
        at = body.find(mark)
        while at >= 0 and len(pieces) <= MAX_PARTS:
            end = body.find(b"\n", at + 1)
            rest = body[at + len(mark) : end].strip()
            if rest in {b"", b"--"}:
                if start >= 0:
                    pieces.append(body[start:at])
                start = end if not rest else -1
            at = body.find(mark, end)
        if start >= 0:
            pieces.append(body[start:])
        return pieces


def _without(html: str, start: str, end: str) -> str:
    """Leave out what stands between two marks; an open end takes all the rest."""
    folded = html.lower()
    if len(folded) != len(html):  # a few letters change their length with their case
        folded = html
    kept: list[str] = []
    at = 0
    while (found := folded.find(start, at)) >= 0:
        kept.append(html[at:found])
        close = folded.find(end, found)
        if close < 0:
            return "".join(kept)
        at = close + len(end)
    return "".join(kept) + html[at:]


def _split(piece: bytes) -> tuple[Headers, bytes]:
    """Part headers from content; a part that begins with a blank line, or with no header, has none."""
    piece = piece.removeprefix(b"\n")
    if not _FIRST_FIELD.match(piece):
        return Headers(b""), piece
    head, _, body = piece.partition(b"\n\n")
    return Headers(head), body


def _unbased(content: bytes) -> bytes:
    content = content.rstrip(b"\n= ")
    try:
        return binascii.a2b_base64(content + b"===")
    except binascii.Error:  # one letter too many at the end
        try:
            return binascii.a2b_base64(content[:-1] + b"===")
        except binascii.Error:
            return b""


def _unquoted(content: bytes, *, header: bool = False) -> bytes:
    return binascii.a2b_qp(content, header=header)
