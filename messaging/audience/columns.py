"""Which column holds what: as a person said, as its header says, or as its values look."""

import re
import shlex
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from messaging.audience.contents import ENOUGH, share_like, share_otherwise, share_possible, values_of
from messaging.audience.files.layout import cell
from messaging.audience.header_words import ADDRESSES, read_header
from messaging.errors import InputError

ROLES = (
    "email",
    "phone",
    "name",
    "first_name",
    "last_name",
    "country",
    "time_zone",
    "language",
    "consent",
    "status",
    "opt_out",
)
_SEVERAL = {*ADDRESSES, "opt_out"}  # a contact may have several; of the others one column is read
_NAMES = ("name", "first_name", "last_name")
_LOOKS = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "name": "names of people",
    "country": "countries",
    "time_zone": "time zones",
    "language": "languages",
}

# A header is believed unless the values cannot be what it says. One of addresses is believed even then,
# unless they clearly are something else: bad addresses are refused, and never replaced by another person's.
_DENIED = 0.3
_OTHERWISE = 0.7
_TELLING = 5  # so many values at least must say so
_CONFIRMED = 0.5  # what a header must find when other words than known ones stand beside its word

_OTHER_CHANNELS = {"sms", "mms", "whatsapp", "phone", "call", "calls", "text", "texts", "fax", "post"}
_LISTED = 50  # columns, in an error
_PERSONAL = re.compile(r"(\d\D*){6}|\S@\S")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file hold."""

    header: list[str]
    roles: dict[str, list[int]]
    """Places in the header by role: email and phone one or several, best first; the others exactly one."""
    how: dict[int, str] = field(default_factory=dict)
    """How each of them was found: `header`, `chosen` or `content: 97 % look like e-mail addresses`."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of columns that were not read as their header says, in sentences."""

    @property
    def attributes(self) -> list[int]:
        """All places but those of addresses and of a whole name: a template may use the others as given."""
        contact = {place for role in ("email", "phone", "name") for place in self.roles.get(role, [])}
        return [place for place in range(len(self.header)) if place not in contact]

    def first(self, role: str) -> int | None:
        """Return the best place of a role, None when the file has no such column."""
        return self.roles.get(role, [None])[0]


def find_columns(
    header: list[str], sample: pl.DataFrame, chosen: Mapping[str, Sequence[str]], file_name: str
) -> Columns:
    """Tell what each column holds: what was chosen, then what headers say, then what values look like.

    `sample` holds rows with the columns `cell(i)`.

    Raises:
        InputError: `chosen` names what is not there, or there is no column of addresses.
    """
    search = _Search(header, sample)
    for role, place in _chosen(header, chosen, file_name):
        search.give(role, place, "chosen")
    for role in ROLES:
        if role not in _NAMES and role not in search.roles:
            search.by_header(role)
    if "opt_out" not in search.roles:
        search.opt_out_by_header()
    if not search.roles.keys() & set(_NAMES):
        search.names_by_header()
    search.by_contents()
    if not search.roles.keys() & set(ADDRESSES):
        search.by_denied_header()
    if not search.roles.keys() & set(ADDRESSES):
        raise InputError(
            f"{file_name} {search.missing()}; its columns are: {_listed(header)}{search.empty()}. "
            f"Say which it is, as in --map {shlex.quote(f'email={search.likeliest()}')}"
        )
    return search.columns(search.notes())


def with_late_columns(columns: Columns, sample: pl.DataFrame, places: Collection[int]) -> Columns:
    """Also read columns that were empty in all rows before this sample; what was found stays.

    Rows before have nothing in these columns, so nothing that was said of them changes.
    """
    search = _Search(columns.header, sample, places)
    search.roles = {role: list(found) for role, found in columns.roles.items()}
    search.how = dict(columns.how)
    search.by_contents()
    return search.columns(columns.notes)


