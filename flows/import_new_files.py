"""Whatever is new in a folder, into an audience."""

from prefect import flow

from schemas.contacts import ImportReport, WatchRequest
from tasks.importing import find_new_files, import_each


@flow(name="import-new-files", flow_run_name="import-new-files-into-{request.audience}")
async def import_new_files(request: WatchRequest) -> list[ImportReport]:
    """Import the files of a folder or bucket that its audience has not been given yet."""
    return await import_each(request, await find_new_files(request))
