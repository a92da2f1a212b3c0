"""The database goes away while people read their mail: nothing is lost, nobody is told what is not so."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from messaging.web.tracking import PIXEL
from tests.faults.cluster import Cluster
from tests.faults.cluster import running as running_cluster
from tests.messaging.web.site import TIMEOUT, Links, Site, rows, running, sent, until

SHOP = "https://shop.example.org/offer"
OUTFLOW = str(Path(sys.executable).with_name("outflow"))
OPENS = "SELECT count(*) FROM events WHERE kind = 'opened'"
CLICKS = "SELECT count(*) FROM events WHERE kind = 'clicked'"


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own."""
    assert database_url  # the shared one has made the user that ours runs as
    with running_cluster() as own:
        yield own
        own.ledger.dispose()


@contextlib.contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    cluster.stop()
    try:
        yield
    finally:
        cluster.start()


@contextlib.contextmanager
def web(home: Path, url: str) -> Iterator[tuple[Site, "subprocess.Popen[str]"]]:
    """Run `outflow web` as a person does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OUTFLOW_HOME": str(home), "OUTFLOW_DATABASE_URL": url}
    process = subprocess.Popen(
        [OUTFLOW, "web", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    site = Site(port, home)

    def answers() -> bool:
        assert process.poll() is None, process.communicate()[0]
        with contextlib.suppress(OSError):
            return site.get("/robots.txt").status == 200
        return False

    try:
        until(answers, 60)
        yield site, process
    finally:
        site.close()
        process.kill()
        process.communicate()


def look(site: Site, links: Links, count: int) -> None:
    """Open and click as many messages."""
    for n in range(count):
        opened = site.get(links.pixel(n))
        assert (opened.status, opened.body) == (200, PIXEL)
        clicked = site.get(links.click(SHOP, n))
        assert (clicked.status, clicked.headers["location"]) == (302, SHOP)


def test_pixel_and_links_work_and_hits_are_kept_on_disk_until_it_is_back(cluster: Cluster, tmp_path: Path):
    links = sent(cluster.ledger, 200)
    with running(cluster.ledger, tmp_path) as site:
        look(site, links, 5)
        until(lambda: rows(cluster.ledger, CLICKS) == [(5,)])
        with away(cluster):
            look(site, links, 100)
            until(lambda: site.journal and site.health["journal"]["in_memory"] == 0)
            assert stat.S_IMODE(site.journal[0].stat().st_mode) == 0o600
            health = site.get("/health")
            assert health.status == 200
            assert site.health["status"] == "degraded"
            assert site.health["database"] == "away"
            assert site.health["journal"]["lost"] == 0
        until(lambda: not site.journal, 60)
        assert rows(cluster.ledger, OPENS) == [(105,)]
        assert rows(cluster.ledger, CLICKS) == [(105,)]
        until(lambda: site.health["status"] == "ok")


def test_who_unsubscribes_meanwhile_is_told_to_come_again(cluster: Cluster, tmp_path: Path):
    links = sent(cluster.ledger, 2)
    with running(cluster.ledger, tmp_path) as site:
        with away(cluster):
            for answer in (
                site.get(links.unsubscribe()),
                site.one_click(links.unsubscribe()),
                site.post(links.unsubscribe(), "from=everything"),
                site.post(links.preferences(), "do=save&nothing=yes"),
            ):
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
                assert "nothing was changed" in answer.text
        assert rows(cluster.ledger, "SELECT count(*) FROM audience_opt_outs") == [(0,)]
        assert site.one_click(links.unsubscribe()).status == 200
        assert rows(cluster.ledger, "SELECT count(*) FROM audience_opt_outs") == [(1,)]


def test_an_unsubscription_is_answered_only_when_it_is_committed(cluster: Cluster, tmp_path: Path):
    """While it is restarted again and again, each 200 stands for a row in the ledger."""
    links = sent(cluster.ledger, 150)
    said: list[int] = []
    with running(cluster.ledger, tmp_path) as site:
        for n in range(150):
            if n in {20, 60, 100}:
                cluster.restart("immediate")
            if site.one_click(links.unsubscribe(n)).status == 200:
                said.append(n)
    found = {key for (key,) in rows(cluster.ledger, "SELECT address_key FROM audience_opt_outs")}
    assert {f"reader{n + 1}@example.org" for n in said} <= found
    assert len(said) > 100


def test_hits_of_a_killed_process_are_replayed_by_the_next(cluster: Cluster, tmp_path: Path):
    links = sent(cluster.ledger, 50)
    with web(tmp_path, cluster.url) as (site, process):
        with away(cluster):
            look(site, links, 50)
            until(lambda: site.journal and site.health["journal"]["in_memory"] == 0)
            process.kill()
            process.wait(TIMEOUT)
        [kept] = site.journal
        kept.write_bytes(kept.read_bytes() + b'{"id":"torn')  # as a crash leaves it
    assert rows(cluster.ledger, OPENS) == [(0,)]
    with web(tmp_path, cluster.url) as (site, _):
        until(lambda: not site.journal, 60)
    assert rows(cluster.ledger, OPENS) == [(50,)]
    assert rows(cluster.ledger, CLICKS) == [(50,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_it_loses_no_hit(cluster: Cluster, tmp_path: Path, number: signal.Signals):
    links = sent(cluster.ledger, 100)
    with web(tmp_path, cluster.url) as (site, process):
        look(site, links, 100)
        process.send_signal(number)
        said = process.communicate(timeout=TIMEOUT)[0]
        assert process.returncode == 0, said
    assert rows(cluster.ledger, OPENS) == [(100,)]
    assert rows(cluster.ledger, CLICKS) == [(100,)]
    assert links.pixel()[3:20] not in said
    assert "example.org" not in said


def test_stopped_while_the_database_is_away_it_keeps_them_on_disk(cluster: Cluster, tmp_path: Path):
    links = sent(cluster.ledger, 30)
    with web(tmp_path, cluster.url) as (site, process), away(cluster):
        look(site, links, 30)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
    assert sum(path.read_text().count("\n") for path in site.journal) == 60


def test_without_a_database_it_does_not_start_and_says_why(cluster: Cluster, tmp_path: Path):
    environment = {**os.environ, "OUTFLOW_HOME": str(tmp_path), "OUTFLOW_DATABASE_URL": cluster.url}
    with away(cluster):
        refused = subprocess.run(
            [OUTFLOW, "web", "--port", "0"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert refused.returncode == 1
    assert "cannot be reached" in refused.stderr
    assert "Traceback" not in refused.stderr
