"""A workbook of 100,000 rows into rows of text: ours, and openpyxl in its read-only mode.

    python benchmarks/workbooks.py --rows 100000 --rounds 3

Each measurement is a process of its own; peak memory is that of all its processes together.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from importing import memory_of_all, write_list


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(measure(arguments.run, arguments.file)))
        return
    found: dict[str, list[dict[str, float]]] = {"openpyxl": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        file = Path(folder) / "list.xlsx"
        write_workbook(file, arguments.rows)
        for turn in range(arguments.rounds):
            for way in found if turn % 2 == 0 else reversed(found):
                command = [sys.executable, __file__, "--run", way, "--file", str(file)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(way, found[way][-1], file=sys.stderr)
    print(f"{arguments.rows:,} rows, {arguments.rounds} round(s), medians\n")
    print("| way | seconds | of openpyxl | peak MB | rows |")
    print("|---|---:|---:|---:|---:|")
    for way, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        ratios = [run["seconds"] / one["seconds"] for run, one in zip(runs, found["openpyxl"], strict=True)]
        print(
            f"| {way} | {middle['seconds']:.1f} | {statistics.median(ratios):.2f} | {middle['peak_mb']:,.0f} "
            f"| {middle['rows']:,.0f} |"
        )


def write_workbook(path: Path, rows: int) -> None:
    """Write the list of `importing.py` as a workbook."""
    import csv

    import openpyxl

    with tempfile.TemporaryDirectory() as folder:
        as_csv = Path(folder) / "list.csv"
        write_list(as_csv, rows, seed=1)
        workbook = openpyxl.Workbook(write_only=True)
        sheet = workbook.create_sheet("Clientes")
        with as_csv.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                sheet.append(row)
        workbook.save(path)


def measure(way: str, file: Path) -> dict[str, float]:
    """Read once."""
    if way == "ours":
        from messaging.audience.files.layout import ReadOptions
        from messaging.audience.files.opening import open_file
    else:
        import openpyxl
    with memory_of_all() as peak:
        started = time.perf_counter()
        if way == "ours":
            with open_file(file, ReadOptions()) as reading:
                rows = sum(chunk.height for chunk in reading.chunks)
        else:
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=True).active
            rows = sum(1 for _ in sheet.iter_rows(values_only=True)) - 1
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak.mb, "rows": rows}


if __name__ == "__main__":
    main()
