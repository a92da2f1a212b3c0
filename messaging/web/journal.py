"""Hits on disk while the ledger is away: JSON lines, flushed to the disk before they count as kept.

Each process appends to files of its own, and holds a lock on the one it writes. Any process may replay a
file that nobody holds, so that those of a killed process are not lost. A file is deleted once the ledger has
committed all that is in it; one that was replayed in part is replayed again, which changes nothing.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

FILE_SIZE: Final = 8_000_000
"""Bytes after which a new file is begun."""
MOST: Final = 256_000_000
"""Bytes of all files; what does not fit is not kept."""

_PATTERN = "*.jsonl"
_REFUSED = "refused.txt"


class JournalFull(OSError):
    """The files have reached their bound; nothing was written."""


class Journal:
    """The files of one folder."""

    def __init__(self, folder: Path, most: int = MOST, file_size: int = FILE_SIZE) -> None:
        """Name the folder; it is made when something is written."""
        self._folder = folder
        self._most = most
        self._file_size = file_size
        self._open: BinaryIO | None = None

    def size(self) -> int:
        """Return the bytes that wait to be replayed."""
        return sum(_size(path) for path in self._files())

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write lines and flush them to the disk.

        Raises:
            JournalFull: The folder has reached its bound.
            OSError: The disk is full or cannot be written; what was written in part is skipped on replay.
        """
        written = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        if self.size() + len(written) > self._most:
            raise JournalFull
        try:
            kept = self._writable()
            kept.write(written)
            kept.flush()
            os.fsync(kept.fileno())
        except OSError:
            self.close()  # the next lines must not continue a torn one
            raise

    def close(self) -> None:
        """End the file that is being written, so that it can be replayed."""
        if self._open is not None:
            with suppress(OSError):
                self._open.close()
            self._open = None

    @contextmanager
    def oldest(self) -> Iterator["JournalFile | None"]:
        """Hold the oldest file that nobody else holds, this process's own included; None: there is none."""
        self.close()
        found = next(filter(None, map(_held, self._files())), None)
        try:
            yield found
        finally:
            if found is not None:
                found.opened.close()

    def refuse(self, line: dict[str, Any]) -> None:
        """Set a line aside that the ledger does not take, for a person to look at."""
        path = self._folder / _REFUSED
        if _size(path) < self._file_size:
            with _append_private(path) as refused:
                refused.write(json.dumps(line).encode() + b"\n")

    def _writable(self) -> BinaryIO:
        if self._open is not None and self._open.tell() >= self._file_size:
            self.close()
        if self._open is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Names in the order of time, also of several processes. Nobody sees a file before it is locked.
            path = self._folder / f"{time.time_ns():020}-{uuid4().hex}.jsonl"
            begun = path.with_suffix(".new")
            self._open = _append_private(begun)
            _lock(self._open)
            begun.rename(path)
            _sync_folder(self._folder)
        return self._open

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(_PATTERN))


class JournalFile:
    """One file that is held."""

    def __init__(self, path: Path, opened: BinaryIO) -> None:
        """Take a file that is open and locked."""
        self.opened = opened
        self._path = path

    def groups(self, size: int) -> Iterator[list[dict[str, Any]]]:
        """Read up to `size` lines at a time; torn ones, of a crash or a full disk, are passed over."""
        group: list[dict[str, Any]] = []
        for line in self.opened:
            with suppress(ValueError):
                if isinstance(read := json.loads(line), dict):
                    group.append(read)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group

    def delete(self) -> None:
        """Delete the file: the ledger has what is in it."""
        self._path.unlink(missing_ok=True)


def _append_private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _held(path: Path) -> JournalFile | None:
    with suppress(FileNotFoundError):
        opened = path.open("rb")
        if _lock(opened) and path.exists():  # who held it may have deleted it meanwhile
            return JournalFile(path, opened)
        opened.close()
    return None


def _lock(opened: BinaryIO) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
