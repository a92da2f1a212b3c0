"""Mail that came back: the evidence itself, and how far each mailbox was read."""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from messaging.storage.prepared import by_index

_LEVEL: Final = 6
_PAGE_MAILS: Final = 200
_PAGE_BYTES: Final = 8 << 20
_ONE_READER: Final = 7_305_804  # any number: the class of the advisory locks on mailboxes

_KEEP = text("""
    INSERT INTO returned_mails (mailbox, sha256, size, raw, findings, notes, received_at)
    VALUES (:mailbox, :sha256, :size, :raw, :findings, :notes, :received_at)
    ON CONFLICT (sha256) DO NOTHING
""")
_MAILBOXES = text("SELECT sha256, mailbox FROM returned_mails WHERE sha256 = ANY (:digests)")
# As many as fit: the sum of their sizes is known without reading them.
_PAGE = text("""
    SELECT id, mailbox, sha256, raw, findings, notes, received_at FROM (
        SELECT chosen.*, sum(octet_length(raw)) OVER (ORDER BY id) - octet_length(raw) AS before FROM (
            SELECT * FROM returned_mails
            WHERE id > :after AND id <= :last
                AND (CAST(:since AS timestamptz) IS NULL OR received_at >= :since)
            ORDER BY id LIMIT :most FOR NO KEY UPDATE
        ) chosen
    ) sized
    WHERE before < :most_bytes ORDER BY id
""")
_COUNT = text("""
    SELECT count(*) AS mails, coalesce(max(id), 0) AS last FROM returned_mails
    WHERE CAST(:since AS timestamptz) IS NULL OR received_at >= :since
""")
_REWRITE = text("UPDATE returned_mails SET findings = :findings, notes = :notes WHERE id = :id")

_TAKE_BACK = text("""
    DELETE FROM events e USING unnest(CAST(:sources AS text[]), CAST(:names AS text[])) AS t (source, name)
    WHERE e.source = t.source AND e.source_id = t.name
    RETURNING e.source, e.source_id, e.attempt_id
""")

_POSITION = text("""
    SELECT last_uid FROM mailbox_positions
    WHERE mailbox = :mailbox AND folder = :folder AND uid_validity = :uid_validity
""")
_MOVE_ON = text("""
    INSERT INTO mailbox_positions (mailbox, folder, uid_validity, last_uid)
    VALUES (:mailbox, :folder, :uid_validity, :last_uid)
    ON CONFLICT (mailbox, folder) DO UPDATE
    SET uid_validity = excluded.uid_validity, last_uid = excluded.last_uid
""")
_FORGET = text("DELETE FROM mailbox_positions WHERE mailbox = :mailbox")
_UNLOCK = text("SELECT pg_advisory_unlock(:lock, hashtext(:mailbox))")
_LOCK = text("SELECT pg_try_advisory_lock(:lock, hashtext(:mailbox))")


@dataclass(frozen=True, slots=True)
class Returned:
    """A mail to keep."""

    sha256: bytes
    """Of the bytes as they were read."""
    size: int
    """Bytes in the mailbox; `content` may be fewer."""
    content: bytes
    findings: list[dict[str, Any]]
    notes: list[str]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail that was kept."""

    id: int
    mailbox: str
    sha256: bytes
    raw: bytes
    """Compressed."""
    findings: list[dict[str, Any]]
    notes: list[str]
    received_at: datetime

    def content(self, most: int) -> bytes:
        """Return the mail's bytes, as many as there may be at most."""
        return zlib.decompressobj().decompress(self.raw, most)


def keep(connection: Connection, mailbox: str, mails: Sequence[Returned]) -> dict[bytes, str]:
    """Keep mails, each once; return by digest whose each is: one known before stays its first mailbox's."""
    if not mails:
        return {}
    rows = [
        {
            "mailbox": mailbox,
            "sha256": mail.sha256,
            "size": mail.size,
            "raw": zlib.compress(mail.content, _LEVEL),
            "findings": Jsonb(mail.findings),
            "notes": Jsonb(mail.notes),
            "received_at": mail.received_at,
        }
        for mail in sorted(mails, key=lambda mail: mail.sha256)  # two readers never wait for each other
    ]
    connection.execute(_KEEP, rows)
    # Only now: a mail that another mailbox brought at the same time is seen once that one has committed.
    found = connection.execute(_MAILBOXES, {"digests": [mail.sha256 for mail in mails]})
    return {bytes(row.sha256): row.mailbox for row in found}


def count(connection: Connection, since: datetime | None) -> tuple[int, int]:
    """Return how many mails are kept since a time, and the last one's id."""
    row = connection.execute(_COUNT, {"since": since}).one()
    return row.mails, row.last


def page(connection: Connection, after: int, last: int, since: datetime | None) -> list[Kept]:
    """Return the next mails by id; nobody else changes them until the transaction ends.

    Up to 200 that together hold some 8 MiB, compressed, and one at least.
    """
    parameters = {
        "after": after,
        "last": last,
        "since": since,
        "most": _PAGE_MAILS,
        "most_bytes": _PAGE_BYTES,
    }
    return [Kept(**row) for row in connection.execute(_PAGE, parameters).mappings()]


def rewrite(
    connection: Connection, mail_id: int, findings: list[dict[str, Any]], notes: Sequence[str]
) -> None:
    """Replace what a mail was found to say."""
    values = {"id": mail_id, "findings": Jsonb(findings), "notes": Jsonb(list(notes))}
    connection.execute(_REWRITE, values)


def take_back(connection: Connection, events: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Delete events, by their source and its name for them; return the attempts of those that had one."""
    parameters = {"sources": [source for source, _ in events], "names": [name for _, name in events]}
    with by_index(connection):
        rows = connection.execute(_TAKE_BACK, parameters).all()
    return {(row.source, row.source_id): row.attempt_id for row in rows if row.attempt_id is not None}


def position(connection: Connection, mailbox: str, folder: str, uid_validity: int) -> int | None:
    """Return the number up to which all mail of a folder was read; None: it is new, or numbered anew.

    `folder` says whose numbers they are: the account with it.
    """
    key = {"mailbox": mailbox, "folder": folder, "uid_validity": uid_validity}
    found = connection.execute(_POSITION, key).scalar_one_or_none()
    return None if found is None else int(found)


def move_on(connection: Connection, mailbox: str, folder: str, uid_validity: int, last_uid: int) -> None:
    """Note that all mail of a folder up to a number was read."""
    key = {"mailbox": mailbox, "folder": folder, "uid_validity": uid_validity, "last_uid": last_uid}
    connection.execute(_MOVE_ON, key)


def forget_positions(connection: Connection, mailbox: str) -> None:
    """Begin anew with a mailbox: what is unseen in it is read again."""
    connection.execute(_FORGET, {"mailbox": mailbox})


def lock(connection: Connection, mailbox: str) -> bool:
    """Let nobody else read a mailbox while this connection is open; False: somebody does."""
    return bool(connection.execute(_LOCK, {"lock": _ONE_READER, "mailbox": mailbox}).scalar_one())


def unlock(connection: Connection, mailbox: str) -> None:
    """Let others read the mailbox at once; the end of the connection does so soon."""
    connection.execute(_UNLOCK, {"lock": _ONE_READER, "mailbox": mailbox})
