"""Contacts from a file into an audience."""

from prefect import flow

from schemas.contacts import ImportReport, ImportRequest
from tasks.importing import import_file, report_import


@flow(name="import-contacts", flow_run_name="import-into-{request.audience}")
async def import_contacts(request: ImportRequest) -> ImportReport:
    """Read a contacts file, take every good row into an audience, keep every bad one with its reason."""
    report = await import_file(request)
    await report_import(report)
    return report
