"""Files that hold people: new, and readable by their owner only."""

import os
from pathlib import Path
from typing import TextIO


def open_private(path: Path, encoding: str = "utf-8") -> TextIO:
    """Open a new file for writing; an old one of that name is removed, it would keep its permissions.

    Raises:
        OSError: It cannot be made.
    """
    path.unlink(missing_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(opened, "w", encoding=encoding, newline="")
