"""The public pages against what they promise (openapi.json), by all of Schemathesis's checks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from messaging.campaign import preview_links
from messaging.tokens import Purpose, sign
from tests.messaging.web.site import Links, Site, running, sent

DOCUMENT = schemathesis.openapi.from_path(Path(__file__).with_name("openapi.json"))
EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
PURPOSES = {"/u/{token}": Purpose.UNSUBSCRIBE, "/p/{token}": Purpose.UNSUBSCRIBE, "/o/{token}": Purpose.OPEN}


@pytest.fixture(scope="module")
def described(migrated: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Links]]:
    with migrated.begin() as connection:
        connection.exec_driver_sql("TRUNCATE contacts, audiences, campaigns, audience_members CASCADE")
    links = sent(migrated, 3)
    with running(migrated, tmp_path_factory.mktemp("home")) as site:
        yield site, links


@DOCUMENT.parametrize()
@EXAMPLES
def test_whatever_is_asked_of_a_page_it_answers_as_described(case: schemathesis.Case, described):
    site, _ = described
    case.call_and_validate(base_url=site.url, timeout=30, allow_redirects=False)


@DOCUMENT.include(path_regex="token").parametrize()
@EXAMPLES
def test_and_also_for_links_that_are_good(case: schemathesis.Case, described):
    site, links = described
    if case.path == "/c/{token}":
        token = sign(links.key, Purpose.CLICK, links.tokens[1].bytes, str(case.query.get("to", "")))
    elif case.path == "/preview/{token}":
        token = preview_links.link(links.key, "faults", "").removeprefix("/preview/")
    else:
        token = sign(links.key, PURPOSES[case.path], links.tokens[1].bytes)
    case.path_parameters = {"token": token}
    case.call_and_validate(base_url=site.url, timeout=30, allow_redirects=False)
