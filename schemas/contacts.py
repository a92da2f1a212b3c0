"""What an import is asked to do and what it did."""

from enum import StrEnum

from pydantic import Field, field_validator

from schemas.base import OptionalText, Schema
from schemas.contract import ContractResult
from schemas.states import DomainVerdict

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"


class OnDuplicate(StrEnum):
    """What a row does whose address the file or the ledger has already."""

    FILL = "fill"  # what is known stays; what is missing is filled in
    UPDATE = "update"  # what the later row says replaces what was known; its empty cells replace nothing
    KEEP = "keep"  # contacts of the ledger stay as they are; they join the audience
    REFUSE = "refuse"  # the row is refused


class ImportOptions(Schema):
    """How files are read and what their rows do."""

    audience: str = Field(
        description="Audience the contacts join; made when it does not exist.",
        examples=["customers"],
        min_length=1,
        max_length=200,
        pattern=_ONE_LINE,
    )
    region: OptionalText = Field(
        default="",
        description="Country of phone numbers without a country code, as two letters of ISO 3166: GB.",
        examples=["GB"],
        pattern=r"^([A-Z]{2})?$",
    )
    columns: dict[str, list[str]] = Field(
        default_factory=dict,
        title="Column mapping",
        description="Which columns hold what, for those that are not recognised: "
        '{"email": ["Correo"], "phone": ["Movil", "Fijo"], "name": ["Titular"]}.',
    )
    encoding: OptionalText = Field(
        default="",
        description="Encoding of text files when the detected one is wrong: utf-8, cp1252, cp1251 and so on.",
        examples=["cp1252"],
        max_length=40,
    )
    sheet: OptionalText = Field(
        default="",
        description="Sheet of a workbook; empty: the one that looks like contacts.",
        max_length=100,
    )
    consent: OptionalText = Field(
        default="",
        description="Why these people may be written to, kept with each contact that has no consent yet: "
        "newsletter form on example.org, 2026-10. Who has none is left out of campaigns.",
        examples=["newsletter form on example.org, 2026-10"],
        max_length=1000,
        pattern=_ONE_LINE,
    )
    require_consent: bool = Field(
        default=False, description="Refuse rows whose consent column does not say yes."
    )
    on_duplicate: OnDuplicate = Field(
        default=OnDuplicate.FILL,
        description="fill: keep what is known of a contact, add what is missing. update: the later row wins. "
        "keep: known contacts stay as they are. refuse: the row is refused.",
    )
    again: bool = Field(
        default=False, description="Import a file anew that was imported into this audience before."
    )
    accept_breach: OptionalText = Field(
        default="",
        title="Accept a breach of the contract",
        description="Why files that break the audience's contract are loaded all the same; who said so is "
        "recorded with it.",
        max_length=1000,
        pattern=_ONE_LINE,
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {role: [names] if isinstance(names, str) else names for role, names in value.items()}


class ImportRequest(ImportOptions):
    """Parameters of the import-contacts flow: references to files, never their rows."""

    files: list[str] = Field(
        description="Contacts files, as the worker sees them: paths such as examples/contacts.csv, patterns "
        "such as incoming/*.xlsx, s3://bucket/contacts.csv, or a storage block and a path in it, as in "
        "block:local-file-system/exports/contacts.csv.",
        examples=[["examples/contacts.csv"]],
        min_length=1,
    )


class WatchRequest(ImportOptions):
    """Parameters of the import-new-files flow."""

    folder: str = Field(
        description="Folder or bucket whose new files are imported: /data/incoming, s3://bucket/incoming.",
        examples=["/data/incoming"],
        min_length=1,
    )
    pattern: str = Field(
        default="*", description="Which of its files: *.csv, customers-*.xlsx.", min_length=1
    )


class ReadColumn(Schema):
    """What was understood of one column of a file."""

    column: str = Field(description="Its name in the header.")
    role: str = Field(description="email, phone, name, ..., attribute or empty.")
    how: str = Field(description="header, chosen, or content with the share of values that look like it.")
    field: str = Field(default="", description="An attribute's name in templates.")


class Warned(Schema):
    """Rows that were taken and are worth a look."""

    warning: str
    rows: int
    first_rows: list[int] = Field(description="Row numbers of the first few.")
    suggestions: dict[str, int] = Field(
        default_factory=dict, description="Likely domains for mistyped ones, as `gmial.com → gmail.com`."
    )


class ImportReport(Schema):
    """Counts of one file; of a loaded one, `rows` = `imported` + `duplicates` + `refused`."""

    import_id: int
    audience: str
    file_name: str
    format: str = Field(description="What the file was read as, in words.")
    encoding: OptionalText = ""
    loaded: bool = Field(description="False when the contract stopped it.")
    repeats: int | None = Field(
        default=None,
        description="The import that had brought this same file before: nothing was done now, and the "
        "figures are that one's.",
    )
    rows: int = Field(description="Rows in the file, the header and empty lines apart.")
    imported: int = Field(
        description="Contacts the audience was given: distinct addresses among the good rows."
    )
    new: int = Field(default=0, description="Of them, contacts the ledger had not known.")
    refused: int = Field(description="Rows kept apart, each with its reason.")
    duplicates: int = Field(
        description="Good rows that repeat the address of another one; loaded, they are merged into it."
    )
    reasons: dict[str, int] = Field(description="Refused rows by reason.")
    warnings: list[Warned] = Field(default_factory=list)
    columns: list[ReadColumn] = Field(description="Each column of the file, in its order.")
    without_consent: int = Field(
        default=0, description="Contacts of this file whom no campaign writes to: nobody recorded a consent."
    )
    contract: ContractResult | None = Field(default=None, description="None when it was not asked.")
    refused_file: str = Field(default="", description="CSV of the refused rows; empty: there are none.")
    contract_page: str = Field(default="", description="HTML page of the contract's result.")
    problem: str = Field(
        default="", description="What could not be written for people after the load, which stands."
    )
    seconds: float

    @property
    def mapping(self) -> dict[str, list[str]]:
        """The columns by what they were read as, as `ImportOptions.columns` takes it."""
        found: dict[str, list[str]] = {}
        for column in self.columns:
            if column.role not in {"attribute", "empty"}:
                found.setdefault(column.role, []).append(column.column)
        return found


class Verification(Schema):
    """What an import would say of a file."""

    file_name: str
    format: str
    encoding: str
    notes: list[str]
    rows: int
    refused: int
    reasons: dict[str, int]
    warnings: list[Warned]
    columns: list[ReadColumn]


class VerifiedAddress(Schema):
    """One e-mail address, by its syntax and its domain."""

    given: str
    email: str = Field(description="As it would be used; empty: refused.")
    reason: str = Field(description="Why it would be refused.")
    suggestion: str = Field(description="A likelier domain, when this one looks mistyped.")
    domain: DomainVerdict | None = Field(
        default=None, description="Whether its domain takes mail, when DNS was asked."
    )

    @property
    def is_bad(self) -> bool:
        """Whether mail to it would come back, as far as that is known."""
        return bool(self.reason) or self.domain not in {None, DomainVerdict.TAKES_MAIL, DomainVerdict.UNKNOWN}


class Person(Schema):
    """Somebody found in free text."""

    line: int
    name: str
    email: str
    phone: str
