"""Bounce parsing: how often right, over mails whose meaning is known, and how fast.

    python benchmarks/bounces.py FOLDER [FOLDER...]

A folder holds mails and `gold.jsonl`, an object for each mail: `file`; `kind` (bounce, complaint, delivered,
autoreply, challenge or nonbounce); `rows`, one for each recipient: `recipient` (spellings that are right),
`classes` (those that are right) and `suppress` (true, false or null). Prints what was found, a matrix of
classes, and mails per CPU-second beside the standard library's parser. Without a folder: only the speed, over
our own mails.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path

from messaging.feedback.bounces import read_bounces
from messaging.feedback.findings import Findings

OUR_MAILS = Path(__file__).parent.parent / "tests" / "messaging" / "feedback" / "mails"
FAILED = {"hard", "soft", "block", "complaint"}
SUPPRESSED = {"hard", "complaint"}
OTHER_NAMES = {"autoreply": "auto-reply"}
TURNS = 5


def main() -> None:
    """Judge, count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    folders = parser.parse_args().folders
    mails = [path.read_bytes() for path in sorted(OUR_MAILS.glob("*.eml"))]
    if folders:
        labelled = [(path.read_bytes(), gold) for folder in folders for path, gold in golden(folder)]
        print_accuracy([(read_bounces(mail), gold) for mail, gold in labelled])
        mails = [mail for mail, _ in labelled]
    print(f"\n{len(mails)} mails, {sum(map(len, mails)) // len(mails):,} bytes each")
    print(f"ours: {per_cpu_second(read_bounces, mails):,.0f} a CPU-second")
    print(f"email.message_from_bytes alone: {per_cpu_second(parsed, mails):,.0f}")


def golden(folder: Path) -> Iterator[tuple[Path, dict]]:
    """Yield each mail of a folder with its line of gold."""
    for line in (folder / "gold.jsonl").read_text("utf-8").splitlines():
        gold = json.loads(line)
        yield folder / gold["file"], gold


def parsed(mail: bytes) -> object:
    """Parse as the standard library does."""
    return message_from_bytes(mail, policy=policy.compat32)


def per_cpu_second(read: Callable[[bytes], object], mails: list[bytes]) -> float:
    """Return mails per second of CPU time, the best of some turns."""
    best = float("inf")
    for _ in range(TURNS):
        begin = time.process_time()
        for mail in mails:
            read(mail)
        best = min(best, time.process_time() - begin)
    return len(mails) / best


def print_accuracy(answers: list[tuple[Findings, dict]]) -> None:
    """Print the shares of what is right, and the matrix of the classes expected and found."""
    counts: Counter[str] = Counter()
    matrix: Counter[tuple[str, str]] = Counter()
    for found, gold in answers:
        count(found, gold, counts, matrix)
    for name, total in [
        ("recipients found", "recipients"),
        ("of those named, right", "named"),
        ("class right", "classes"),
        ("must suppress, found", "must suppress"),
        ("must not suppress, wrongly", "must not suppress"),
        ("false alarms", "ordinary"),
        ("automatic recognised", "automatic"),
    ]:
        share = 100 * counts[name] / counts[total] if counts[total] else 0.0
        print(f"| {name} | {share:.1f} % | {counts[total]} |")
    columns = sorted({column for _, column in matrix})
    print(f"\n| expected | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for row in sorted({row for row, _ in matrix}):
        print(f"| {row} | {' | '.join(str(matrix[row, column] or '') for column in columns)} |")


def count(found: Findings, gold: dict, counts: Counter[str], matrix: Counter[tuple[str, str]]) -> None:
    """Add one mail to the counts."""
    kind = gold["kind"]
    classes = [str(finding.bounce_class) for finding in found]
    if kind in {"nonbounce", "delivered"}:
        counts["ordinary"] += 1
        counts["false alarms"] += bool(FAILED & set(classes))
    elif kind in {"autoreply", "challenge"}:
        counts["automatic"] += 1
        counts["automatic recognised"] += bool({"auto-reply", "challenge"} & set(classes))
    elif kind in {"bounce", "complaint"}:
        left = list(found)
        for row in gold["rows"]:
            hit = next((f for f in left if (f.recipient or "").lower() in row["recipient"]), None)
            if hit is not None:
                left.remove(hit)
            count_row(row, str(hit.bounce_class) if hit else "not found", counts, matrix)
        if gold["rows"] and all(row["recipient"] for row in gold["rows"]):
            right = {spelling for row in gold["rows"] for spelling in row["recipient"]}
            named = {finding.recipient.lower() for finding in found if finding.recipient}
            counts["named"] += len(named)
            counts["of those named, right"] += len(named & right)


def count_row(row: dict, found: str, counts: Counter[str], matrix: Counter[tuple[str, str]]) -> None:
    """Add one recipient to the counts."""
    if row["recipient"]:
        counts["recipients"] += 1
        counts["recipients found"] += found != "not found"
    if row["classes"]:
        expected = [OTHER_NAMES.get(name, name) for name in row["classes"]]
        counts["classes"] += 1
        counts["class right"] += found in expected
        matrix[" or ".join(sorted(expected)), found] += 1
    if row["suppress"] is not None:
        must = "must suppress" if row["suppress"] else "must not suppress"
        counts[must] += 1
        counts[f"{must}, {'found' if row['suppress'] else 'wrongly'}"] += found in SUPPRESSED


if __name__ == "__main__":
    main()
