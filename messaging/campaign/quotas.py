"""What a provider allows an account: asked while a campaign is sent, and kept in the ledger for everyone."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from sqlalchemy import Engine

from messaging.channels.base import SenderPool
from messaging.errors import AccountError, DatabaseError, NotSent
from messaging.storage import campaigns, limits
from messaging.storage.failing import database_errors, through_outage
from messaging.storage.limits import Limit, Portfolio

_log = logging.getLogger(__name__)

QUOTA_SECONDS: Final = 300.0  # between two questions: Amazon SES raises a quota while messages go


@runtime_checkable
class InPortfolio(Protocol):
    """A pool whose account shares a daily limit with others: Meta's, of a business portfolio."""

    @property
    def portfolio(self) -> str:
        """Its name; nothing, if the account stands alone."""
        ...

    @property
    def portfolio_limit(self) -> int | None:
        """Different people in any 24 hours outside of service windows; None for any number."""
        ...


class Quotas:
    """Keeps an account's quota in the ledger up to date while a campaign is sent, for `async with`."""

    def __init__(  # noqa: PLR0913, PLR0917 - all of it belongs to one account in use
        self,
        engine: Engine,
        campaign_id: int,
        account: str,
        pool: SenderPool,
        stopped: Callable[[str], None],
        every: float = QUOTA_SECONDS,
    ) -> None:
        """Ask nothing yet; `stopped` will hear why the account cannot go on, `every` is in seconds."""
        self._engine = engine
        self._campaign_id = campaign_id
        self._account = account
        self._pool = pool
        self._stopped = stopped
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Ask for the first time, so that the first message already keeps to it.

        Raises:
            AccountError: The account cannot go on; the campaign is paused.
            DatabaseError: The ledger stayed away.
        """
        try:
            await self._ask()
        except AccountError as error:
            with contextlib.suppress(DatabaseError):
                await self._pause(str(error))
            raise
        self._task = asyncio.create_task(self._keep_asking())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask no more; what was said stays until somebody asks again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._ask()
            except AccountError as error:
                _log.error("%s: %s; the campaign is paused", self._account, error)
                with contextlib.suppress(DatabaseError):
                    await self._pause(str(error))
            except DatabaseError:
                _log.warning("%s: what its provider allows could not be kept for now", self._account)

    async def _ask(self) -> None:
        try:
            quota = await self._pool.quota()
        except NotSent as error:
            _log.warning("%s: the provider did not say what it allows (%s)", self._account, error)
            return
        pool, portfolio = self._pool, None
        if isinstance(pool, InPortfolio) and pool.portfolio and pool.portfolio_limit is not None:
            portfolio = Portfolio(pool.portfolio, pool.portfolio_limit)
        await through_outage(lambda: self._keep(Limit(quota.rate, quota.per_day), portfolio))

    def _keep(self, quota: Limit, portfolio: Portfolio | None) -> None:
        with self._engine.begin() as connection:
            limits.set_quota(connection, self._account, quota, portfolio)

    async def _pause(self, reason: str) -> None:
        # As for a refused login while sending: whoever is left stays queued, and a person resumes.
        self._stopped(reason)
        await asyncio.to_thread(self._pause_campaign, reason)

    def _pause_campaign(self, reason: str) -> None:
        with database_errors(), self._engine.begin() as connection:
            campaigns.pause(connection, self._campaign_id, reason)
