"""The wire of WhatsApp's stand-in: nodes in their binary form, and protocol buffers without a schema."""

import re
import zlib
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIST_8, _LIST_16, _JID_PAIR, _AD_JID = 248, 249, 250, 247
_HEX_8, _BINARY_8, _BINARY_20, _BINARY_32, _NIBBLE_8 = 251, 252, 253, 254, 255
_DICTIONARY_0 = 236
_COMPRESSED = 2

# What a client under test writes in one byte, as far as we act on it. Ourselves we write words in full.
_WORDS = {
    0: "", 3: "s.whatsapp.net", 4: "type", 8: "id", 12: "jid", 14: "user", 15: "devices", 17: "to",
    19: "message", 20: "result", 22: "xmlns", 25: "iq", 28: "g.us", 29: "enc", 37: "contact", 41: "get",
    50: "skmsg", 65: "count", 83: "pkmsg", 90: "set", 107: "participants", 109: "query", 113: "list",
    118: "lid", 121: "usync", 158: "key", 203: "encrypt", (_DICTIONARY_0 + 1, 51): "w:g2",
}  # fmt: skip
_JID = re.compile(r"(?P<user>[\w.-]*?)(:(?P<device>\d+))?@(?P<server>[\w.]+)")


@dataclass
class Node:
    tag: str
    attrs: dict[str, str] = attribute(default_factory=dict)
    content: "list[Node] | bytes | None" = None

    @property
    def children(self) -> "list[Node]":
        return self.content if isinstance(self.content, list) else []

    def child(self, tag: str) -> "Node | None":
        return next((node for node in self.children if node.tag == tag), None)

    def within(self) -> "Iterator[Node]":
        """Yield this node and all below it."""
        yield self
        for node in self.children:
            yield from node.within()


def encode(node: Node) -> bytes:
    return b"\0" + _node(node)


def _node(node: Node) -> bytes:
    size = 1 + 2 * len(node.attrs) + (node.content is not None)
    written = _list(size) + _string(node.tag)
    for name, value in node.attrs.items():
        written += _string(name) + _value(value)
    if isinstance(node.content, list):
        written += _list(len(node.content)) + b"".join(map(_node, node.content))
    elif node.content is not None:
        written += _bytes(node.content)
    return written


def _list(size: int) -> bytes:
    if not size:
        return b"\0"
    return bytes([_LIST_8, size]) if size < 256 else bytes([_LIST_16]) + size.to_bytes(2, "big")


def _bytes(data: bytes) -> bytes:
    if len(data) < 256:
        return bytes([_BINARY_8, len(data)]) + data
    return bytes([_BINARY_32]) + len(data).to_bytes(4, "big") + data


def _string(text: str) -> bytes:
    return _bytes(text.encode())


def _value(text: str) -> bytes:
    """Write an attribute; what looks like the address of somebody is written as one."""
    if (jid := _JID.fullmatch(text)) is None:
        return _string(text)
    if jid["device"] or jid["server"] == "lid":
        agent = int(jid["server"] == "lid")
        return bytes([_AD_JID, agent, int(jid["device"] or 0)]) + _string(jid["user"])
    user = _string(jid["user"]) if jid["user"] else b"\0"
    return bytes([_JID_PAIR]) + user + _string(jid["server"])


def decode(frame: bytes) -> Node:
    body = zlib.decompress(frame[1:]) if frame[0] & _COMPRESSED else frame[1:]
    return _Reader(body).node()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def node(self) -> Node:
        size = self._size(self._number(1))
        tag = self._text()
        attrs = {self._text(): self._text() for _ in range((size - 1) // 2)}
        return Node(tag, attrs, None if size % 2 else self._content())

    def _take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "big")

    def _size(self, kind: int) -> int:
        return 0 if kind == 0 else self._number(1 if kind == _LIST_8 else 2)

    def _content(self) -> list[Node] | bytes | None:
        kind = self._data[self._at]
        if kind in {0, _LIST_8, _LIST_16}:
            self._at += 1
            return [self.node() for _ in range(self._size(kind))] or None
        return self._raw() if kind in {_BINARY_8, _BINARY_20, _BINARY_32} else self._text().encode()

    def _raw(self) -> bytes:
        kind = self._number(1)
        length = {_BINARY_8: 1, _BINARY_20: 3, _BINARY_32: 4}[kind]
        return self._take(self._number(length))

    def _text(self) -> str:
        kind = self._data[self._at]
        if kind in {_BINARY_8, _BINARY_20, _BINARY_32}:
            return self._raw().decode()
        self._at += 1
        if kind in {_NIBBLE_8, _HEX_8}:
            return self._packed("0123456789-." if kind == _NIBBLE_8 else "0123456789ABCDEF")
        if kind in {_JID_PAIR, _AD_JID}:
            return self._jid(kind)
        if kind >= _DICTIONARY_0:
            return _WORDS.get((kind, second := self._number(1)), f"<{kind}/{second}>")
        return _WORDS.get(kind, f"<{kind}>")

    def _jid(self, kind: int) -> str:
        if kind == _JID_PAIR:
            user, server = self._text(), self._text()
            return f"{user}@{server}"
        agent, device = self._number(1), self._number(1)
        return f"{self._text()}:{device}@{'lid' if agent == 1 else 's.whatsapp.net'}"

    def _packed(self, alphabet: str) -> str:
        start = self._number(1)
        text = "".join(
            alphabet[nibble] if nibble < len(alphabet) else ""
            for byte in self._take(start & 127)
            for nibble in (byte >> 4, byte & 15)
        )
        return text[:-1] if start & 128 and alphabet[-1] == "F" else text


def field(number: int, value: int | bytes | str) -> bytes:
    """Write one field of a protocol buffer."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def fields(data: bytes) -> dict[int, list]:
    """Read the fields of a protocol buffer by their numbers."""
    found: dict[int, list] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(data, at)
        else:
            length, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _read_varint(data, at)
            value = data[at : at + length]
            at += length
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
