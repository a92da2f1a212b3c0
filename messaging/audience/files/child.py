"""The bounded process that reads a stranger's file: `python -m messaging.audience.files.child`.

It has 1 GB of memory (2 GB for a full sheet), writes no files, and ends with the process that started it. A
hostile file can make it crash, hang or fill its memory; the other end of the pipe then says so in a sentence.
"""

import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, cast

import polars as pl

from messaging.audience.files import bounds, containers, delimited, encodings, frames
from messaging.audience.files.layout import Reading, ReadOptions
from messaging.errors import InputError

_LARGEST_CHUNK = 64 << 20
_HEAD_BYTES = 64 << 10

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # .xls, or an .xlsx with a password
_PARQUET = b"PAR1"
_WORKBOOK_PARTS = {"xl/workbook.xml", "xl/workbook.bin", "content.xml"}
_OTHER_PACKAGES = {
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a PowerPoint presentation",
    "Index/Document.iwa": "an Apple Numbers or Pages document",
    "AndroidManifest.xml": "an Android app",
    "META-INF/MANIFEST.MF": "a Java archive",
}
_SAVE_IT = "open it and save the list as CSV or as an Excel workbook"
_MAGIC = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a sound, a picture or a film",
    b"SQLite format 3\0": "an SQLite database",
    b"\0\1\0\0Standard Jet DB": "an Access database",
    b"\0\1\0\0Standard ACE DB": "an Access database",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"ARROW1": "an Arrow file",
    b"Obj\1": "an Avro file",
    b"{\\rtf": "a rich text document",
}
_TEXT_FORMS = {
    re.compile(r"\s*(?:<!--[^>]*-->\s*)?<(?:!doctype\s+html|html|head|body|table|meta)\b", re.IGNORECASE): (
        "a web page saved under that name"
    ),
    re.compile(r'\s*(?:\[\s*[{\["\]]|\{\s*["}])'): "JSON, not a table",
    re.compile(r"\s*<\?xml\b"): "XML, not a table",
}
_TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip")
# What no text holds, NUL apart, which careless programs leave in cells.
_CONTROLS = re.compile(r"[\x01-\x08\x0e-\x19\x1c-\x1f\x7f\ufffd\udc80-\udcff]")
_MOST_CONTROLS = 0.05
_MOST_NUL = 0.5


def main() -> None:
    """Read the file of an inherited descriptor and say what is in it, frame by frame."""
    descriptor, name, given = int(sys.argv[1]), sys.argv[2], ReadOptions(**json.loads(sys.argv[3]))
    _end_with_the_parent()
    out = frames.Writer(_pipe_of_our_own())
    with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
        try:
            bounds.bound_process()
            with open(descriptor, "rb") as file:
                reading = read(file, name, given)
                out.layout(reading.layout)
                for chunk in reading.chunks:
                    for part in _parts(chunk):
                        out.rows(part)
            out.end()
        except InputError as error:
            out.refused(str(error))
        except BrokenPipeError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of Polars is no Exception
            out.crashed(type(error).__name__)
    # No more is to be done, and the interpreter's own end can hang in what a hostile file left behind.
    os._exit(0)


def _end_with_the_parent() -> None:
    """Ask for a signal that ends this process, even inside native code, once standard input closes.

    A death signal of the parent would come when the thread ends that started us.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:
        os._exit(1)  # it is closed already


def _pipe_of_our_own() -> BinaryIO:
    """Take standard output for frames, so that no library writes between them."""
    out = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return out


def _parts(chunk: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if chunk.is_empty():
        return
    parts = int(chunk.estimated_size()) // _LARGEST_CHUNK + 1
    yield from chunk.iter_slices(-(-chunk.height // parts))


def read(file: io.BufferedReader, name: str, options: ReadOptions, *, is_packed: bool = False) -> Reading:
    """Tell a file's format by its content and read it.

    Raises:
        InputError: It is no list of contacts; the text says what it is and what to do.
    """
    head = file.peek(1)[:_HEAD_BYTES]
    if head.startswith(containers.GZIP):
        _refuse_nesting(name, is_packed=is_packed)
        return _said_to_be("gzip", read(containers.gunzipped(file, name), name, options, is_packed=True))
    if head.startswith(containers.ZIP):
        return _read_zip(
            containers.whole(file, name) if is_packed else file, name, options, is_packed=is_packed
        )
    if head.startswith((_OLE, _PARQUET)):
        file = containers.whole(file, name) if is_packed else file
        module = "workbooks" if head.startswith(_OLE) else "parquet"
        return _reader_of(module)(file, name, options)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"{name} is {kind}, not a list of contacts: {_SAVE_IT}")
    return _read_text(file, name, options)


def _read_zip(file: io.BufferedReader, name: str, options: ReadOptions, *, is_packed: bool) -> Reading:
    parts = set(containers.entries(file, name))
    file.seek(0)
    if parts & _WORKBOOK_PARTS:
        return _reader_of("workbooks")(file, name, options)
    for part, kind in _OTHER_PACKAGES.items():
        if part in parts:
            raise InputError(f"{name} is {kind}, not a list of contacts: {_SAVE_IT}")
    _refuse_nesting(name, is_packed=is_packed)
    return _said_to_be("zip", read(containers.unzipped(file, name), name, options, is_packed=True))


def _refuse_nesting(name: str, *, is_packed: bool) -> None:
    if is_packed:
        raise InputError(f"{name} holds an archive within an archive: unpack it and name the file inside")


def _said_to_be(packing: str, reading: Reading) -> Reading:
    layout = replace(reading.layout, format=f"{reading.layout.format}, in {packing}")
    return replace(reading, layout=layout)


def _reader_of(module: str) -> Callable[[BinaryIO, str, ReadOptions], Reading]:
    """Import what only some files need when one of them is there."""
    found = importlib.import_module(f"messaging.audience.files.{module}")
    return cast("Callable[[BinaryIO, str, ReadOptions], Reading]", found.read)


def _read_text(file: io.BufferedReader, name: str, options: ReadOptions) -> Reading:
    text = encodings.read_text(file, name, options.encoding)
    beginning = text.head[:_HEAD_BYTES].decode(errors="surrogateescape")
    for form, kind in _TEXT_FORMS.items():
        if form.match(beginning):
            raise InputError(f"{name} is {kind}: {_SAVE_IT}")
    _refuse_binary(beginning, name)
    shape = delimited.find_shape(text, name)
    # A file called CSV is one, even if it has one column and no header; other texts may be prose.
    if shape.is_table or name.lower().endswith(_TABLE_SUFFIXES):
        return delimited.read(text, name, shape)
    from messaging.audience.files import free_text  # noqa: PLC0415 - its library of numbers is large

    return free_text.read_people(text, name, options.region)


def _refuse_binary(beginning: str, name: str) -> None:
    controls = len(_CONTROLS.findall(beginning))
    if controls > _MOST_CONTROLS * len(beginning) or beginning.count("\0") > _MOST_NUL * len(beginning):
        raise InputError(f"{name} holds bytes that are no text, so it is not a list of contacts: {_SAVE_IT}")


if __name__ == "__main__":
    main()
