"""Merge fields: what a campaign's templates ask of a contact, found without a look at the rest of it."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from messaging.fields import field_name

STANDARD_FIELDS: Final = ("name", "email", "phone", "unsubscribe_url")
_MAX_COLUMNS: Final = 4096  # column names remembered: a file has at most 256, but an audience has many files


class Values(NamedTuple):
    """One contact's values; what is empty is left out, so that default() works."""

    fields: dict[str, str]
    """By identifier, as in {{ first_name }}."""
    columns: dict[str, str]
    """By the name that the file gave, as in {{ contact["First Name"] }}."""


class MergeFields:
    """The merge fields that a campaign uses."""

    def __init__(self, fields: Collection[str], columns: Collection[str]) -> None:
        """Take the identifiers and the columns that the templates name."""
        self._fields = frozenset(fields) - {
            *STANDARD_FIELDS
        }  # a column of that name is not the standard field
        self._columns = tuple(columns)
        self._field_of: dict[str, str | None] = {}

    def values(
        self,
        name: str | None,
        email: str | None,
        phone: str | None,
        unsubscribe_url: str,
        attributes: Mapping[str, str],
    ) -> Values:
        """Return one contact's values of these fields."""
        fields: dict[str, str] = {}
        if self._fields:
            known = self._field_of
            for column, value in attributes.items():
                field = known[column] if column in known else self._learn(column)
                if field is not None and value and not value.isspace():
                    fields[field] = value
        if name and not name.isspace():
            fields["name"] = name
        if phone and not phone.isspace():
            fields["phone"] = phone
        if email:
            fields["email"] = email
        if unsubscribe_url:
            fields["unsubscribe_url"] = unsubscribe_url
        columns = {
            column: value
            for column in self._columns
            if (value := attributes.get(column, "")) and not value.isspace()
        }
        return Values(fields, columns)

    def _learn(self, column: str) -> str | None:
        """Return the field of a column, or None when no template uses it."""
        field = field_name(column)
        if len(self._field_of) >= _MAX_COLUMNS:
            self._field_of.clear()
        self._field_of[column] = used = field if field in self._fields else None
        return used
