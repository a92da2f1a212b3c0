"""What an import would say of a file or of addresses, without writing anything."""

from pathlib import Path

import polars as pl

from messaging.audience.emails import judge_emails
from messaging.audience.progress import tracked
from messaging.audience.screening import screened
from messaging.audience.verifying_domains import Resolving, ask_domains
from schemas.contacts import ImportOptions, Verification, VerifiedAddress
from schemas.states import DomainVerdict


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


async def with_domains(addresses: list[VerifiedAddress], resolving: Resolving) -> list[VerifiedAddress]:
    """Return them with what DNS says of their domains; those refused for their syntax as they are.

    Raises:
        InputError: This machine has no DNS server.
    """
    domains = {address.email: address.email.rpartition("@")[2] for address in addresses if address.email}
    asked = await ask_domains(domains.values(), resolving)
    said = {email: asked.verdicts.get(domain, DomainVerdict.UNKNOWN) for email, domain in domains.items()}
    return [address.model_copy(update={"domain": said.get(address.email)}) for address in addresses]
