"""`outflow up` also serves the public pages, and stops doing so when it ends."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.deployments.conftest import another, installed


@pytest.fixture
def own(home: Path, database_url: str, tmp_path: Path) -> Iterator[SimpleNamespace]:
    with installed(another(home, database_url, tmp_path)) as running:
        yield running


def health(url: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:  # noqa: S310 - on loopback
        return json.load(answer)


def test_up_serves_the_public_pages_until_it_is_stopped(own: SimpleNamespace):
    arguments = own.process.cmdline()
    url = f"http://127.0.0.1:{arguments[arguments.index('--web-port') + 1]}"
    said = (Path(own.environment["PREFECT_HOME"]) / "up.log").read_text()
    assert f"Web app     {url}" in said
    assert health(url)["status"] == "ok"
    web = [p for p in own.process.children() if "outflow" in p.cmdline() and "web" in p.cmdline()]
    assert len(web) == 1
    own.process.terminate()
    web[0].wait(60)
    with pytest.raises(urllib.error.URLError):
        health(url)
