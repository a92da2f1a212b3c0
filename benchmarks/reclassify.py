"""Reading kept bounces again: mails a second, and the memory that it takes.

    python benchmarks/reclassify.py [--mails 20000] [--wrong 0.1]

Keeps made-up bounces in an embedded database of its own, of which a share was read wrongly, then reads all of
them again, first only asking, then changing what is wrong. Prints mails a second and the peak of
this process, which another number of mails must not change.
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from messaging.feedback.bounces import read_bounces
from messaging.feedback.mail_evidence import evidence_of, kept
from messaging.feedback.reclassifying import reclassify
from messaging.feedback.recording import record
from messaging.storage import embedded, migrating, returned_mails
from messaging.storage.engine import open_engine
from messaging.storage.returned_mails import Returned
from schemas.bounces import BounceClass, BounceReason

MAILS = Path(__file__).parent.parent / "tests" / "messaging" / "feedback" / "mails"
BOX = "imap-mailbox/benchmark"
AT_ONCE = 500
NOW = datetime.now(UTC)


def main() -> None:
    """Keep, read again, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--wrong", type=float, default=0.1, help="share that older rules read otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        os.environ["OUTFLOW_HOME"] = folder
        url = embedded.start(home)
        # In a process of its own: what it takes to make the bounces is not the question.
        told = (url, options.mails, options.wrong)
        making = multiprocessing.get_context("spawn").Process(target=keep, args=told)
        making.start()
        making.join()
        engine = open_engine(url)
        for apply in (False, True):
            began = time.process_time()
            result = reclassify(engine, apply=apply)
            cpu = time.process_time() - began
            print(
                f"{'changing' if apply else 'asking'}: {result.mails:,} mails, {result.changed:,} changed; "
                f"{result.mails / result.seconds:,.0f} a second, {result.mails / cpu:,.0f} a CPU-second; "
                f"peak memory {peak_mb():.0f} MB"
            )
        engine.dispose()


def keep(url: str, mails: int, wrong: float) -> None:
    """Keep bounces of our own collection, each made another one by a field of its own, and record them."""
    engine = open_engine(url)
    migrating.upgrade(engine)
    bounces = [(path.read_bytes(), read_bounces(path.read_bytes())) for path in sorted(MAILS.glob("*.eml"))]
    bounces = [(mail, findings) for mail, findings in bounces if findings]
    every = round(1 / wrong) if wrong else 0
    for first in range(0, mails, AT_ONCE):
        with engine.begin() as connection:
            returned, evidence = [], []
            for number in range(first, min(first + AT_ONCE, mails)):
                mail, findings = bounces[number % len(bounces)]
                mail = b"X-Number: %d\n" % number + mail
                numbered = dict(enumerate(findings))
                if every and number % every == 0:
                    meaning = {"bounce_class": BounceClass.SOFT, "reason": BounceReason.UNKNOWN}
                    numbered = {n: replace(finding, **meaning) for n, finding in numbered.items()}
                digest = hashlib.sha256(mail).digest()
                returned.append(Returned(digest, len(mail), mail, kept(numbered), list(findings.notes), NOW))
                evidence += evidence_of(numbered, BOX, digest, NOW)
            returned_mails.keep(connection, BOX, returned)
            record(connection, evidence)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def peak_mb() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
