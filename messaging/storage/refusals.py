"""Attempts that a server refused, as their address leads to nobody."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from messaging.storage.prepared import by_index

_OF_BATCH = text("""
    SELECT a.id, a.token, a.code, a.status, a.reply, a.answered_at, false AS has_moved FROM attempts a
    WHERE a.batch_id = :batch_id AND a.unreachable AND a.state = 'rejected'
    UNION ALL
    SELECT a.id, a.token, NULL, NULL, NULL, NULL, true FROM attempts a
    WHERE a.id = ANY (:ids) AND a.batch_id + 0 <> :batch_id
""")


def of_batch(connection: Connection, batch_id: int, ids: Collection[int]) -> Sequence[Row[Any]]:
    """Return whom a batch could not reach: those it still has, and of `ids` those that fell back meanwhile.

    Rows have id, token, code, status, reply, answered_at and has_moved.
    """
    with by_index(connection):
        return connection.execute(_OF_BATCH, {"batch_id": batch_id, "ids": list(ids)}).all()
