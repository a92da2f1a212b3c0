"""What a spreadsheet would run instead of show."""

import re
from typing import Final

# Phone numbers such as +49 151 234567 apart.  In the words that Python's `re` and Polars share.
FORMULA: Final = r"^[=+\-@\t\r]"
PHONE: Final = r"^\+[\d\s().\-/]+$"


def harmless(cell: str) -> str:
    """Put a quote before what a spreadsheet would run."""
    return f"'{cell}" if re.match(FORMULA, cell) and not re.match(PHONE, cell) else cell
