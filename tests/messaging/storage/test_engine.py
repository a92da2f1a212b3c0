"""The ledger's database: found, or refused in a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError

from messaging.errors import DatabaseError, InputError
from messaging.settings import Settings
from messaging.storage import embedded
from messaging.storage.engine import connect


def settings(url: str) -> Settings:
    return Settings(database_url=SecretStr(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "not a database address"),
        ("mysql://u:secret@127.0.0.1/x", "in PostgreSQL only; OUTFLOW_DATABASE_URL names mysql"),
    ],
)
def test_what_is_no_postgresql_address_is_refused(url: str, says: str):
    with pytest.raises(InputError, match=says) as raised:
        connect(settings(url))

    assert "secret" not in str(raised.value)


def test_a_database_that_is_not_there_is_said_without_the_password():
    with pytest.raises(DatabaseError, match="cannot be reached") as raised:
        connect(settings("postgresql://u:secret@127.0.0.1:1/x"))

    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__  # the driver's own error would be printed with it


def test_the_same_folder_gives_the_same_server(home: Path, database_url: str):
    assert embedded.start(home) == database_url


def test_a_list_of_users_that_was_cut_short_in_writing_keeps_nobody_out(home: Path, database_url: str):
    users = home / "postgres" / ".handle_pids.json"
    users.write_text(f"[]{os.getpid()}]")
    code = (
        "import pathlib, sys; from messaging.storage import embedded; "
        "print(embedded.start(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=False, timeout=120
    )

    assert done.stdout.strip() == database_url, done.stderr
    assert os.getpid() in json.loads(users.read_text())  # else the server would end with the other process


def test_an_error_of_the_engine_shows_no_parameters(migrated: Engine):
    statement = text("SELECT 1 / :zero, CAST(:address AS text)")
    with pytest.raises(DataError) as raised, migrated.connect() as connection:
        connection.execute(statement, {"zero": 0, "address": "a@b.example"})

    assert "a@b.example" not in str(raised.value)


def test_as_root_a_folder_under_a_private_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    with pytest.raises(InputError, match="cannot enter"):
        embedded.start(private / "outflow")

    assert private.stat().st_mode & 0o777 == 0o700  # and nobody opened it
    assert not (private / "outflow").exists()
