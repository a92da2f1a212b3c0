"""The keys that links are signed with, shared by all who send and all who serve pages."""

import secrets

from sqlalchemy import Connection, text

from messaging.errors import InputError
from messaging.tokens import KEY_BYTES, LinkKey

_MOST = 255
_READ = text("SELECT id, key FROM link_keys ORDER BY id")
_ADD = text("INSERT INTO link_keys (id, key) VALUES (:id, :key) ON CONFLICT (id) DO NOTHING")


def read_keys(connection: Connection) -> dict[int, bytes]:
    """Return the keys by number, making the first one when there is none."""
    found = _read(connection)
    if not found:
        connection.execute(_ADD, {"id": 1, "key": secrets.token_bytes(KEY_BYTES)})
        found = _read(connection)  # that of another process, if it came first
    return found


def newest_key(connection: Connection) -> LinkKey:
    """Return the key that signs."""
    return LinkKey(*max(read_keys(connection).items()))


def add_key(connection: Connection) -> int:
    """Make a new key, which signs from now on, and return its number; links of the others stay good.

    Raises:
        InputError: There are 255 already.
    """
    newest = max(read_keys(connection))
    if newest == _MOST:
        raise InputError(f"there are {_MOST} keys already, and links of the oldest must stay good")
    connection.execute(_ADD, {"id": newest + 1, "key": secrets.token_bytes(KEY_BYTES)})
    return newest + 1


def _read(connection: Connection) -> dict[int, bytes]:
    return {row.id: bytes(row.key) for row in connection.execute(_READ)}
