"""Everything on one machine, in the foreground: Prefect's server and a worker."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from messaging.errors import InputError, MessagingError

_NOTE = "up.json"  # in Outflow's folder: where the server that `outflow up` started listens
_STARTUP_SECONDS = 180.0
_STOP_SECONDS = 15.0
_RUNS_STOP_SECONDS = 8.0  # docker stop grants 10


def choose_server(home: Path, say: Callable[[str], None]) -> None:
    """Settle which Prefect server this process uses: the one configured, else that of `outflow up`.

    Else Prefect starts a temporary one. Must come before anything imports a flow.

    Raises:
        InputError: A server is configured and does not answer.
    """
    if "PREFECT_API_URL" not in os.environ and (found := _running_server(home)) is not None:
        os.environ["PREFECT_API_URL"] = found
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - reads the environment when imported

    api_url = PREFECT_API_URL.value()
    if api_url is None:
        say("no Prefect server is running, so a temporary one starts (some seconds; `outflow up` keeps one)")
    elif not answers(str(api_url)):
        raise InputError(
            f"the Prefect server at {api_url} does not answer: "
            "start it (outflow up), or unset PREFECT_API_URL"
        )


def _running_server(home: Path) -> str | None:
    """Return the API address of the server that `outflow up` started on this home, if it answers."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        api_url = str(json.loads((home / _NOTE).read_text())["api_url"])
        if answers(api_url):
            return api_url
    return None


def answers(api_url: str) -> bool:
    """Say whether a Prefect server answers at this API address."""
    if not api_url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=5) as response:  # noqa: S310 - checked above
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP OK
    except (OSError, urllib.error.URLError, ValueError):
        return False


@asynccontextmanager
async def server(home: Path, host: str, port: int) -> AsyncIterator[str]:
    """Run a Prefect server while the block runs, and yield its API address.

    Raises:
        MessagingError: It did not start, most often because the port is taken.
    """
    api_url = f"http://{host}:{port}/api"
    if answers(api_url):
        raise MessagingError(
            f"a Prefect server answers at {api_url} already: use it, or choose another --port"
        )
    command = ["server", "start", "--host", host, "--port", str(port)]
    async with _process(command, {"PREFECT_UI_API_URL": api_url}) as process:
        deadline = time.monotonic() + _STARTUP_SECONDS
        while not await asyncio.to_thread(answers, api_url):
            if process.returncode is not None or time.monotonic() > deadline:
                raise MessagingError(f"the Prefect server did not start: is port {port} taken?")
            await asyncio.sleep(0.3)
        with _noted(home, api_url):
            yield api_url


@contextmanager
def _noted(home: Path, api_url: str) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    note = home / _NOTE
    note.write_text(json.dumps({"api_url": api_url}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@asynccontextmanager
async def worker(pool: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process worker of that pool while the block runs."""
    async with _process(["worker", "start", "--pool", pool, "--type", "process"], {}) as process:
        try:
            yield process
        finally:
            await asyncio.to_thread(_stop_runs, process.pid)


def _stop_runs(worker_pid: int) -> None:
    """Let the worker's flow runs hear the answers to what they have in flight.

    A worker that is told to stop kills its runs at once.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        runs = psutil.Process(worker_pid).children(recursive=True)
        for run in runs:
            with contextlib.suppress(psutil.NoSuchProcess):
                run.terminate()
        psutil.wait_procs(runs, timeout=_RUNS_STOP_SECONDS)


@asynccontextmanager
async def _process(
    command: list[str], environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    # In a session of its own: Ctrl-C reaches only us, and we stop worker and server in that order.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "prefect",
        *command,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
