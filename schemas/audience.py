"""Audiences as a person keeps them in git: a list with its contract, or a filter over contacts."""

from pydantic import Field

from schemas.base import OptionalText, Schema
from schemas.contract import Contract


class AudienceSpec(Schema):
    """One audience. With `members_of` or `where` it is a filter, evaluated whenever a campaign is planned."""

    name: str = Field(description="Its name in campaigns and imports.", min_length=1, max_length=200)
    description: OptionalText = Field(default="", description="What it is for.")
    members_of: list[str] = Field(
        default_factory=list,
        description="Audiences whose members it draws on; empty: every contact of the ledger.",
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
        return bool(self.members_of or self.where)
