"""Hits on disk: private, bounded, readable after a crash, replayed by whoever comes first."""

import fcntl
import json
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from messaging.web.journal import Journal, JournalFull

HOLD = """
import sys, time
from pathlib import Path
from messaging.web.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.append([{"n": 1}])
print("written", flush=True)
time.sleep(60)
"""


def lines(first: int, count: int = 1) -> list[dict[str, int]]:
    return [{"n": n} for n in range(first, first + count)]


def read(journal: Journal) -> list[int]:
    """Read and delete everything, as a replay does."""
    found: list[int] = []
    while True:
        with journal.oldest() as kept:
            if kept is None:
                return found
            found += [line["n"] for group in kept.groups(2) for line in group]
            kept.delete()


def test_what_was_appended_is_read_in_order_and_once(tmp_path: Path):
    journal = Journal(tmp_path / "deep" / "journal", file_size=30)
    for n in range(10):
        journal.append(lines(n))
    assert len(list((tmp_path / "deep" / "journal").iterdir())) > 2
    assert read(journal) == list(range(10))
    assert read(journal) == []
    assert journal.size() == 0


def test_nobody_else_may_read_it(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.append(lines(1))
    journal.refuse({"n": 2})
    journal.close()
    for path in [tmp_path / "journal", *(tmp_path / "journal").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_torn_line_is_passed_over_and_the_next_begins_anew(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append(lines(1, 3))
    journal.close()
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-4] + b"\xff\x00")
    journal.append(lines(7))
    assert read(journal) == [1, 2, 7]


def test_strange_lines_are_passed_over(tmp_path: Path):
    (tmp_path / "0.jsonl").write_bytes(b'\n[]\n"x"\nnull\n{"n": 1}\n{"n":\n\xff\n{"n": 2}\n')
    assert read(Journal(tmp_path)) == [1, 2]


def test_it_does_not_grow_beyond_its_bound(tmp_path: Path):
    journal = Journal(tmp_path, most=100, file_size=30)
    with pytest.raises(JournalFull):
        for n in range(100):
            journal.append(lines(n))
    assert 80 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100
    kept = read(journal)
    assert kept == list(range(len(kept)))
    journal.append(lines(5))  # there is room again
    assert read(journal) == [5]


def test_a_file_that_was_replayed_in_part_is_replayed_again(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append(lines(0, 5))
    with journal.oldest() as kept:
        assert kept is not None
        assert next(kept.groups(2)) == lines(0, 2)
    assert read(journal) == [0, 1, 2, 3, 4]


def test_the_file_of_a_process_that_lives_is_left_to_it(tmp_path: Path):
    writer = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "written\n"
        journal = Journal(tmp_path)
        assert read(journal) == []
        journal.append(lines(2))
        assert read(journal) == [2]
    finally:
        writer.kill()
        writer.communicate()
    assert read(journal) == [1]  # of one that was killed, another takes over


def test_a_file_is_not_seen_by_others_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer, other = Journal(tmp_path), Journal(tmp_path)
    lock = fcntl.flock
    found: list[int] = []

    def late(opened: BinaryIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        found.extend(read(other))
        lock(opened, how)

    monkeypatch.setattr(fcntl, "flock", late)
    writer.append(lines(1))
    writer.append(lines(2))
    assert found == []
    assert read(writer) == [1, 2]


def test_a_full_disk_is_an_error_and_leaves_what_there_was(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append(lines(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size() + 4, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(lines(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.append(lines(3))
    assert read(journal) == [1, 3]


def test_what_the_ledger_refuses_is_set_aside_within_bounds(tmp_path: Path):
    journal = Journal(tmp_path, file_size=50)
    for n in range(100):
        journal.refuse({"n": n})
    refused = (tmp_path / "refused.txt").read_text().splitlines()
    assert [json.loads(line)["n"] for line in refused] == list(range(len(refused)))
    assert 3 < len(refused) < 10
    assert read(journal) == []
