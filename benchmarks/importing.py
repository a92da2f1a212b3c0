"""A contacts file into an empty PostgreSQL: ours, and two loops over rows that do the same.

    python benchmarks/importing.py --rows 100000 --rounds 3             # ours, bulk loop, ORM loop
    python benchmarks/importing.py --rows 1000000 --ways ours,bulk
    python benchmarks/importing.py --rows 10000000 --ways ours
    python benchmarks/importing.py --rows 1000000 --ways ours,ours-full # into a ledger that knows 1,000,000

The list: 8 columns, phones of 12 countries in mixed formats (60 % Spanish), 8 % bad rows, 17 % repeated
addresses, 6 % of domains outside ASCII. Each measurement is a process of its own on a database of its own,
the ways are interleaved, medians are printed. Peak memory is that of all our processes together, PostgreSQL
apart. The loops judge by email-validator and phonenumbers row by row; `bulk` sends 1,000 rows per statement,
`orm` gets or adds one object per row. All must agree on how many contacts and refused rows there are.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

HEADER = ["Nombre", "Correo", "Telefono", "Pais", "Ciudad", "Plan", "Alta", "Notas"]
FORMATS = {  # digits of a mobile number after the country code; # is a random digit
    "ES": ("34", "6########", "{0}{1}{2} {3}{4}{5} {6}{7}{8}"),
    "GB": ("44", "74########", "0{0}{1}{2}{3} {4}{5}{6}{7}{8}{9}"),
    "DE": ("49", "151########", "0{0}{1}{2} {3}{4}{5}{6}{7}{8}{9}{10}"),
    "FR": ("33", "6########", "0{0} {1}{2} {3}{4} {5}{6} {7}{8}"),
    "IT": ("39", "347#######", "{0}{1}{2} {3}{4}{5} {6}{7}{8}{9}"),
    "PT": ("351", "912######", "{0}{1}{2} {3}{4}{5} {6}{7}{8}"),
    "US": ("1", "212555####", "({0}{1}{2}) {3}{4}{5}-{6}{7}{8}{9}"),
    "MX": ("52", "55########", "{0}{1} {2}{3}{4}{5} {6}{7}{8}{9}"),
    "BR": ("55", "119########", "({0}{1}) {2}{3}{4}{5}{6}-{7}{8}{9}{10}"),
    "NL": ("31", "612######", "0{0} {1}{2}{3}{4}{5}{6}{7}{8}"),
    "PL": ("48", "512######", "{0}{1}{2} {3}{4}{5} {6}{7}{8}"),
    "SE": ("46", "70#######", "0{0}{1}-{2}{3}{4} {5}{6} {7}{8}"),
}
BAD = ("no-at.example.org", "two@@example.org", "spaced name@example.org", "dot.@example.org", "x@-bad.org")
DOMAINS = ["gmail.com", "hotmail.com", "yahoo.es", "example.org", "empresa.example.com"]


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default="ours,bulk,orm")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(measure(arguments.run, arguments.file)))
        return
    ways = arguments.ways.split(",")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        file = Path(folder) / "list.csv"
        write_list(file, arguments.rows, seed=1)
        for turn in range(arguments.rounds):
            for way in ways if turn % 2 == 0 else reversed(ways):
                found[way].append(in_own_process(way, file))
                print(way, found[way][-1], file=sys.stderr)
    first = found[ways[0]]
    print(f"{arguments.rows:,} rows, {arguments.rounds} round(s), medians\n")
    print("| way | seconds | rows/s | of the first | peak MB | contacts | refused |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        ratio = statistics.median(
            run["seconds"] / one["seconds"] for run, one in zip(runs, first, strict=True)
        )
        print(
            f"| {way} | {middle['seconds']:.1f} | {arguments.rows / middle['seconds']:,.0f} | {ratio:.2f} "
            f"| {middle['peak_mb']:,.0f} | {middle['contacts']:,.0f} | {middle['refused']:,.0f} |"
        )
    agreed = {(run["contacts"], run["refused"]) for runs in found.values() for run in runs}
    if len(agreed) > 1:
        raise SystemExit(f"the ways do not agree: {agreed}")


def write_list(path: Path, rows: int, seed: int) -> None:
    """Write the list of the docstring."""
    chance = random.Random(seed)
    spanish = ["ES"] * 17 + [country for country in FORMATS if country != "ES"]
    kept: list[list[str]] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for number in range(rows):
            if kept and chance.random() < 0.17:
                again = list(chance.choice(kept))
                again[4] = chance.choice(["Madrid", "Lugo", ""])
                writer.writerow(again)
                continue
            row = a_row(chance, number, chance.choice(spanish), seed)
            if len(kept) < 200_000:
                kept.append(row)
            elif chance.random() < 0.2:
                kept[chance.randrange(len(kept))] = row
            writer.writerow(row)


def a_row(chance: random.Random, number: int, country: str, seed: int) -> list[str]:
    """Make one person, good or bad."""
    name = chance.choice(["Ana", "José", "Lucía", "Søren", "Zoë", "Bo"]) + f" Pérez {number % 5000}"
    domain = chance.choice(DOMAINS) if chance.random() > 0.06 else "niño.example.org"
    email = f"persona.{seed}.{number}@{domain}"
    code, pattern, local = FORMATS[country]
    digits = "".join(chance.choice("0123456789") if sign == "#" else sign for sign in pattern)
    international = f"+{code}{digits}" if chance.random() < 0.5 else f"00{code} {digits[:3]} {digits[3:]}"
    phone = local.format(*digits) if chance.random() < 0.6 else international
    kind = chance.random()
    if kind < 0.04:
        email = chance.choice(BAD)
    elif kind < 0.08:
        email, phone = "", chance.choice(["12", "n/a", "+999 123", phone[:-4], ""])
    elif kind < 0.12:
        email = ""
    elif kind < 0.16:
        phone = phone[:-3]
    note = "" if chance.random() < 0.7 else f"alta en {1990 + number % 30}, zona {number % 17}"
    plan = chance.choice(["free", "pro", "team"])
    return [name, email, phone, country, chance.choice(["Madrid", "Vigo", ""]), plan, "2026-03-04", note]


def in_own_process(way: str, file: Path) -> dict[str, float]:
    """Measure in a fresh process with a fresh database."""
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
        environment = {**os.environ, "OUTFLOW_HOME": folder}
        environment.pop("OUTFLOW_DATABASE_URL", None)
        done = subprocess.run(
            [sys.executable, __file__, "--run", way, "--file", str(file)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])


def measure(way: str, file: Path) -> dict[str, float]:
    """Import once; the database is started and the schema made before the clock starts."""
    from messaging.storage.engine import engine

    ledger = engine()
    if way == "ours-full":
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder) / "others.csv"
            write_list(other, 1_200_000, seed=2)
            with_ours(ledger, other)
    with memory_of_all() as peak:
        started = time.perf_counter()
        contacts, refused = {"bulk": with_bulk_loop, "orm": with_orm_loop}.get(way, with_ours)(ledger, file)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak.mb, "contacts": contacts, "refused": refused}


class memory_of_all:  # noqa: N801 - reads as the sentence it is in
    """Watch the resident memory of this process and its children that are not PostgreSQL."""

    mb = 0.0

    def __enter__(self):
        """Start watching."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self):
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = me.memory_info().rss
            for child in me.children(recursive=True):
                try:
                    if "postgres" not in child.name():
                        total += child.memory_info().rss
                except psutil.Error:
                    continue
            self.mb = max(self.mb, total / 2**20)