def _chosen(header: list[str], chosen: Mapping[str, Sequence[str]], file_name: str) -> list[tuple[str, int]]:
    """Find the columns a person chose, by their names as given or else without regard to case."""
    found: dict[int, str] = {}
    for role, names in chosen.items():
        if role not in ROLES:
            raise InputError(f"a column cannot be read as {role!r}: choose from {', '.join(ROLES)}")
        if len(names) > 1 and role not in _SEVERAL:
            raise InputError(f"{role} takes one column: choose one of {', '.join(map(repr, names))}")
        for name in names:
            place = _place(header, name)
            if place is None:
                raise InputError(
                    f"{file_name} has no column {name!r} for {role}; its columns are: {_listed(header)}"
                )
            if place in found:
                raise InputError(f"column {name!r} of {file_name} is chosen twice: choose it for one thing")
            found[place] = role
    return [(role, place) for place, role in found.items()]


def _place(header: list[str], name: str) -> int | None:
    name = " ".join(name.split())
    if name in header:
        return header.index(name)
    alike = [i for i, column in enumerate(header) if _same_case(column) == _same_case(name)]
    return alike[0] if len(alike) == 1 else None


def _same_case(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _listed(header: Sequence[str]) -> str:
    # A header may be somebody's row after all: exceptions are stored, addresses are not.
    more = f" and {len(header) - _LISTED} more" if len(header) > _LISTED else ""
    return ", ".join(map(_shown, header[:_LISTED])) + more


def _shown(column: str) -> str:
    return "..." if _PERSONAL.search(column) else column


class _Search:
    """The columns of one file, on the way to their roles."""

    def __init__(
        self, header: list[str], sample: pl.DataFrame, places: Collection[int] | None = None
    ) -> None:
        self.roles: dict[str, list[int]] = {}
        self.how: dict[int, str] = {}
        self._header = header
        self._places = range(len(header)) if places is None else sorted(places)
        self._read = [read_header(column) for column in header]
        # Cells of rows that cannot be read may stand in the wrong columns.
        self._sample = sample.filter(pl.col("flaw").is_null()) if "flaw" in sample.columns else sample
        self._values: dict[int, pl.Series] = {}
        self._denied: list[tuple[str, int]] = []

    def columns(self, notes: list[str]) -> Columns:
        roles = {role: self.roles[role] for role in ROLES if role in self.roles}
        return Columns(self._header, roles, dict(sorted(self.how.items())), notes)

    def give(self, role: str, place: int, how: str) -> None:
        self.roles.setdefault(role, []).append(place)
        self.how[place] = how

    def by_header(self, role: str) -> None:
        """Give a role the columns whose header says so, as far as their values do not say otherwise."""
        named = sorted(
            (place for place in self._free() if self._read[place].role == role),
            key=lambda place: (*self._read[place].rank, place),
        )
        sure = [place for place in named if self._read[place].sure and not self._denies(role, place)]
        unsure = [place for place in named if not self._read[place].sure]
        for place in sure or [i for i in unsure if share_like(role, self._of(i)) >= _CONFIRMED]:
            self.give(role, place, "header")
            if role not in _SEVERAL:
                break

    def names_by_header(self) -> None:
        """Prefer a whole name to two halves, and two halves to one."""
        whole = self._named("name")
        halves = {
            half: place for half in ("first_name", "last_name") if (place := self._named(half)) is not None
        }
        either = self._named("name or half")
        if whole is None and either is not None and len(halves) == 1:
            (half,) = halves
            halves["last_name" if half == "first_name" else "first_name"] = either
        elif whole is None:
            whole = either
        if whole is not None:
            self.give("name", whole, "header")
        else:
            for half, place in halves.items():
                self.give(half, place, "header")

    def opt_out_by_header(self) -> None:
        """Give the role the columns of who wants no mail; one about another channel is none."""
        for place in self._free():
            read = self._read[place]
            about_mail = read.kinds <= {"opted out", "email", "consent", "status"}
            if "opted out" in read.kinds and about_mail and not read.words & _OTHER_CHANNELS:
                self.give("opt_out", place, "header")

    def by_contents(self) -> None:
        """Give the roles that no header has to the columns whose values look like them."""
        for role in _LOOKS:
            if role not in self.roles and not (role == "name" and self.roles.keys() & set(_NAMES)):
                self.by_content(role)

    def by_content(self, role: str) -> None:
        """Give a role the columns whose values look like it, whatever their header says."""
        like = self._alike(role)
        if role in ADDRESSES and any(read.role == role and read.sure for read in self._read):
            # The contact's own column holds something else, and another may be somebody else's.
            like = [found for found in like if self._is_of_contact(found[0])]
        if role in _SEVERAL and all(self._read[place].says_nothing for place, _ in like):
            best = like
        else:
            best = like[:1]
        if role == "name" and len(like) > 1:
            best = []  # who of the two is the contact?
        for place, share in best:
            self.give(role, place, f"content: {int(100 * share)} % look like {_LOOKS[role]}")

    def _alike(self, role: str) -> list[tuple[int, float]]:
        """Return the free columns whose values look like the role, the likeliest first."""
        like: list[tuple[int, float]] = []
        for place in self._free():
            read = self._read[place]
            if read.forbids(role):
                continue
            share = share_like(role, self._of(place), digits_count=read.says_nothing)
            if share >= ENOUGH[role]:
                like.append((place, share))
        # A contact's own address differs from row to row, an agent's does not.
        return sorted(like, key=lambda found: (-self._of(found[0]).n_unique(), found[0]))

    def _is_of_contact(self, place: int) -> bool:
        return self._read[place].says_nothing or self._read[place].role is not None

    def missing(self) -> str:
        """Say that there is no column of addresses."""
        denied = [_shown(self._header[place]) for role, place in self._denied if role in ADDRESSES]
        if not denied:
            return "has no column named like an e-mail address or a phone number, and none that holds them"
        called = " and ".join(map(repr, denied))
        return (
            f"holds something else than it says in {called}, and no other column is surely these people's own"
        )

    def likeliest(self) -> str:
        """Return the column that looks most like e-mail addresses and was not read."""
        return next((_shown(self._header[place]) for place, _ in self._alike("email")), "COLUMN")

    def empty(self) -> str:
        """Say which columns nobody can tell anything of."""
        empty = [self._header[place] for place in self._free() if not len(self._of(place))]
        rows = self._sample.height
        return f" (empty in the first {rows:,} rows: {_listed(empty)})" if empty and rows else ""

    def by_denied_header(self) -> None:
        """Believe a header in spite of its values when nothing else holds addresses."""
        for role, place in self._denied:
            if role in _SEVERAL and place not in self.how and share_possible(role, self._of(place)):
                self.give(role, place, "header")

    def notes(self) -> list[str]:
        """Say which columns were not read as their header says."""
        denied = [
            f"column {_shown(self._header[place])!r} is not read as {role}: its values look otherwise"
            f"{self._instead(role)}"
            for role, place in self._denied
            if place not in self.roles.get(role, [])
        ]
        denied += [
            f"column {_shown(self._header[place])!r} is read as {role}, as its header says, although only "
            f"{int(100 * share_like(role, self._of(place)))} % of its values look like {_LOOKS[role]}"
            f"{self._instead(role)}"
            for role in ADDRESSES
            for place in self.roles.get(role, [])
            if self.how[place] == "header" and self._is_spoilt(role, place)
        ]
        opted_out = [
            f"column {_shown(self._header[place])!r} may say who wants no messages: it is kept as an "
            "attribute and stops nothing; if it does, say so with --map opt_out=COLUMN"
            for place in self._free()
            if "opted out" in self._read[place].kinds
        ]
        return denied + opted_out

    def _instead(self, role: str) -> str:
        """Name the columns that may be meant instead of one whose values are not what its header says."""
        like = [_shown(self._header[place]) for place, _ in self._alike(role)] if role in ADDRESSES else []
        if not like:
            return ""
        listed = " and ".join(map(repr, like))
        return f"; {listed} looks like it: if it is these people's own, say so with --map {role}=COLUMN"

    def _named(self, role: str) -> int | None:
        named = [place for place in self._free() if self._read[place].role == role]
        return min(named, key=lambda place: (*self._read[place].rank, place), default=None)

    def _free(self) -> list[int]:
        return [place for place in self._places if place not in self.how]

    def _of(self, place: int) -> pl.Series:
        if place not in self._values:
            self._values[place] = values_of(self._sample[cell(place)])
        return self._values[place]

    def _denies(self, role: str, place: int) -> bool:
        if not self._is_spoilt(role, place):
            return False
        if role in ADDRESSES and share_otherwise(role, self._of(place)) < _OTHERWISE:
            return False
        self._denied.append((role, place))
        return True

    def _is_spoilt(self, role: str, place: int) -> bool:
        values = self._of(place)
        return len(values) >= _TELLING and share_possible(role, values) < _DENIED
