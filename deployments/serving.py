"""Everything on one machine, in the foreground: Prefect's server, a worker and the web app."""

import asyncio
import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import psutil

from deployments import prefect_database
from deployments.keeping import Kept
from messaging.errors import InputError, MessagingError
from messaging.settings import Settings

_NOTE = "up.json"  # in Outflow's folder: where the server that `outflow up` started listens
_STARTUP_SECONDS = 180.0
_WEB_STARTUP_SECONDS = 60.0
_STOP_SECONDS = 15.0
_RUNS_STOP_SECONDS = 8.0  # docker stop grants 10
_OURS = "OUTFLOW_UP"  # in the environment of workers, and so of their runs: who keeps them running


def choose_server(chosen: Settings, say: Callable[[str], None]) -> None:
    """Settle which Prefect server this process uses: the one configured, else that of `outflow up`.

    Else Prefect starts a temporary one. Must come before anything imports a flow.

    Raises:
        InputError: A server is configured and does not answer.
        DatabaseError: The database of a temporary server did not start.
    """
    if "PREFECT_API_URL" not in os.environ and (found := running_server(chosen.home)) is not None:
        os.environ["PREFECT_API_URL"] = found
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - reads the environment when imported

    configured = PREFECT_API_URL.value()
    if configured is None:
        say("no Prefect server is running, so a temporary one starts (some seconds; `outflow up` keeps one)")
        os.environ.update(prefect_database.environment(chosen))
    elif not answers(str(configured)):
        raise InputError(
            f"the Prefect server at {configured} does not answer: "
            "start it (outflow up), or unset PREFECT_API_URL"
        )


def running_server(home: Path) -> str | None:
    """Return the API address of the server that `outflow up` started on this home, if it answers."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = str(json.loads((home / _NOTE).read_text())["api_url"])
        if answers(url):
            return url
    return None


def answers(url: str) -> bool:
    """Say whether a Prefect server answers at this API address."""
    return _is_healthy(url)


def _is_healthy(url: str) -> bool:
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as response:  # noqa: S310 - checked above
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP OK
    except (OSError, urllib.error.URLError, ValueError):
        return False


def api_url(host: str, port: int) -> str:
    """Return where the server that `outflow up` starts there will be reached."""
    return f"http://{host}:{port}/api"


@asynccontextmanager
async def server(chosen: Settings, host: str, port: int, say: Callable[[str], None]) -> AsyncIterator[Kept]:
    """Keep a Prefect server running while the block runs; yield what keeps it.

    Raises:
        MessagingError: It did not start, most often because the port is taken; or its database did not.
    """
    url = api_url(host, port)
    if answers(url):
        raise MessagingError(f"a Prefect server answers at {url} already: use it, or choose another --port")
    command = ["prefect", "server", "start", "--host", host, "--port", str(port)]
    surroundings = prefect_database.environment(chosen) | {"PREFECT_UI_API_URL": url}
    server = Kept("Prefect server", command, surroundings, say)
    async with server:
        deadline = time.monotonic() + _STARTUP_SECONDS
        while not await asyncio.to_thread(answers, url):
            if server.has_died or time.monotonic() > deadline:
                raise MessagingError(f"the Prefect server did not start: is port {port} taken?")
            await asyncio.sleep(0.3)
        with _noted(chosen.home, url):
            yield server


@contextmanager
def _noted(home: Path, url: str) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    note = home / _NOTE
    note.write_text(json.dumps({"api_url": url}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@asynccontextmanager
async def workers(
    pool: str, number: int, say: Callable[[str], None], *options: str
) -> AsyncIterator[list[Kept]]:
    """Keep process workers of that pool running while the block runs; yield what keeps them.

    Their runs end with them, also those of a worker that has died. `options` are more of those of `prefect
    worker start`.
    """
    command = ["prefect", "worker", "start", "--pool", pool, "--type", "process", *options]
    ours = uuid4().hex  # other workers of this process end with their own block
    async with AsyncExitStack() as running:
        kept = [
            await running.enter_async_context(Kept("worker", command, {_OURS: ours}, say))
            for _ in range(number)
        ]
        try:
            yield kept
        finally:
            await asyncio.to_thread(_stop_runs, ours, {worker.pid for worker in kept})
            await asyncio.gather(*(worker.stop() for worker in kept))


@asynccontextmanager
async def web_app(host: str, port: int, say: Callable[[str], None]) -> AsyncIterator[tuple[str, Kept]]:
    """Keep the web app running while the block runs; yield its address, and what keeps it.

    Raises:
        MessagingError: It did not start, most often because the port is taken.
    """
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if await asyncio.to_thread(_is_healthy, url):
        raise MessagingError(f"a web app answers at {url} already: stop it, or choose another --web-port")
    async with Kept("web app", ["outflow", "web", "--host", host, "--port", str(port)], {}, say) as web:
        deadline = time.monotonic() + _WEB_STARTUP_SECONDS
        while not await asyncio.to_thread(_is_healthy, url):
            if web.has_died or time.monotonic() > deadline:
                raise MessagingError(f"the web app did not start: is port {port} taken? (--web-port)")
            await asyncio.sleep(0.2)
        yield url, web


def _stop_runs(ours: str, workers: Collection[int]) -> None:
    """Let the workers' flow runs hear the answers to what they have in flight.

    A worker that is told to stop kills its runs at once; the runs of one that has died live on without it.
    """
    runs = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in workers and process.environ().get(_OURS) == ours:
                process.terminate()
                runs.append(process)
    psutil.wait_procs(runs, timeout=_RUNS_STOP_SECONDS)
