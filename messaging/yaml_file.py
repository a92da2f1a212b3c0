"""YAML files that people write: read with bounds, and a sentence for what is wrong."""

from pathlib import Path
from typing import Any

import yaml

from messaging.errors import InputError


def read_yaml(path: Path, max_size: int) -> dict[str, Any]:
    """Read the fields and values of a YAML file of at most so many characters.

    Raises:
        InputError: The file is missing, empty, too large, not UTF-8 or not YAML with fields.
    """
    return _parse(read_text(path, max_size), path.name)


def read_text(path: Path, max_size: int) -> str:
    """Read a UTF-8 file of at most so many characters.

    Raises:
        InputError: The file is missing, empty, too large or not UTF-8.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name the file itself")
        if not path.is_file():  # neither missing files nor devices and pipes, which have no end
            raise InputError(f"{path}: no such file")
        with path.open("rb") as file:
            content = file.read(4 * max_size + 1)  # no character takes more than four bytes
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")  # Windows editors write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    if len(text) > max_size:
        raise InputError(f"{path}: is larger than {max_size:,} characters")
    if not text.strip():
        raise InputError(f"{path}: is empty")
    return text


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        number = mark.line + 1 if mark else 1
        line = text.splitlines()[number - 1] if mark and number <= len(text.splitlines()) else ""
        hint = "; put a value that holds {{ }} in quotes" if "{{" in line else ""
        raise InputError(f"{file}: line {number}: is not YAML: {error.problem}{hint}") from None
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise InputError(f"{file}: line {line_number}: is not YAML: {error.reason}") from None
    except (ValueError, RecursionError):  # an impossible date; brackets nested without end
        raise InputError(f"{file}: is not YAML that can be read") from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: must hold fields and values, as in `name: spring-offer`")
    return {str(field): value for field, value in values.items()}
