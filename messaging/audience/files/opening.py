"""Opening a file for the rest of the house: a bounded process reads it, this one takes its rows."""

import contextlib
import functools
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

import polars as pl

from messaging.audience.files import frames
from messaging.audience.files.layout import LONGEST_WAIT, Reading, ReadOptions
from messaging.errors import InputError

_CHILD = "messaging.audience.files.child"
_PACKAGES = Path(__file__).parents[3]  # where `messaging` is: the child is to find the same one
_PIPE_BYTES = 1 << 20
_SECONDS_TO_END = 5
_LARGE_BYTES = 30 << 20  # a file as large as this has twice the time for a chunk
_MOST_PATIENCE = 4
_TOO_LARGE = "needs more than a gigabyte of memory to read: save it as CSV, which is read piece by piece"
_BY_MEMORY = {signal.SIGABRT, signal.SIGKILL}  # no memory for an allocation of Rust's; the system's killer


@contextmanager
def open_file(path: Path, options: ReadOptions = ReadOptions()) -> Iterator[Reading]:  # noqa: B008 - frozen
    """Open a contacts file of any format; its chunks can be taken once, inside the `with`.

    Another process reads it, bounded in memory and files: a hostile workbook can abort the process that reads
    it. That process ends with the `with`, whatever happens inside.

    Raises:
        InputError: The file is not there or cannot be used; also while its chunks are taken.
    """
    # File systems allow names that are no text, and a line end in one would break our sentences.
    name = "".join(
        sign if sign.isprintable() else "\ufffd" for sign in path.name.encode(errors="replace").decode()
    )
    descriptor = _open(path, name)
    try:
        size = os.fstat(descriptor).st_size
        with _start(descriptor, name, options) as process:
            try:
                patience = min(1 + size / _LARGE_BYTES, _MOST_PATIENCE)
                kind, payload = _next_frame(process, name, patience)
                if kind != frames.Kind.LAYOUT:
                    raise _crashed(name)
                share = functools.partial(_share, descriptor, size)
                yield Reading(frames.layout_of(payload), _chunks(process, name, patience), share)
            finally:
                process.kill()
    finally:
        os.close(descriptor)


def _share(descriptor: int, size: int) -> float:
    """Return how far the other process is: the two share the descriptor's place in the file."""
    return min(1.0, os.lseek(descriptor, 0, os.SEEK_CUR) / size)


def _open(path: Path, name: str) -> int:
    """Open a regular file.

    A symbolic link to one is followed: whoever names a file here may read it anyway, and often its folder
    holds a link to the latest export. Devices and pipes are not files; waiting for one could take for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no file {path}: check the path") from None
    except ValueError:  # a NUL in it
        raise InputError(f"there is no file {name}: check the path") from None
    except PermissionError:
        raise InputError(f"{path} may not be read: check its permissions") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder: name a file in it, or all by a pattern such as '{path}/*.csv'")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a file: name a file with contacts")
    raise InputError(f"{name} is empty: it needs a header row and a row per contact")


def _start(descriptor: int, name: str, options: ReadOptions) -> subprocess.Popen[bytes]:
    environment = {"PYTHONPATH": str(_PACKAGES), "PYTHONUTF8": "1", "POLARS_MAX_THREADS": "2"}
    return subprocess.Popen(  # noqa: S603 - our own program
        # -P: no folder of the person's shadows a library.
        [sys.executable, "-P", "-m", _CHILD, str(descriptor), name, json.dumps(asdict(options))],
        stdin=subprocess.PIPE,  # its end tells the child that we are gone
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a panic may show cells
        pass_fds=[descriptor],
        env=environment,
        pipesize=_PIPE_BYTES,
    )


def _next_frame(process: subprocess.Popen[bytes], name: str, patience: float) -> tuple[frames.Kind, bytes]:
    pipe = cast("IO[bytes]", process.stdout)
    try:
        kind, payload = frames.read(pipe.fileno(), patience * LONGEST_WAIT)
    except TimeoutError:
        raise InputError(
            f"{name} takes too long to read: it is damaged or hostile, or save it as CSV first"
        ) from None
    except frames.BrokenOffError:
        raise _died(process, name) from None
    if kind == frames.Kind.REFUSED:
        raise InputError(json.loads(payload))
    if kind == frames.Kind.CRASHED:
        raise _crashed(name, json.loads(payload))
    return kind, payload


def _chunks(process: subprocess.Popen[bytes], name: str, patience: float) -> Iterator[pl.DataFrame]:
    while True:
        kind, payload = _next_frame(process, name, patience)
        if kind == frames.Kind.END:
            return
        if kind != frames.Kind.ROWS:
            raise _crashed(name)
        yield frames.rows_of(payload)


def _died(process: subprocess.Popen[bytes], name: str) -> Exception:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_END)
    code = process.poll() or 0
    if code > 0:  # an end by its own hand, without a word: it did not even start
        return RuntimeError(f"the process that reads files ended with exit code {code}")
    if -code in _BY_MEMORY:
        return InputError(f"{name} {_TOO_LARGE}, or is damaged")
    return _crashed(name)


def _crashed(name: str, kind: str = "") -> InputError:
    if kind == "MemoryError":
        return InputError(f"{name} {_TOO_LARGE}")
    in_words = f" ({kind})" if kind else ""
    return InputError(f"the reader of {name} crashed{in_words}: the file is damaged or hostile")
