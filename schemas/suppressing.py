"""What became of suppressions that a person added or lifted."""

from pydantic import Field

from schemas.base import Schema


class RefusedAddress(Schema):
    """What could not be read as an address."""

    row: int | None = Field(description="Its row in the file, as a spreadsheet counts; None: it was typed.")
    given: str = Field(description="As it was typed; empty: it stands in a file.")
    reason: str


class Suppressed(Schema):
    """What became of addresses to be suppressed."""

    added: int = Field(description="Addresses that were not suppressed before.")
    known: int = Field(description="Addresses that were already.")
    refused: list[RefusedAddress]
    seconds: float


class Lifted(Schema):
    """What became of addresses that may be written to again."""

    lifted: int
    unknown: list[str] = Field(description="Addresses, as typed, that are not suppressed.")
    still_unsubscribed: list[str] = Field(
        description="Addresses whose contact is unsubscribed, or has left an audience: these wishes stay."
    )
