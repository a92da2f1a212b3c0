"""Where the sessions of WhatsApp Web are kept, and who may use one: our PostgreSQL, a schema of its own.

The library's tables know accounts by the addresses of their devices; which device is which account's stands
in a table of ours beside them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString
from urllib.parse import quote, urlencode

import psycopg

SCHEMA: Final = "whatsapp_web"
_ONE_OWNER: Final = 7_305_803  # any number: the class of the advisory locks on accounts
_LOCK_SECONDS: Final = 3.0  # for an owner that is just ending

_ACCOUNTS: LiteralString = """
    CREATE TABLE IF NOT EXISTS whatsapp_web.accounts (
        name text PRIMARY KEY,
        device text NOT NULL,
        paired_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


class InUse(Exception):
    """Another process has this account."""


class Store:
    """The store, with one account of it locked for as long as its connection lives."""

    def __init__(self, connection: "psycopg.Connection[tuple[str | None]]", account: str) -> None:
        """See `owned`."""
        self._connection = connection
        self._account = account

    @property
    def address(self) -> str:
        """The database's address as Go's driver lib/pq wants it, with the schema to use.

        It takes a folder of a Unix socket as `host` behind the question mark, and knows no `sslmode=prefer`
        (github.com/lib/pq, connector.go and ssl.go).
        """
        info = self._connection.info
        login = quote(info.user, safe="")
        if info.password:
            login += f":{quote(info.password, safe='')}"
        options = {"search_path": SCHEMA, "application_name": "outflow whatsapp-web"}
        if info.host.startswith("/"):
            host = ""
            options |= {"host": info.host, "port": str(info.port)}
        else:
            named = info.get_parameters()
            host = f"[{info.host}]" if ":" in info.host else info.host
            host += f":{info.port}"
            strict = named.get("sslmode") in {"verify-ca", "verify-full"}
            options["sslmode"] = (
                named["sslmode"] if strict else "require" if self._connection.pgconn.ssl_in_use else "disable"
            )
            options |= {key: named[key] for key in ("sslrootcert", "sslcert", "sslkey") if named.get(key)}
        return f"postgres://{login}@{host}/{quote(info.dbname, safe='')}?{urlencode(options)}"

    def device(self) -> tuple[str | None, bool]:
        """Return the account's device, as in 447400000001:3@s.whatsapp.net, and whether it ever had one.

        A device whose phone has unlinked it is struck, by us and by the library.
        """
        [paired] = self._connection.execute(
            "SELECT (SELECT device FROM whatsapp_web.accounts WHERE name = %s)", (self._account,)
        ).fetchone() or (None,)
        [tables] = self._connection.execute(
            "SELECT to_regclass('whatsapp_web.whatsmeow_device')::text"
        ).fetchone() or (None,)
        if paired is None or tables is None:
            return None, paired is not None
        [known] = self._connection.execute(
            "SELECT (SELECT jid FROM whatsapp_web.whatsmeow_device WHERE jid = %s)", (paired,)
        ).fetchone() or (None,)
        return known, True

    def remember(self, device: str) -> None:
        """Keep which device is this account's."""
        self._connection.execute(
            "INSERT INTO whatsapp_web.accounts (name, device) VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET device = excluded.device, paired_at = clock_timestamp()",
            (self._account, device),
        )

    def strike(self, device: str) -> None:
        """Forget a device that WhatsApp lets in no more, so that the next pairing begins with a new one.

        The library does the same, but after it has told us, and may be ended before it comes to it.
        """
        self._connection.execute("DELETE FROM whatsapp_web.whatsmeow_device WHERE jid = %s", (device,))

    def still_ours(self) -> bool:
        """Say whether the connection that holds the lock still lives."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


@contextmanager
def owned(database: str, account: str) -> Iterator[Store]:
    """Open the store and lock an account, for this process alone.

    Raises:
        InUse: Another process has it.
        psycopg.Error: The database is away, or does not let us.
    """
    with psycopg.connect(database, autocommit=True, connect_timeout=10) as connection:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _locked(connection, account):
            if time.monotonic() > deadline:
                raise InUse
            time.sleep(0.05)
        if connection.execute("SELECT to_regclass('whatsapp_web.accounts')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA IF NOT EXISTS whatsapp_web")
            connection.execute(_ACCOUNTS)
        yield Store(connection, account)


def _locked(connection: "psycopg.Connection[tuple[str | None]]", account: str) -> bool:
    row = connection.execute(
        "SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_ONE_OWNER, account)
    ).fetchone()
    return row is not None and bool(row[0])