def with_ours(ledger, file: Path) -> tuple[int, int]:
    """Import as `outflow import` does, Prefect apart."""
    from messaging.audience.importing import import_file
    from messaging.settings import settings
    from schemas.contacts import ImportOptions

    options = ImportOptions(audience="everyone", region="ES", consent="benchmark")
    report = import_file(ledger, options, file, folder=settings().home)
    return report.imported, report.refused


def judged(file: Path, refused_file: Path):
    """Read and judge row by row; write refused rows apart and yield good ones."""
    import email_validator
    import phonenumbers

    with file.open(encoding="utf-8", newline="") as given, refused_file.open("w", newline="") as apart:
        refused = csv.writer(apart)
        for number, row in enumerate(csv.DictReader(given), start=2):
            email = phone = None
            reason = None
            if row["Correo"]:
                try:
                    valid = email_validator.validate_email(
                        row["Correo"], check_deliverability=False, strict=True
                    )
                except email_validator.EmailNotValidError:
                    reason = "e-mail"
                else:
                    email = f"{valid.local_part}@{valid.ascii_domain}"
            if row["Telefono"] and not reason:
                text = row["Telefono"]
                text = "+" + text[2:] if text.startswith("00") else text
                try:
                    found = phonenumbers.parse(text, None if text.startswith("+") else row["Pais"])
                except phonenumbers.NumberParseException:
                    found = None
                if found is not None and phonenumbers.is_valid_number(found):
                    phone = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
            if not reason and not email and not phone:
                reason = "no address"
            if reason:
                refused.writerow([number, reason, *row.values()])
                yield None
                continue
            attributes = {key: row[key] for key in HEADER[3:] if row[key]}
            yield {
                "key": (email or phone).lower(),
                "email": email,
                "phone": phone,
                "name": row["Nombre"],
                "attributes": attributes,
            }


