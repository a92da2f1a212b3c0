"""The web app on an empty ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.messaging.web.site import Site, running


@pytest.fixture
def site(ledger: Engine, tmp_path: Path) -> Iterator[Site]:
    with running(ledger, tmp_path) as opened:
        yield opened
