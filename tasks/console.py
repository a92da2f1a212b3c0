"""The console that log lines go to, which may go away before we do."""

import contextlib
import logging

from prefect.logging.handlers import PrefectConsoleHandler


class ConsoleHandler(PrefectConsoleHandler):
    """Prefect's own, that falls silent when nobody reads it any more.

    A flow run outlives its worker when that is killed, and its next log line finds a closed pipe: rich then
    ends the process, in the middle of its messages.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log line, or nothing once the reader is gone."""
        with contextlib.suppress(SystemExit):
            super().emit(record)
