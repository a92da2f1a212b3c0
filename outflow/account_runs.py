"""How many flow runs may use an account at once: a limit that is kept in Prefect."""

import os

from messaging.errors import InputError
from outflow.running import reach_prefect, run

NONE = "none"  # lifts it
_MOST = 1000


def number_of_runs(typed: str) -> int | None:
    """Return what a person typed as a limit of runs; None: there is to be none.

    Raises:
        InputError: It is no number of runs.
    """
    if typed == NONE:
        return None
    if not (typed.isascii() and typed.isdigit() and 0 < int(typed) <= _MOST):
        raise InputError(f"runs: {typed!r} is not a number of runs: write one such as 1, or {NONE}")
    return int(typed)


def limit_runs(account: str, runs: int | None) -> None:
    """Let at most so many runs use an account at once; None lifts the limit."""
    reach_prefect()
    from tasks import slots

    run(slots.limit_runs(account, runs))


def runs_at_once(account: str) -> int | None:
    """Return how many runs may use an account at once; None: any number, or no Prefect server is running.

    None is started only to look.
    """
    from deployments.serving import running_server
    from messaging.settings import settings

    if "PREFECT_API_URL" not in os.environ and running_server(settings().home) is None:
        return None
    reach_prefect()
    from tasks import slots

    return run(slots.runs_at_once(account))
