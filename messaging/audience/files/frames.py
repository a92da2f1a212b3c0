"""What the bounded process that reads a file says over its pipe: frames of a kind and a length."""

import io
import json
import os
import select
import struct
import time
from dataclasses import asdict
from enum import IntEnum
from typing import BinaryIO

import polars as pl

from messaging.audience.files.layout import Layout

LONGEST_FRAME = 256 << 20
_HEAD = struct.Struct(">BI")
# Text with offsets instead of views: a fifth smaller on the pipe, and the cheapest to write and read.
_COMPATIBLE = pl.CompatLevel.oldest()


class Kind(IntEnum):
    """What a frame holds."""

    LAYOUT = 1  # JSON, once, first
    ROWS = 2  # an Arrow IPC stream
    REFUSED = 3  # JSON: the sentence of an `InputError`; nothing follows
    CRASHED = 4  # JSON: the type of an exception nobody foresaw; nothing follows
    END = 5


class BrokenOffError(Exception):
    """The pipe ended within a frame or without one: the process is dead."""


class Writer:
    """The end of the process that reads."""

    def __init__(self, pipe: BinaryIO) -> None:
        """`pipe` is written to and flushed, never closed."""
        self._pipe = pipe
        self._buffer = io.BytesIO()  # used again for each chunk: fresh memory costs twice as much as writing

    def layout(self, layout: Layout) -> None:
        """Say what was understood of the file before its rows."""
        self._write(Kind.LAYOUT, json.dumps(asdict(layout)).encode())

    def rows(self, rows: pl.DataFrame) -> None:
        """Pass on a chunk."""
        self._buffer.seek(0)
        rows.write_ipc_stream(self._buffer, compat_level=_COMPATIBLE)
        with self._buffer.getbuffer() as whole, whole[: self._buffer.tell()] as used:
            self._write(Kind.ROWS, used)

    def refused(self, sentence: str) -> None:
        """Say why the file cannot be read."""
        self._write(Kind.REFUSED, json.dumps(sentence).encode())

    def crashed(self, kind: str) -> None:
        """Name the type of an exception nobody foresaw; its text may hold cells."""
        self._write(Kind.CRASHED, json.dumps(kind).encode())

    def end(self) -> None:
        """Say that all rows were passed on."""
        self._write(Kind.END, b"")

    def _write(self, kind: Kind, payload: bytes | memoryview) -> None:
        self._pipe.write(_HEAD.pack(kind, len(payload)))
        self._pipe.write(payload)
        self._pipe.flush()


def read(descriptor: int, seconds: float) -> tuple[Kind, bytes]:
    """Return the next frame of a pipe.

    Raises:
        TimeoutError: It did not come, or not as a whole, within `seconds`.
        BrokenOffError: The other end is closed, or what came is no frame.
    """
    deadline = time.monotonic() + seconds
    kind, length = _HEAD.unpack(_exactly(descriptor, _HEAD.size, deadline))
    if kind not in list(Kind) or length > LONGEST_FRAME:
        raise BrokenOffError
    return Kind(kind), _exactly(descriptor, length, deadline)


def _exactly(descriptor: int, size: int, deadline: float) -> bytes:
    buffer = bytearray(size)
    rest = memoryview(buffer)
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while rest:
        milliseconds = (deadline - time.monotonic()) * 1_000
        if milliseconds <= 0 or not ready.poll(milliseconds):
            raise TimeoutError
        count = os.readv(descriptor, [rest])
        if not count:
            raise BrokenOffError
        rest = rest[count:]
    return bytes(buffer)


def layout_of(payload: bytes) -> Layout:
    """Return the layout that a frame holds."""
    return Layout(**json.loads(payload))


def rows_of(payload: bytes) -> pl.DataFrame:
    """Return the chunk that a frame holds."""
    return pl.read_ipc_stream(payload)
