"""What an import would say of a file or of addresses, without writing anything."""

from pathlib import Path

import polars as pl

from messaging.audience.emails import judge_emails
from messaging.audience.progress import tracked
from messaging.audience.screening import screened
from schemas.contacts import ImportOptions, Verification, VerifiedAddress


def verify_file(path: Path, options: ImportOptions) -> Verification:
    """Judge a contacts file row by row and count; repeated addresses are not looked for.

    Raises:
        InputError: The file or the options cannot be used.
    """
    with tracked(path) as progress, screened(path, options, progress) as screening:
        for _ in screening.judged:
            pass
        summary = screening.summary
        return Verification(
            file_name=path.name,
            format=screening.layout.format,
            encoding=screening.layout.encoding or "",
            notes=screening.notes,
            rows=summary.rows,
            refused=summary.refused,
            reasons=dict(summary.reasons.most_common()),
            warnings=summary.warned(),
            columns=screening.read_columns(),
        )


def verify_addresses(addresses: list[str]) -> list[VerifiedAddress]:
    """Judge e-mail addresses by their syntax."""
    given = pl.Series("given", [address.strip() for address in addresses], dtype=pl.String)
    judged = {row["given"]: row for row in judge_emails(given).iter_rows(named=True)}
    return [
        VerifiedAddress(
            given=address,
            email=judged[address]["email"] or "",
            reason=judged[address]["email_reason"] or "",
            suggestion=judged[address]["email_typo"] or "",
        )
        for address in given
    ]
