"""A file's rows judged chunk by chunk, without the ledger: what an import and a verification share."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from messaging.audience.columns import Columns, find_columns, with_late_columns
from messaging.audience.files.layout import Layout, ReadOptions, cell
from messaging.audience.files.opening import open_file
from messaging.audience.judging import Basis, judge
from messaging.audience.phones import check_region
from messaging.audience.progress import Progress
from messaging.audience.summary import Summary
from messaging.fields import field_name
from schemas.contacts import ImportOptions, ReadColumn


@dataclass(slots=True)
class Screening:
    """What is understood of a file, and its rows as they are judged."""

    layout: Layout
    columns: Columns
    summary: Summary
    """Complete when `judged` is exhausted."""
    judged: Iterator[pl.DataFrame]
    used: set[int] = field(default_factory=set)
    """Places of the columns that hold anything; complete when `judged` is exhausted."""

    @property
    def notes(self) -> list[str]:
        """What the person should know of how the file was read; they may show cells."""
        return [*self.layout.notes, *self.columns.notes]

    def read_columns(self) -> list[ReadColumn]:
        """Say of each column what it was read as, in the file's order."""
        roles = {place: role for role, places in self.columns.roles.items() for place in places}
        return [
            ReadColumn(
                column=column,
                role=roles.get(place, "attribute" if place in self.used else "empty"),
                how=self.columns.how.get(place, ""),
                field=field_name(column) if place in self.used and place in self.columns.attributes else "",
            )
            for place, column in enumerate(self.columns.header)
        ]


@contextmanager
def screened(path: Path, options: ImportOptions, progress: Progress) -> Iterator[Screening]:
    """Open a contacts file and judge its rows as they are asked for.

    Raises:
        InputError: The file or the options cannot be used; the text says what to do.
    """
    check_region(options.region or None)
    asked = ReadOptions(options.encoding or None, options.sheet or None, options.region or None)
    with open_file(path, asked) as reading:
        chunks = iter(reading.chunks)
        first = list(itertools.islice(chunks, 1))
        sample = first[0] if first else pl.DataFrame()
        columns = find_columns(reading.layout.header, sample, options.columns, path.name)
        basis = Basis(
            region=options.region or None,
            consent=options.consent or None,
            require_consent=options.require_consent,
            file_name=path.name,
        )
        screening = Screening(reading.layout, columns, Summary(), iter(()))
        screening.judged = _judged(itertools.chain(first, chunks), basis, screening, progress, reading.share)
        yield screening


def _judged(
    chunks: Iterator[pl.DataFrame],
    basis: Basis,
    screening: Screening,
    progress: Progress,
    share: Callable[[], float],
) -> Iterator[pl.DataFrame]:
    for chunk in chunks:
        progress.go_on()
        unseen = [cell(i) for i in range(len(screening.columns.header)) if i not in screening.used]
        holds = chunk.select((pl.col(unseen).str.strip_chars() != "").any())
        late = {int(name.removeprefix("cell_")) for name in unseen if holds[name][0]}
        if late and screening.used:
            screening.columns = with_late_columns(screening.columns, chunk, late)
        screening.used |= late
        judged = judge(chunk, screening.columns, basis)
        screening.summary.add(judged)
        progress.judged(chunk.height, share())
        yield judged
