"""Text without what nobody sees: edges, controls, runs of whitespace."""

import polars as pl

_WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
_CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
# Pasted addresses and numbers carry these at their edges; inside a word some of them have a meaning.
_ZERO_WIDTH = "\xad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
_ZERO_WIDTH += "\u2066\u2067\u2068\u2069"

INVISIBLE = _WHITESPACE + _CONTROLS + _ZERO_WIDTH


def stripped(cell: pl.Expr) -> pl.Expr:
    """Return the cell without invisible characters at its edges, null when nothing is left."""
    bare = cell.str.strip_chars(INVISIBLE)
    return pl.when(bare != "").then(bare)


def cleaned(cell: pl.Expr) -> pl.Expr:
    r"""Return the cell on one line: runs of whitespace as one space, control characters gone.

    PostgreSQL cannot keep NUL, and a line end in a name would end a mail header.
    """
    return stripped(cell.str.replace_all(r"[\p{Cc}--\s]+", "").str.replace_all(r"\s+", " "))
