"""Contacts: files into an audience, people in pasted text."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messaging.errors import ContractBreach, InputError, MessagingError
from messaging.reports import console
from outflow.running import AsJson, pair, reach_prefect, run, validated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.contacts import ImportReport, ImportRequest

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…",
        help="Contacts: CSV, Excel, ODS, Parquet, text; patterns such as '*.csv'; s3://bucket/file.",
    ),
]
Region = Annotated[
    str | None, typer.Option(help="Country of phone numbers without a country code, as in GB.")
]
ColumnMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="WHAT=COLUMN",
        help="Which column holds the email, phone, name, first_name, last_name, country, time_zone, "
        "language, consent or status; as often as needed.",
    ),
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--map-file", help="A mapping kept by --save-map; FILE.columns.yaml is used anyway."),
]
Encoding = Annotated[str | None, typer.Option(help="Encoding of text files, when the detected one is wrong.")]
SheetName = Annotated[str | None, typer.Option("--sheet", help="Sheet of a workbook.")]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file."""

    file: str
    report: "ImportReport | None" = None
    notes: list[str] = field(default_factory=list)
    """What the person should know of how the file was read; they may show cells."""
    error: MessagingError | None = None

    @property
    def problems(self) -> list[MessagingError]:
        """What went wrong: with the file, or after its load, which then stands."""
        found = [self.error] if self.error else []
        if self.report and self.report.problem and self.report.repeats is None:
            found.append(MessagingError(f"{self.report.file_name}: {self.report.problem}"))
        return found


def import_command(  # noqa: PLR0913, PLR0917 - one argument per option
    files: Files,
    audience: Annotated[str, typer.Option(help="Audience they join; made when it does not exist.")],
    region: Region = None,
    columns: ColumnMap = None,
    mapping_file: MappingFile = None,
    encoding: Encoding = None,
    sheet: SheetName = None,
    consent: Annotated[
        str | None,
        typer.Option(help="Why these people may be written to; kept with each contact that has none yet."),
    ] = None,
    on_duplicate: Annotated[
        str,
        typer.Option(
            metavar="fill|update|keep|refuse",
            help="fill: what is known stays, what is missing is added. update: the later row wins. "
            "keep: known contacts stay as they are. refuse: the row is refused.",
        ),
    ] = "fill",
    accept_breach: Annotated[
        str | None,
        typer.Option(
            "--accept-contract-breach", metavar="WHY", help="Load a file that breaks the audience's contract."
        ),
    ] = None,
    *,
    require_consent: Annotated[
        bool, typer.Option("--require-consent", help="Refuse rows whose consent column does not say yes.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Import anew what was imported before.")] = False,
    save_map: Annotated[
        bool,
        typer.Option(
            "--save-map",
            help="Keep the mapping beside each file (of s3:// and the like: here); later imports use it.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take every good row of files into an audience; keep every bad one with its reason."""
    from messaging.audience.mapping_file import check_place, mapping_of, save_mapping
    from messaging.audience.sources import find_files
    from schemas.contacts import ImportRequest

    asked = {
        "audience": audience,
        "consent": consent,
        "on_duplicate": on_duplicate,
        "accept_breach": accept_breach,
        "require_consent": require_consent,
        "again": again,
    }
    requests = [  # before Prefect is started, which takes seconds
        validated(
            ImportRequest,
            asked | {"files": [file]} | reading(file, region, columns, mapping_file, encoding, sheet),
        )
        for file in find_files(files)
    ]
    if save_map:
        for request in requests:
            check_place(mapping_of(request.files[0]))
    reach_prefect()
    from messaging.reports.imports import imports_json, show_import
    from messaging.reports.watching import with_import_progress

    imported = run(
        with_import_progress(import_one_by_one(requests)), "stopped; a file is loaded whole or not at all"
    )
    if as_json:
        console.show_json(
            imports_json(
                [one.report for one in imported if one.report],
                [problem for one in imported for problem in one.problems],
            )
        )
    for one in imported:
        if one.report and not as_json:
            show_import(one.report, one.notes)
        if one.report and save_map:
            place = mapping_of(one.file)
            save_mapping(place, one.report.mapping)
            console.say(f"the mapping is kept in {place}")
        for problem in one.problems:
            console.show_error(problem)
    if any(one.problems for one in imported):
        sys.exit(1)


def parse(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Text; without it, stdin.")] = None,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Find the names, addresses and numbers in pasted text, as CSV that `outflow import` takes."""
    from messaging.audience.parsing import parse_people, people_csv

    if file is None and sys.stdin.isatty():
        console.say("paste the text, then Ctrl-D")
    try:
        text = sys.stdin.read() if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the text cannot be read ({type(error).__name__}): it must be UTF-8") from None
    people = parse_people(text, region.upper() if region else None)
    if as_json:
        console.show_json({"people": [person.model_dump(mode="json") for person in people]})
    else:
        print(people_csv(people), end="")  # noqa: T201 - data for a file, not prose for a person
        console.say(f"{len(people):,} found")


def reading(  # noqa: PLR0913, PLR0917 - the options that two commands share
    file: str,
    region: str | None,
    columns: list[str] | None,
    mapping_file: Path | None,
    encoding: str | None,
    sheet: str | None,
) -> dict[str, Any]:
    """Return how a file is to be read, with the mapping that lies beside it or was named."""
    from messaging.audience.mapping_file import load_mapping, mapping_of

    mapping: dict[str, list[str]] = {}
    kept = mapping_of(file)
    if mapping_file is not None or kept.is_file():
        mapping = load_mapping(mapping_file or kept)
        console.say(f"columns are read as {mapping_file or kept} says")
    given: dict[str, list[str]] = {}
    for value in columns or []:
        role, column = pair(value, "--map")
        given.setdefault(role, []).append(column)
    return {
        "region": region.upper() if region else "",
        "columns": mapping | given,
        "encoding": encoding,
        "sheet": sheet,
    }


async def import_one_by_one(requests: "Sequence[ImportRequest]") -> list[Imported]:
    """Import one file per request, a flow run each, so that one that cannot be used stops no other."""
    return [await _import(request) for request in requests]


async def _import(request: "ImportRequest") -> Imported:
    from flows.import_contacts import import_contacts
    from messaging.storage.engine import engine
    from messaging.storage.imports import find_report

    [file] = request.files
    try:
        [report] = await import_contacts(request)
    except ContractBreach as error:
        report, notes = find_report(engine(), error.import_id)
        return Imported(file, report, notes, error)
    except MessagingError as error:
        return Imported(file, error=error)
    _, notes = find_report(engine(), report.import_id)
    return Imported(file, report, notes)
