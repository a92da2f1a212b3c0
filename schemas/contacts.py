"""What an import is asked to do and what it did."""

from pydantic import Field

from schemas.base import OptionalText, Schema

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"


class ImportRequest(Schema):
    """Parameters of the import-contacts flow: references to a file, never its rows."""

    file: str = Field(
        description="Path of the contacts file, as the worker sees it: examples/contacts.csv. "
        "CSV in UTF-8 with a header row.",
        examples=["examples/contacts.csv"],
        min_length=1,
    )
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
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Column mapping",
        description="Which column holds what, for headers that are not recognised: "
        '{"email": "Correo", "name": "Titular", "phone": "Contacto"}.',
    )
    consent: OptionalText = Field(
        default="",
        description="Why these people may be written to, kept with each new contact: "
        "newsletter form on example.org, 2026-10.",
        examples=["newsletter form on example.org, 2026-10"],
        max_length=1000,
        pattern=_ONE_LINE,
    )


class ImportReport(Schema):
    """Counts of one import: `rows` = `imported` + `duplicates` + `refused`."""

    import_id: int
    audience: str
    rows: int = Field(description="Rows in the file, the header and empty lines apart.")
    imported: int = Field(
        description="Contacts the audience was given: distinct addresses among the good rows."
    )
    refused: int = Field(description="Rows kept apart, each with its reason.")
    duplicates: int = Field(description="Good rows merged into another row with the same address.")
    reasons: dict[str, int] = Field(description="Refused rows by reason.")
    columns: dict[str, str] = Field(description="Which column was read as what.")
    attributes: list[str] = Field(description="Columns kept as attributes, usable in templates.")
    seconds: float
