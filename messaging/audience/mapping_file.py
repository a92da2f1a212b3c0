"""Which column holds what, kept as YAML beside the contacts file and used again."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from messaging.audience.columns import ROLES
from messaging.errors import InputError
from messaging.yaml_file import read_yaml

_MAX_SIZE = 1_000_000  # characters: room for the longest names of all the columns a file may have
_COMMENT = (
    "# Which columns hold what: outflow import uses it again. Put column names in quotes if in doubt.\n"
)


def mapping_of(reference: str) -> Path:
    """Return where the mapping of a contacts file is kept: `people.columns.yaml` for `people.csv`.

    That of a file elsewhere, in a bucket or a storage block, is kept in the current folder.
    """
    is_elsewhere = "://" in reference or reference.startswith("block:")
    file = Path(PurePosixPath(reference).name) if is_elsewhere else Path(reference)
    return file.with_suffix(".columns.yaml")


def check_place(mapping: Path) -> None:
    """Check that a mapping can be written, before the work whose fruit it is.

    Raises:
        InputError: It cannot.
    """
    if not os.access(mapping if mapping.exists() else mapping.parent, os.W_OK):
        raise InputError(f"{mapping} may not be written: leave --save-map out")


def save_mapping(path: Path, mapping: Mapping[str, Sequence[str]]) -> None:
    """Write which columns hold what, so that `load_mapping` gives it back.

    Raises:
        InputError: The file cannot be written.
    """
    plain = {role: list(columns) for role, columns in mapping.items()}
    text = yaml.safe_dump(
        plain, allow_unicode=True, default_flow_style=None, sort_keys=False, width=_MAX_SIZE
    )
    try:
        path.write_text(_COMMENT + text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def load_mapping(path: Path) -> dict[str, list[str]]:
    """Read which columns hold what, for `find_columns` to go by.

    Raises:
        InputError: There is no such file, or it says something else; the text says what.
    """
    values = read_yaml(path, _MAX_SIZE)
    mapping: dict[str, list[str]] = {}
    for role, given in values.items():
        if role not in ROLES:
            raise InputError(
                f"{path.name}: a column cannot be read as {role!r}: choose from {', '.join(ROLES)}"
            )
        names = given if isinstance(given, list) else [given]
        if not names or not all(isinstance(name, str) for name in names):
            raise InputError(
                f"{path.name}: {role} must name columns; put names such as 'yes' or '1' in quotes"
            )
        mapping[role] = names
    return mapping
