"""What can be taken out of the ledger as a file."""

from enum import StrEnum


class ExportKind(StrEnum):
    """One file: a row for each of these."""

    CONTACTS = "contacts"
    ATTEMPTS = "attempts"
    FAILED = "failed"  # recipients who were refused, or of whom nobody knows
    BOUNCES = "bounces"  # and complaints
    EVENTS = "events"
