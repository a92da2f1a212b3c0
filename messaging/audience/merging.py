"""From judged rows to what the ledger stores: one row per contact, one per refused row."""

import polars as pl

from messaging.audience.cleaning import cleaned
from messaging.audience.columns import Columns
from messaging.audience.reading import cell
from messaging.storage.imports import EXTRA_CELLS

_IDENTITY = ["email_key", "email", "phone", "name"]


def merge_contacts(judged: pl.DataFrame, columns: Columns) -> tuple[pl.DataFrame, list[str]]:
    """Return one row per address, `attributes` as JSON, and the names of the attributes that anyone has.

    Rows of one address are merged: in each column the first value of the file wins.
    """
    values = {cell(place): cleaned(pl.col(cell(place))) for place in columns.attributes}
    if "phone" in columns.roles:
        values[cell(columns.roles["phone"])] = pl.col("phone_as_given")
    rows = judged.filter(pl.col("reason").is_null()).select(
        # A phone number holds no @, so the two kinds of key never meet.
        pl.coalesce("email_key", "phone").alias("key"),
        *_IDENTITY,
        **values,
    )
    repeated = pl.col("key").is_duplicated()
    merged = rows.filter(repeated).group_by("key", maintain_order=True).agg(pl.all().drop_nulls().first())
    contacts = pl.concat([rows.filter(~repeated), merged])
    used = [place for place in range(len(columns.header)) if _has_values(contacts, cell(place))]
    attributes = _json({columns.header[place]: pl.col(cell(place)) for place in used})
    return contacts.select(*_IDENTITY, attributes=attributes), [columns.header[place] for place in used]


def refused_rows(judged: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Return `row_number`, `reason` and `cells` (JSON by column name) of every refused row."""
    refused = judged.filter(pl.col("reason").is_not_null())
    # NUL is the one character that PostgreSQL cannot keep; everything else stays as it stood.
    cells = {
        name: pl.col(cell(place)).fill_null("").str.replace_all("\0", "\ufffd", literal=True)
        for place, name in enumerate(columns.header)
    }
    extra = pl.col("extra").list.eval(pl.element().str.replace_all("\0", "\ufffd", literal=True))
    longer = pl.col("extra").is_not_null()
    return pl.concat(
        [
            refused.filter(~longer).select("row_number", "reason", cells=_json(cells)),
            refused.filter(longer).select("row_number", "reason", cells=_json({**cells, EXTRA_CELLS: extra})),
        ]
    )


def _has_values(contacts: pl.DataFrame, column: str) -> bool:
    return column in contacts.columns and contacts[column].null_count() < contacts.height


def _json(values: dict[str, pl.Expr]) -> pl.Expr:
    if not values:
        return pl.lit("{}")
    return pl.struct(value.alias(name) for name, value in values.items()).struct.json_encode()
