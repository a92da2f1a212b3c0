"""What it takes to write a campaign's attempts to a file.

    python benchmarks/exports.py --attempts 1000000 --rounds 3

A campaign is planned, and every attempt is given an answer as a mail server's. Then each format is written by
a process of its own, in turns; seconds are those of the writing, memory is the most that the process had,
with Python, SQLAlchemy and Polars.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sending import PEERS, empty_database
from sqlalchemy import text

MOST_SECONDS, MOST_MB = 15.0, 500.0  # Parquet, for 1,000,000
ENDINGS = ("parquet", "csv")

_ANSWER = """
    UPDATE attempts SET state = CASE WHEN id % 50 = 0 THEN 'rejected' ELSE 'accepted' END,
        dispatched_at = now(), answered_at = now() + make_interval(secs => id / 1000.0),
        message_id = '<' || token || '@mail.example.org>',
        code = CASE WHEN id % 50 = 0 THEN 550 ELSE 250 END,
        status = CASE WHEN id % 50 = 0 THEN '5.1.1' ELSE '2.0.0' END,
        reply = CASE WHEN id % 50 = 0 THEN 'no such user here' ELSE 'Ok: queued as ' || md5(id::text) END
"""

_WRITE = """
import json, resource, sys, time
from pathlib import Path
from messaging.reports.exports import write_export
from messaging.storage.engine import engine
from schemas.export import ExportKind
ledger, began = engine(), time.perf_counter()
rows = write_export(ledger, ExportKind.ATTEMPTS, Path(sys.argv[1]), 1)
seconds = time.perf_counter() - began
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
size = Path(sys.argv[1]).stat().st_size / 1e6
print(json.dumps({"rows": rows, "seconds": seconds, "mb": most, "size": size}))
"""


def main() -> None:
    """Measure each format."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {ending: [] for ending in ENDINGS}
    with empty_database() as database, tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        fill(database, given.attempts)
        for turn in range(given.rounds):
            for ending in ENDINGS if turn % 2 == 0 else reversed(ENDINGS):
                found[ending].append(written(database, Path(folder, f"attempts.{ending}")))
                if found[ending][-1]["rows"] != given.attempts:
                    raise SystemExit(f"{found[ending][-1]['rows']:,} rows were written of {given.attempts:,}")
    print(f"| {given.attempts:,} attempts | seconds | memory, MB | file, MB |\n|---|---:|---:|---:|")
    for ending, runs in found.items():
        seconds, mb, size = (
            statistics.median(run[name] for run in runs) for name in ("seconds", "mb", "size")
        )
        print(f"| {ending} | {seconds:.1f} | {mb:.0f} | {size:.0f} |")
    print(f"(bar for Parquet: {MOST_SECONDS:.0f} s, {MOST_MB:.0f} MB)")


def fill(database: str, attempts: int) -> None:
    """Plan a campaign and answer it."""
    sys.path.insert(0, str(PEERS))
    from ours import SPEC, insert_contacts

    from messaging.campaign.planning import plan_campaign
    from messaging.storage.engine import open_engine
    from messaging.storage.migrating import upgrade

    engine = open_engine(database)
    upgrade(engine)
    insert_contacts(engine, attempts)
    plan_campaign(engine, SPEC)
    with engine.begin() as connection:
        connection.execute(text(_ANSWER))
    engine.dispose()


def written(database: str, file: Path) -> dict[str, float]:
    """Write the file in a process of its own and return what it took."""
    done = subprocess.run(
        [sys.executable, "-c", _WRITE, str(file)],
        env=os.environ | {"OUTFLOW_DATABASE_URL": database},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
