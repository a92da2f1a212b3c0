"""What the process that reads a stranger's file may take of the machine."""

import resource
import sys
from pathlib import Path

import polars as pl

from messaging.audience.files.layout import MEMORY_MB

_LARGEST_FILE = 1 << 20  # bytes it may write to disk: what a library notes down, not a bomb's content
_LARGE_SHEET = 2  # times the memory, for a sheet whose cells were counted before


def bound_process() -> None:
    """Bound memory and files; Polars alone has 1.2 GB of addresses, so the bound counts from there."""
    pl.read_csv(b"a\n", has_header=False)  # starts its threads
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    if sys.platform == "linux":
        present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        allowed = MEMORY_MB << 20
        resource.setrlimit(resource.RLIMIT_AS, (present + allowed, present + _LARGE_SHEET * allowed))


def allow_large_sheet() -> None:
    """Take the memory that a full sheet needs, for a workbook that is known to be no bomb."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
