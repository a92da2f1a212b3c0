"""What a judged file is like as a whole: counts only, never people."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.contacts import Warned
from schemas.reasons import Warn

FIRST_ROWS = 5
MOST_TYPOS = 20
MOST_DOMAINS = 50
MOST_REMEMBERED = 10_000  # distinct texts per tally: a file of domains that occur once costs no more memory

_WARNINGS = {warn.name.lower(): warn for warn in Warn}  # by the column of judged rows
_COLUMNS = [
    "row_number", "reason", "consented", "country", "email_key", "phone_type", "email_typo_hint", *_WARNINGS
]  # fmt: skip


@dataclass(slots=True)
class Summary:
    """Counts of the rows judged so far; what the merge finds is added to them afterwards."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    consented: int = 0
    """Good rows with a basis of consent."""
    named_countries: int = 0
    """Good rows that name a country."""
    with_email: int = 0
    """Good rows with an e-mail address."""
    phone_types: Counter[str] = field(default_factory=Counter)
    imported: int | None = None
    """Contacts the good rows became; None until the merge."""
    duplicates: int | None = None
    """Good rows that repeat the address of another one; None until the merge."""
    _warnings: Counter[Warn] = field(default_factory=Counter)
    _first_rows: dict[Warn, list[int]] = field(default_factory=lambda: {warn: [] for warn in Warn})
    _typos: pl.DataFrame | None = None
    _domains: pl.DataFrame | None = None

    @property
    def refused(self) -> int:
        """Rows with a reason."""
        return self.reasons.total()

    @property
    def good(self) -> int:
        """Rows without one."""
        return self.rows - self.refused

    def add(self, judged: pl.DataFrame) -> None:
        """Count a chunk of judged rows."""
        self.rows += judged.height
        self.reasons.update(_counts(judged["reason"]))
        good = judged.select(_COLUMNS).filter(pl.col("reason").is_null())
        self.consented += int(good["consented"].sum())
        self.named_countries += int((good["country"].is_not_null() | good["country_unknown"]).sum())
        self.phone_types.update(_counts(good["phone_type"]))
        self._typos = _tally(self._typos, good["email_typo_hint"])
        # The last @ counts: a quoted local part may hold others.
        domains = good["email_key"].str.split("@").list.last()
        self.with_email += domains.len() - domains.null_count()
        self._domains = _tally(self._domains, domains)
        warned = good.select(pl.col(_WARNINGS.keys()).sum()).row(0, named=True)
        for column, warn in _WARNINGS.items():
            self._warnings[warn] += warned[column]
            missing = FIRST_ROWS - len(self._first_rows[warn])
            if missing and warned[column]:
                self._first_rows[warn] += good["row_number"].filter(good[column]).head(missing).to_list()

    def warned(self) -> list[Warned]:
        """Return what is worth a look, in the order of `Warn`."""
        return [
            Warned(
                warning=warn,
                rows=self._warnings[warn],
                first_rows=self._first_rows[warn],
                suggestions=_most(self._typos, MOST_TYPOS) if warn is Warn.EMAIL_TYPO else {},
            )
            for warn in Warn
            if self._warnings[warn]
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what `imports.summary` keeps, as JSON types; `domains` are the most frequent ones."""
        return {
            "rows": self.rows,
            "refused": self.refused,
            "reasons": dict((+self.reasons).most_common()),
            "imported": self.imported,
            "duplicates": self.duplicates,
            "consented": self.consented,
            "named_countries": self.named_countries,
            "unknown_countries": self._warnings[Warn.COUNTRY_UNKNOWN],
            "with_email": self.with_email,
            "domains": _most(self._domains, MOST_DOMAINS),
            "phone_types": dict(self.phone_types.most_common()),
            "warnings": [warned.model_dump() for warned in self.warned()],
        }


def _counts(texts: pl.Series) -> dict[str, int]:
    return dict(texts.drop_nulls().value_counts().iter_rows())


def _tally(so_far: pl.DataFrame | None, texts: pl.Series) -> pl.DataFrame:
    """Add texts to a tally: `text` and `rows`, of the most frequent ones."""
    counts = texts.drop_nulls().alias("text").value_counts(name="rows").cast({"rows": pl.Int64})
    if so_far is not None:
        counts = pl.concat([so_far, counts]).group_by("text").agg(pl.col("rows").sum())
    return counts if counts.height <= MOST_REMEMBERED else counts.top_k(MOST_REMEMBERED, by="rows")


def _most(tally: pl.DataFrame | None, number: int) -> dict[str, int]:
    if tally is None:
        return {}
    # By name among equals, so that two files alike give the same list.
    return dict(tally.sort(["rows", "text"], descending=[True, False]).head(number).iter_rows())
