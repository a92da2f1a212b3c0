"""People in pasted text, for a person to look through before they are imported."""

import csv
import io

from messaging.audience.files.free_text import parse_text
from messaging.audience.phones import check_region
from schemas.contacts import Person


def parse_people(text: str, region: str | None) -> list[Person]:
    """Return the people found in text, in its order.

    Raises:
        InputError: There is no such country.
    """
    check_region(region)
    return [
        Person(line=found.line, name=found.name, email=found.email, phone=found.phone)
        for found in parse_text(text, region)
    ]


def people_csv(people: list[Person]) -> str:
    """Return people as CSV with a header that an import understands."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Name", "E-mail", "Phone"])
    writer.writerows([person.name, person.email, person.phone] for person in people)
    return text.getvalue()
