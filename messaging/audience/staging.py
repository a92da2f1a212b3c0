"""From judged rows to what the ledger stages: good rows as contacts, the others as refused rows."""

import json

import polars as pl

from messaging.audience.cleaning import cleaned_column
from messaging.audience.columns import Columns
from messaging.audience.files.layout import cell
from messaging.audience.judging import kept
from messaging.storage.imports import EXTRA_CELLS
from messaging.storage.staging import CONTACT_FIELDS


def contacts_of(judged: pl.DataFrame, columns: Columns, *, keep_cells: bool) -> pl.DataFrame:
    """Return `row_number`, `CONTACT_FIELDS`, `attributes` and, if asked for, `cells` of every good row.

    `attributes` is JSON by column name, without what is empty; `cells` as for refused rows. Rows with one
    address stay apart: the whole file is merged in the database.
    """
    good = judged.filter(pl.col("reason").is_null())
    values = {place: cleaned_column(good[cell(place)]) for place in columns.attributes}
    values |= {
        place: good[kept(place)] for role in ("email", "phone") for place in columns.roles.get(role, [])
    }
    members = [_member(columns.header[place], values[place]) for place in sorted(values)]
    attributes = pl.concat_str(
        pl.lit("{"), pl.concat_str(members, separator=",", ignore_nulls=True), pl.lit("}")
    )
    staged = good.select("row_number", *CONTACT_FIELDS, attributes=attributes if members else pl.lit("{}"))
    return staged.with_columns(good.select(cells=_json(_cells(columns)))) if keep_cells else staged


def refused_of(judged: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Return `row_number`, `reason` and `cells` (JSON by column name) of every refused row."""
    refused = judged.filter(pl.col("reason").is_not_null())
    cells = _cells(columns)
    extra = pl.col("extra").list.eval(pl.element().str.replace_all("\0", "\ufffd", literal=True))
    longer = pl.col("extra").is_not_null()
    return pl.concat(
        [
            refused.filter(~longer).select("row_number", "reason", cells=_json(cells)),
            refused.filter(longer).select("row_number", "reason", cells=_json({**cells, EXTRA_CELLS: extra})),
        ]
    )


def _cells(columns: Columns) -> dict[str, pl.Expr]:
    """Return the row as it stood, but for NUL: it is the one character that PostgreSQL cannot keep."""
    return {
        name: pl.col(cell(place)).fill_null("").str.replace_all("\0", "\ufffd", literal=True)
        for place, name in enumerate(columns.header)
    }


def _member(name: str, texts: pl.Series) -> pl.Expr:
    """Return `"name":"text"` in JSON, null where the text is; `cleaned` texts hold no control characters."""
    if texts.str.contains(r'["\\]').any():
        texts = texts.str.replace_many(["\\", '"'], ["\\\\", '\\"'])
    return pl.concat_str(pl.lit(json.dumps(name, ensure_ascii=False) + ':"'), pl.lit(texts), pl.lit('"'))


def _json(values: dict[str, pl.Expr]) -> pl.Expr:
    return pl.struct(value.alias(name) for name, value in values.items()).struct.json_encode()
