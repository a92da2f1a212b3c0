"""Audiences: as a person keeps them in git (a list with its contract, or a filter), and in figures."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.base import OptionalText, Schema
from schemas.contract import Contract
from schemas.states import ImportState

AudienceName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]

Kind = Literal["list", "filter"]


class AudienceSpec(Schema):
    """One audience. With `members_of` or `where` it is a filter, evaluated whenever a campaign is planned."""

    name: AudienceName = Field(description="Its name in campaigns and imports.")
    description: OptionalText = Field(default="", description="What it is for.", max_length=10_000)
    members_of: list[AudienceName] = Field(
        default_factory=list,
        description="Audiences whose members it draws on; empty: every contact of the ledger.",
        max_length=100,
    )
    where: OptionalText = Field(
        default="",
        description='Which of them belong: country = "DE" and plan in ("pro", "team").',
        examples=['country = "DE" and plan in ("pro", "team")'],
        max_length=10_000,
    )
    contract: Contract = Field(
        default_factory=Contract, description="What a file must be like that is imported into this list."
    )

    @property
    def is_filter(self) -> bool:
        """Whether membership is computed rather than kept."""
        return bool(self.members_of or self.where.strip())

    @model_validator(mode="after")
    def _has_one_use(self) -> "AudienceSpec":
        if self.is_filter and self.contract != Contract():
            raise ValueError("nothing is imported into a filter, so it has no contract: give it to the lists")
        return self


class AudienceLine(Schema):
    """One audience among others."""

    name: str
    kind: Kind
    members: int | None = Field(description="None: the filter cannot be evaluated.")
    reachable: int | None = Field(description="Members that a campaign by e-mail would be sent to.")
    last_import: datetime | None
    problem: str = Field(default="", description="Why a filter cannot be evaluated.")


class ImportLine(Schema):
    """One import into an audience."""

    import_id: int
    state: ImportState
    file_name: str
    imported_at: datetime
    rows: int
    refused: int


class AudienceDetails(Schema):
    """One audience and all that is counted of it."""

    name: str
    kind: Kind
    description: str
    members_of: list[str]
    where: str
    contract: dict[str, float] = Field(description="Thresholds that are not the usual ones.")
    members: int
    having: dict[str, int] = Field(description="Members with a name, email, phone and consent.")
    statuses: dict[str, int] = Field(description="Members by subscription status.")
    reachable: int = Field(description="Members that a campaign by e-mail would be sent to.")
    excluded: dict[str, int] = Field(description="Members that it would leave out, by reason.")
    columns: dict[str, int] = Field(description="Members with a value, by the column's name.")
    imports: list[ImportLine] = Field(description="The last imports, newest first.")


class Counted(Schema):
    """Members of an audience for whom something holds."""

    audience: str
    where: str
    contacts: int
    reachable: int = Field(description="Of them, whom a campaign by e-mail would be sent to.")


class Saved(Schema):
    """What became of a definition."""

    audience: str
    kind: Kind
    created: bool
    unknown_fields: list[str] = Field(description="What the filter asks for and no contact has yet.")


class Changed(Schema):
    """How a list was changed by hand."""

    audience: str
    changed: int = Field(description="Contacts that joined or left.")
    members: int = Field(description="Contacts in the list now.")
    unknown: list[str] = Field(default_factory=list, description="Addresses of nobody.")
