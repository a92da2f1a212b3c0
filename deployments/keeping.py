"""A process that is kept running: started again when it dies."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from messaging.errors import MessagingError

MOST_DEATHS: Final = 5
WITHIN_SECONDS: Final = 60.0
_REST_SECONDS: Final = 1.0  # before it is started again
_STOP_SECONDS: Final = 15.0


class Kept:
    """A process of `python -m …` that is started again when it dies, for `async with`."""

    def __init__(
        self, what: str, command: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        """Start nothing yet; `what` names it for people, who are told by `say`."""
        self._what = what
        self._command = command
        self._environment = environment
        self._say = say
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self._process.pid if self._process else 0

    @property
    def has_died(self) -> bool:
        """Whether it has, since the beginning."""
        return bool(self._deaths)

    async def __aenter__(self) -> Self:
        """Start the process."""
        self._process = await self._start()
        self._keeping = asyncio.create_task(self._keep(self._process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        await self.stop()

    async def stop(self) -> None:
        """Stop it for good; one that does not listen is killed, and so it is when nobody waits any longer."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            except asyncio.CancelledError:
                self._process.kill()
                raise

    async def given_up(self) -> None:
        """Wait until it has died too often.

        Raises:
            MessagingError: Then.
        """
        if self._keeping is not None:
            await asyncio.shield(self._keeping)

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            how = await process.wait()
            self._deaths.append(clock())
            if len(self._deaths) == MOST_DEATHS and clock() - self._deaths[0] < WITHIN_SECONDS:
                often = f"{MOST_DEATHS} times within a minute"
                raise MessagingError(f"the {self._what} died {often}: `outflow --verbose up` shows why")
            self._say(f"the {self._what} has died ({_cause(how)}), so it is started again")
            await asyncio.sleep(_REST_SECONDS)
            process = self._process = await self._start()

    async def _start(self) -> asyncio.subprocess.Process:
        # In a session of its own: Ctrl-C reaches only us, and we stop them all in order.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *self._command,
            env={**os.environ, **self._environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )


def _cause(returned: int) -> str:
    if returned >= 0:
        return f"exit code {returned}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-returned).name
    return f"signal {-returned}"