def with_bulk_loop(ledger, file: Path) -> tuple[int, int]:
    """Upsert 1,000 rows at a time."""
    from sqlalchemy import func, select
    from sqlalchemy.dialects.postgresql import insert

    table = peer_table(ledger).__table__
    statement = insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "phone": func.coalesce(table.c.phone, statement.excluded.phone),
            "name": func.coalesce(table.c.name, statement.excluded.name),
            "attributes": statement.excluded.attributes.concat(table.c.attributes),
        },
    )
    refused, waiting = 0, []
    with tempfile.TemporaryDirectory() as folder, ledger.connect() as connection:
        for person in judged(file, Path(folder) / "refused.csv"):
            if person is None:
                refused += 1
                continue
            waiting.append(person)
            if len(waiting) == 1_000:
                connection.execute(statement, waiting)
                connection.commit()
                waiting = []
        if waiting:
            connection.execute(statement, waiting)
            connection.commit()
        return connection.execute(select(func.count()).select_from(table)).scalar_one(), refused


def with_orm_loop(ledger, file: Path) -> tuple[int, int]:
    """Get or add one object per row."""
    from sqlalchemy import func, select
    from sqlalchemy.orm import Session

    peer = peer_table(ledger)
    refused = 0
    with tempfile.TemporaryDirectory() as folder, Session(ledger) as session:
        for number, person in enumerate(judged(file, Path(folder) / "refused.csv")):
            if person is None:
                refused += 1
                continue
            known = session.scalars(select(peer).where(peer.key == person["key"])).first()
            if known is None:
                session.add(peer(**person))
            else:
                known.phone = known.phone or person["phone"]
                known.attributes = {**person["attributes"], **known.attributes}
            if number % 1_000 == 0:
                session.commit()
        session.commit()
        return session.scalar(select(func.count()).select_from(peer)), refused


def peer_table(ledger):
    """Make the table of the two loops: contacts as simple as they can be."""
    from sqlalchemy import BigInteger, Identity, Text
    from sqlalchemy.dialects.postgresql import JSONB
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Peer(Base):
        __tablename__ = "peers"
        id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
        key: Mapped[str] = mapped_column(Text, unique=True)
        email: Mapped[str | None] = mapped_column(Text)
        phone: Mapped[str | None] = mapped_column(Text)
        name: Mapped[str | None] = mapped_column(Text)
        attributes: Mapped[dict] = mapped_column(JSONB)

    Base.metadata.create_all(ledger)
    return Peer


if __name__ == "__main__":
    main()
