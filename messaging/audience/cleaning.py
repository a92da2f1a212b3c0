"""Text without what nobody sees: edges, controls, runs of whitespace, two spellings of one letter."""

import polars as pl

_WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
_CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
_JOINERS = "\u200c\u200d"
# Soft hyphens, zero-width spaces, marks that turn the direction of text: what is pasted along.
HIDDEN = "\xad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\ufeff\ufff9\ufffa\ufffb"
HIDDEN += "".join(map(chr, range(0x2060, 0x2070)))

INVISIBLE = _WHITESPACE + _CONTROLS + _JOINERS + HIDDEN

# The last range are tags, letters that nobody sees.
_NOT_TEXT = rf"[[\p{{Cc}}--\s]{HIDDEN}\U000e0000-\U000e007f]+"
# Between Arabic or Indic letters and in emoji a joiner changes what one sees; after these it does nothing.
_JOINED_TO_NOTHING = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Han}\p{Hangul}\d\p{P}\s"
_IDLE_JOINERS = rf"([{_JOINED_TO_NOTHING}])[{_JOINERS}]+"
# Never part of a longer letter: Latin, Greek, Cyrillic, Hebrew, Arabic, kana, Han, Hangul.
_SETTLED = (
    r"!-~\xa1-\xac\xae-\u02ff\u0391-\u03a1\u03a3-\u03ce\u0400-\u0481\u048a-\u052f\u05d0-\u05ea\u0621-\u063a"
    r"\u0641-\u064a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_CLEAN = rf"\A[{_SETTLED}]+(?: [{_SETTLED}]+)*\z"


def stripped(cell: pl.Expr) -> pl.Expr:
    """Return the cell without invisible characters at its edges, null when nothing is left."""
    bare = cell.str.strip_chars(INVISIBLE)
    return pl.when(bare != "").then(bare)


def cleaned(cell: pl.Expr) -> pl.Expr:
    r"""Return the cell in NFC on one line: runs of whitespace as one space, what nobody sees gone.

    PostgreSQL cannot keep NUL, a line end in a name would end a mail header, and marks of direction make a
    text read as another. Null when nothing is left.
    """
    visible = cell.str.replace_all(_NOT_TEXT, "").str.replace_all(_IDLE_JOINERS, "${1}")
    return stripped(visible.str.replace_all(r"\s+", " ").str.normalize("NFC"))


def cleaned_column(cells: pl.Series) -> pl.Series:
    """Return what `cleaned` does, twenty times faster for columns in which most cells are clean."""
    unclean = ~cells.str.contains(_CLEAN)
    odd = unclean.arg_true()
    if odd.is_empty():
        return cells
    mended = cells.gather(odd).to_frame().select(cleaned(pl.first())).to_series()
    return cells.clone().scatter(odd, mended)
