"""What a column of a file is called in templates and filters."""

import re
import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)  # an audience has few columns, and every recipient has them again
def field_name(column: str) -> str:
    """Turn a column's name into the identifier of its merge field: `First Name` into `first_name`."""
    # Folded twice: a mathematical capital is a letter, and hence lower case, only once it is decomposed.
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", column).casefold())
    plain = unicodedata.normalize("NFC", "".join(c for c in letters if not unicodedata.combining(c)))
    identifier = re.sub(r"[\W_]+", "_", plain).strip("_")
    return identifier if identifier.isidentifier() else f"_{identifier}"
