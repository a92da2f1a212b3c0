"""One verdict per row: a contact, or the reason why it is refused.

A row is refused for a bad e-mail address even when its phone number is good: someone meant to give an
address. A row with a good address and a bad number is a contact without a phone; the number as given stays
in its attributes under the column's name, so that nothing is lost. So does a number with an extension,
which E.164 cannot say.
"""

from collections.abc import Mapping

import polars as pl

from messaging.audience.cleaning import cleaned, stripped
from messaging.audience.columns import Columns
from messaging.audience.emails import judge_emails
from messaging.audience.phones import judge_phones
from messaging.audience.reading import Sheet, cell
from messaging.audience.reasons import Reason

_MISSING = pl.lit(None, pl.String)


def judge(sheet: Sheet, columns: Columns, region: str | None) -> pl.DataFrame:
    """Add to the sheet's rows `email_key`, `email`, `phone`, `name`, `phone_as_given` and `reason`.

    `reason` is null for contacts; `phone_as_given` is text only when `phone` does not say all of it.
    """
    roles = columns.roles
    rows = sheet.rows.with_columns(
        address=stripped(pl.col(cell(roles["email"]))) if "email" in roles else _MISSING,
        given=cleaned(pl.col(cell(roles["phone"]))) if "phone" in roles else _MISSING,
        name=_name(roles),
    )
    # Rows that cannot be read are not looked at: their cells may stand in the wrong columns.
    readable = rows.filter(pl.col("flaw").is_null())
    rows = rows.join(judge_emails(readable["address"]), on="address", how="left", maintain_order="left")
    rows = rows.join(judge_phones(readable["given"], region), on="given", how="left", maintain_order="left")
    by_phone = pl.col("address").is_null()
    return rows.with_columns(
        reason=pl.coalesce(
            "flaw",
            "email_reason",
            pl.when(by_phone).then("phone_reason"),
            pl.when(by_phone & pl.col("given").is_null()).then(pl.lit(Reason.NO_ADDRESS.value)),
        ),
        phone_as_given=pl.when(pl.col("phone_reason").is_not_null() | pl.col("phone_has_more")).then("given"),
    ).drop("address", "given", "flaw", "email_reason", "phone_reason", "phone_has_more")


def _name(roles: Mapping[str, int]) -> pl.Expr:
    parts = [roles[role] for role in ("name", "first_name", "last_name") if role in roles]
    if not parts:
        return _MISSING
    return cleaned(pl.concat_str([pl.col(cell(i)) for i in parts], separator=" ", ignore_nulls=True))
