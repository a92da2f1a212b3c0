"""Files inside gzip and zip, streamed and counted: what an archive says of its sizes is not believed."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from typing import IO

from messaging.errors import InputError

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

# Lists of contacts shrink to a third or a tenth; an export that says the same in every row to a hundredth.
LARGEST_RATIO = 200
FREE_BYTES = 10 << 20  # small files may be as repetitive as they like
LARGEST_BYTES = 4 << 30
LARGEST_WHOLE = 256 << 20  # of what cannot be streamed: a workbook inside an archive
MOST_ENTRIES = 1_000
BUFFER_BYTES = 1 << 20

_AT_ONCE = 64 << 10  # zipfile reads as many packed bytes ahead as it is asked for
_ENCRYPTED = 0x1
_NOT_MEANT = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


def gunzipped(file: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return what a gzip file holds, as it is inflated."""
    return io.BufferedReader(_Inflated(gzip.GzipFile(fileobj=file), file.tell, name), BUFFER_BYTES)


def entries(file: io.BufferedReader, name: str) -> list[str]:
    """Return the names of a zip's entries; they are never used as paths.

    Raises:
        InputError: It is no whole zip.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"{name} is cut off or damaged: copy or export it again") from None


def unzipped(file: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return what the only file of a zip holds, as it is inflated.

    Raises:
        InputError: It holds several files or none, needs a password, or is packed in a way nobody knows.
    """
    archive = zipfile.ZipFile(file)
    infos = archive.infolist()
    if len(infos) > MOST_ENTRIES:
        raise InputError(f"{name} holds more than {MOST_ENTRIES:,} files: unpack it and name one of them")
    files = [info for info in infos if not info.is_dir() and not _is_not_meant(info.filename)]
    if len(files) != 1:
        held = f"{len(files)} files" if files else "no file"
        raise InputError(f"{name} holds {held}: unpack it and name the one with the contacts")
    [info] = files
    if info.flag_bits & _ENCRYPTED:
        raise InputError(f"{name} is protected by a password: unpack it and name the file inside")
    try:
        stream = archive.open(info)
    except NotImplementedError:
        raise InputError(f"{name} is packed in an unusual way: unpack it and name the file inside") from None
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        raise InputError(f"{name} is cut off or damaged: copy or export it again") from None
    raw = _Inflated(stream, lambda: file.tell() - info.header_offset, name)
    return io.BufferedReader(raw, BUFFER_BYTES)


def whole(file: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return a stream's content as something that can be read in any order.

    Raises:
        InputError: It is too much to hold.
    """
    content = file.read(LARGEST_WHOLE + 1)
    if len(content) > LARGEST_WHOLE:
        raise InputError(f"{name} is too large to read packed: unpack it first")
    return io.BufferedReader(io.BytesIO(content))


def _is_not_meant(entry: str) -> bool:
    return entry.startswith(_NOT_MEANT) or entry.rpartition("/")[2].startswith(("._", *_NOT_MEANT[1:]))


class _Inflated(io.RawIOBase):
    """An inflating stream that stops at a bomb."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, consumed: Callable[[], int], name: str) -> None:
        """`consumed` says how many packed bytes have been read so far."""
        self._stream = stream
        self._consumed = consumed
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a BufferedReader gives no other
        try:
            content = self._stream.read(min(len(buffer), _AT_ONCE))
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile):
            raise InputError(f"{self._name} is cut off or damaged: copy or export it again") from None
        self._count += len(content)
        allowed = min(FREE_BYTES + LARGEST_RATIO * self._consumed(), LARGEST_BYTES)
        if self._count > allowed:
            raise InputError(
                f"{self._name} unpacks to far more than a list of contacts: unpack it yourself, if it is one"
            )
        buffer[: len(content)] = content
        return len(content)
