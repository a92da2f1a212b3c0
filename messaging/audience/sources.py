"""Where contacts files come from: paths, patterns, and whatever fsspec reaches."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from messaging.errors import InputError

# What fsspec may open.  Not http: an address that somebody types must not make this machine call others.
_PROTOCOLS = {
    "file": "nothing",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_UNMEANT = (".", "~$")  # hidden files, and what Excel keeps beside an open workbook
_SETTLED_SECONDS = 10.0  # a file that changed more recently may still be being written
_MAX_BYTES = 10 * 1024**3  # of a file that is fetched


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to import."""

    reference: str
    version: str
    """Changes when the file does: its size with its time or tag; empty when a person named the file."""

    @property
    def source(self) -> str:
        """Name this version of this file, as imports remember it."""
        return f"{self.reference}#{self.version}" if self.version else self.reference

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.reference).name


def find_files(references: list[str]) -> list[str]:
    """Return the files that paths and patterns name, each once, in order.

    Raises:
        InputError: A pattern or a path names nothing.
    """
    found: dict[str, None] = {}
    for reference in references:
        if "://" in reference or reference.startswith("block:"):
            matches = _glob(reference) if _is_pattern(reference) and "://" in reference else [reference]
        elif _is_pattern(reference) and not Path(reference).exists():
            path = Path(reference).expanduser()
            parts = path.parts[1:] if path.is_absolute() else path.parts
            start = Path(path.anchor) if path.is_absolute() else Path()
            matches = sorted(
                str(match)
                for match in start.glob(str(Path(*parts)))
                if match.is_file() and not match.name.startswith(_UNMEANT)
            )
        else:
            if not Path(reference).expanduser().exists():
                raise InputError(f"there is no file {reference}: check the path")
            matches = [str(Path(reference).expanduser())]
        if not matches:
            raise InputError(f"no file matches {reference}")
        found.update(dict.fromkeys(matches))
    return list(found)


def new_files(folder: str, pattern: str, known: set[str]) -> list[FoundFile]:
    """Return the files of a folder or bucket that are not among the `known` sources, oldest name first.

    A file of this machine that changed in the last seconds is left for the next time: it may still be being
    written. Object stores show an object only when it is whole.

    Raises:
        InputError: The folder cannot be read.
    """
    system, root = _system(folder)
    is_here = "://" not in folder or folder.startswith("file:")
    protocol = folder.split("://", maxsplit=1)[0] + "://" if "://" in folder else ""
    found = []
    for entry in sorted(_listed(system, root, folder), key=lambda entry: str(entry["name"])):
        name = PurePosixPath(entry["name"]).name
        if entry["type"] != "file" or name.startswith(_UNMEANT) or not PurePosixPath(name).match(pattern):
            continue
        if str(entry["name"]).strip("/") == root.strip("/") or (is_here and not _is_settled(entry)):
            continue
        one = FoundFile(protocol + str(entry["name"]), _version(entry))
        if one.source not in known:
            found.append(one)
    return found


def _listed(system: AbstractFileSystem, root: str, folder: str) -> list[dict[str, Any]]:
    """List a folder as it is now; a prefix of a bucket that has no object yet is an empty one."""
    with _failing(f"{folder} cannot be listed"):
        system.invalidate_cache()  # a worker lives for weeks, and what it knew of a bucket is old
        if system.isdir(root):
            listed: list[dict[str, Any]] = system.ls(root, detail=True)
            return listed
        bucket = root.strip("/").partition("/")[0]
        if folder.startswith("file:") or "://" not in folder or not system.isdir(bucket):
            raise InputError(f"there is no folder {folder}: check the path")
        return []


@contextmanager
def fetched(reference: str) -> Iterator[Path]:
    """Give a path on this machine that holds the file: its own, or a private copy while the block lasts.

    Raises:
        InputError: The file cannot be fetched.
    """
    if "://" not in reference:
        yield Path(reference)
        return
    system, remote = _system(reference)
    with private_copy(PurePosixPath(remote).name) as path:
        _fetch(system, remote, path, reference)
        yield path


def _fetch(system: AbstractFileSystem, remote: str, path: Path, reference: str) -> None:
    with _failing(f"{reference} cannot be fetched"):
        try:
            size = system.size(remote)
            if size is not None and size > _MAX_BYTES:
                raise InputError(f"{reference} is larger than {_MAX_BYTES // 1024**3} GB")
            with system.open(remote, "rb") as given, path.open("wb") as copy:
                shutil.copyfileobj(given, copy, 1024**2)
        except FileNotFoundError:
            raise InputError(f"there is no file {reference}: check the address") from None


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Replace what a store's library raises, whose text may hold keys, by its type."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - each store's library has a tree of errors of its own
        raise InputError(
            f"{what} ({type(error).__name__}): check the address, the keys and the network"
        ) from None


@contextmanager
def private_copy(name: str) -> Iterator[Path]:
    """Give a path of that name in a folder that only we can read, gone after the block."""
    with tempfile.TemporaryDirectory(prefix="outflow-") as folder:
        yield Path(folder) / (PurePosixPath(name).name or "contacts")


def _is_pattern(reference: str) -> bool:
    return any(sign in reference for sign in "*?[")


def _glob(reference: str) -> list[str]:
    system, pattern = _system(reference)
    protocol = reference.split("://", maxsplit=1)[0]
    with _failing(f"{reference} cannot be listed"):
        return sorted(f"{protocol}://{match}" for match in system.glob(pattern))


def _system(reference: str) -> tuple[AbstractFileSystem, str]:
    """Return fsspec's file system for a reference, and the path in it."""
    protocol = reference.split("://", maxsplit=1)[0] if "://" in reference else "file"
    if protocol not in _PROTOCOLS:
        raise InputError(f"{protocol}:// is nothing files are read from: use a path, s3://, gs:// or az://")
    try:
        system, path = fsspec.url_to_fs(reference)
    except ImportError:
        raise InputError(f"{protocol}:// needs a package: pip install {_PROTOCOLS[protocol]}") from None
    return system, path


def _is_settled(entry: dict[str, Any]) -> bool:
    return time.time() - float(entry["mtime"]) >= _SETTLED_SECONDS


def _version(entry: dict[str, Any]) -> str:
    tag = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash") or entry.get("mtime") or ""
    return f"{entry.get('size', 0)}-{str(tag).strip(chr(34))}"
