"""Contacts in."""

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from messaging.audience import importing
from messaging.storage.engine import engine
from schemas.contacts import ImportReport, ImportRequest
from tasks.guarding import in_thread


@task(task_run_name="import-file-into-{request.audience}", cache_policy=NO_CACHE)
async def import_file(request: ImportRequest) -> ImportReport:
    """Read, judge and load a contacts file."""
    return await in_thread(lambda: importing.import_file(engine(), request))


@task(task_run_name="report-import-{report.import_id}", cache_policy=NO_CACHE)
async def report_import(report: ImportReport) -> None:
    """Show an import's counts and refusal reasons as a table artifact."""
    counts = {"rows": report.rows, "imported": report.imported, "duplicates": report.duplicates}
    table = [{"what": what, "rows": n} for what, n in counts.items()]
    table += [{"what": f"refused: {reason}", "rows": n} for reason, n in report.reasons.items()]
    await acreate_table_artifact(
        table,
        key=f"import-{report.import_id}",
        description=f"Import {report.import_id} into audience {report.audience}: {report.imported:,} of "
        f"{report.rows:,} rows imported in {report.seconds:.1f} s, {report.refused:,} refused.",
    )
