"""Suppressions as people keep them."""

import csv
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from messaging.audience.exports import write_pages
from messaging.audience.suppressing import (
    Basis,
    Chosen,
    export,
    lift,
    standing,
    suppress_addresses,
    suppress_file,
    suppressed,
    time_ago,
    time_ahead,
)
from messaging.errors import InputError
from schemas.states import Channel, SuppressionReason

MANUAL, BOUNCED = SuppressionReason.MANUAL, SuppressionReason.BOUNCED
COMPLAINED, UNSUBSCRIBED = SuppressionReason.COMPLAINED, SuppressionReason.UNSUBSCRIBED
ADA = "ada on laptop"
BY_ADA = Basis(MANUAL, ADA)
FILE = """Email;Name;Mobile
Ada@Example.org;Ada;
bad;Bo;
;Cy;+447400000001
;Di;12
ada@example.org;Ada;
ed@example.org;Ed;+447400000002
;;
"""


def held(ledger: Engine) -> dict[str, tuple[str, str]]:
    with ledger.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT channel || ' ' || address_key AS address, reason, source FROM suppressions
                WHERE expires_at IS NULL OR expires_at > now() ORDER BY id
            """)
        )
        return {row.address: (row.reason, row.source) for row in rows}


def test_typed_addresses_are_suppressed_as_the_ledger_compares_them(ledger: Engine):
    found = suppress_addresses(
        ledger, ["Ada@Exämple.org", " ada@xn--exmple-cua.org", "bob", "a@b@c.org", "07400 000001"],
        Basis(UNSUBSCRIBED, ADA, region="GB"),
    )  # fmt: skip

    assert (found.added, found.known) == (2, 0)
    assert [(one.row, one.given, one.reason) for one in found.refused] == [
        (None, "bob", "e-mail: no @"),
        (None, "a@b@c.org", "e-mail: more than one @"),
    ]
    assert held(ledger) == {
        "email ada@xn--exmple-cua.org": ("unsubscribed", ADA),
        "whatsapp +447400000001": ("unsubscribed", ADA),
    }


@pytest.mark.parametrize(
    ("channel", "given", "reason"),
    [
        (Channel.EMAIL, "+447400000001", "e-mail: no @"),
        (Channel.WHATSAPP, "ada@example.org", "no phone number"),
        (None, "07400000001", "phone: no country code; give --region"),
    ],
)
def test_what_is_no_address_of_the_channel_is_refused(
    ledger: Engine, channel: Channel | None, given: str, reason: str
):
    found = suppress_addresses(ledger, [given], Basis(MANUAL, ADA, channel=channel))

    assert (found.added, found.refused[0].reason, held(ledger)) == (0, reason, {})


def test_again_is_known_and_changes_nothing(ledger: Engine):
    suppress_addresses(ledger, ["ada@example.org"], Basis(COMPLAINED, "imap-mailbox/feedback"))

    again = suppress_addresses(ledger, ["ada@example.org", "bo@example.org"], BY_ADA)

    assert (again.added, again.known) == (1, 1)
    assert held(ledger)["email ada@example.org"] == ("complained", "imap-mailbox/feedback")


def test_what_lasts_longer_or_says_more_replaces_what_holds(ledger: Engine):
    soon = datetime.now(UTC) + timedelta(days=1)
    suppress_addresses(ledger, ["ada@example.org"], Basis(BOUNCED, "soft", expires_at=soon))
    suppress_addresses(ledger, ["bo@example.org"], Basis(BOUNCED, "hard"))

    suppress_addresses(ledger, ["ada@example.org"], BY_ADA)
    suppress_addresses(ledger, ["bo@example.org"], Basis(UNSUBSCRIBED, ADA))

    assert held(ledger) == {
        "email ada@example.org": ("manual", ADA),
        "email bo@example.org": ("unsubscribed", ADA),
    }


def test_one_that_has_run_out_is_added_anew(ledger: Engine):
    suppress_addresses(ledger, ["ada@example.org"], BY_ADA)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE suppressions SET expires_at = now() - interval '1 s'"))
    assert held(ledger) == {}

    assert suppress_addresses(ledger, ["ada@example.org"], BY_ADA).added == 1
    assert held(ledger) == {"email ada@example.org": ("manual", ADA)}


@pytest.mark.parametrize(
    ("channel", "addresses", "refused"),
    [
        (
            None,
            {"email ada@example.org", "email ed@example.org", "whatsapp +447400000001"},
            {3: "e-mail: no @", 5: "phone: too short for its country"},
        ),
        (
            Channel.EMAIL,
            {"email ada@example.org", "email ed@example.org"},
            {3: "e-mail: no @", 4: "no e-mail address", 5: "phone: too short for its country"},
        ),
        (
            Channel.WHATSAPP,
            {"whatsapp +447400000001", "whatsapp +447400000002"},
            {
                2: "no phone number",
                3: "e-mail: no @",
                5: "phone: too short for its country",
                6: "no phone number",
            },
        ),
    ],
)
def test_a_files_good_rows_are_done_and_the_others_named_by_row(
    ledger: Engine, tmp_path: Path, channel: Channel | None, addresses: set, refused: dict
):
    path = tmp_path / "optouts.csv"
    path.write_text(FILE)

    found = suppress_file(ledger, path, Basis(UNSUBSCRIBED, ADA, channel=channel, region="GB"))

    assert set(held(ledger)) == addresses
    assert found.added == len(addresses)
    assert {one.row: one.reason for one in found.refused} == refused


def test_a_plain_list_needs_no_header(ledger: Engine, tmp_path: Path):
    path = tmp_path / "optouts.txt"
    path.write_text("ada@example.org\nbo@example.org\ncy@example.org\n")

    assert suppress_file(ledger, path, BY_ADA).added == 3


def test_a_file_without_addresses_gets_a_sentence(ledger: Engine, tmp_path: Path):
    path = tmp_path / "optouts.csv"
    path.write_text("Nick,City\nAda,London\n")

    with pytest.raises(InputError, match="its columns are: Nick, City"):
        suppress_file(ledger, path, BY_ADA)


def test_a_large_file_is_suppressed_in_few_statements(ledger: Engine, tmp_path: Path):
    path = tmp_path / "optouts.csv"
    path.write_text("email\n" + "".join(f"reader{n % 29_999}@example.org\n" for n in range(30_000)))

    first, again = (suppress_file(ledger, path, BY_ADA) for _ in range(2))

    assert (first.added, first.refused) == (29_999, [])
    assert (again.added, again.known) == (0, 29_999)


def test_lifting_ends_a_suppression_and_says_who_did_it(ledger: Engine):
    suppress_addresses(ledger, ["ada@example.org", "+447400000001"], BY_ADA)

    found = lift(ledger, ["Ada@example.org", "+447400000001", "nobody@example.org"], "bo on desk")

    assert (found.lifted, found.unknown) == (2, ["nobody@example.org"])
    assert held(ledger) == {}
    with ledger.begin() as connection:
        assert set(connection.execute(text("SELECT lifted_by FROM suppressions")).scalars()) == {"bo on desk"}


def test_wishes_that_stay_are_named(ledger: Engine):
    addresses = [f"{name}@example.org" for name in ("ada", "bo", "cy")]
    suppress_addresses(ledger, addresses, BY_ADA)
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO contacts (email_key, email, status) VALUES
                    ('ada@example.org', 'ada@example.org', 'unsubscribed'),
                    ('bo@example.org', 'bo@example.org', 'subscribed');
                INSERT INTO audience_opt_outs (audience_id, channel, address_key, source)
                VALUES (1, 'email', 'bo@example.org', 'web')
            """)
        )

    found = lift(ledger, addresses, ADA)

    assert (found.lifted, found.still_unsubscribed) == (3, addresses[:2])


def test_nothing_is_lifted_when_something_typed_is_no_address(ledger: Engine):
    suppress_addresses(ledger, ["ada@example.org"], BY_ADA)

    with pytest.raises(InputError, match=r"number 2 of what was typed is no address \(e-mail: no @\)"):
        lift(ledger, ["ada@example.org", "bob"], ADA)

    assert set(standing(ledger, ["ADA@example.org"])) == {"ADA@example.org"}


def test_pages_are_chosen_by_channel_reason_time_and_end(ledger: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("messaging.audience.suppressing._PAGE", 2)
    suppress_addresses(ledger, [f"reader{n}@example.org" for n in range(5)], BY_ADA)
    suppress_addresses(ledger, ["+447400000001"], Basis(COMPLAINED, ADA))
    lift(ledger, ["reader0@example.org"], ADA)
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE suppressions SET created_at = now() - interval '3 days' WHERE id = 2")
        )

    def found(**chosen) -> list[str]:
        return [one.address_key for page in suppressed(ledger, Chosen(**chosen)) for one in page]

    assert found() == ["reader1@example.org", *(f"reader{n}@example.org" for n in (2, 3, 4)), "+447400000001"]
    assert found(ended=True)[0] == "reader0@example.org"
    assert found(channel=Channel.WHATSAPP) == found(reason=COMPLAINED) == ["+447400000001"]
    assert found(since=time_ago("2d"), channel=Channel.EMAIL) == [f"reader{n}@example.org" for n in (2, 3, 4)]


@pytest.fixture
def three(ledger: Engine) -> None:
    suppress_addresses(ledger, ["=cmd@example.org"], Basis(BOUNCED, "=HYPERLINK(1)"))
    suppress_addresses(ledger, ["+447400000001"], Basis(UNSUBSCRIBED, "web"))
    suppress_addresses(ledger, ["ada@example.org"], Basis(MANUAL, ADA, time_ahead("2099-01-01")))
    lift(ledger, ["+447400000001"], "bo on desk")


@pytest.mark.usefixtures("three")
def test_an_export_is_harmless_to_a_spreadsheet_and_leaves_numbers_alone(ledger: Engine, tmp_path: Path):
    path = tmp_path / "suppressions.csv"

    assert export(ledger, path, Chosen(ended=True)) == 3

    rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    assert list(rows[0]) == ["channel", "address", "reason", "source", "since", "expires", "lifted_by"]
    assert (rows[0]["address"], rows[0]["source"]) == ("'=cmd@example.org", "'=HYPERLINK(1)")
    assert (rows[1]["address"], rows[1]["lifted_by"]) == ("+447400000001", "bo on desk")
    assert (rows[2]["expires"], rows[2]["lifted_by"]) == ("2099-01-01T00:00:00Z", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # What was exported can be given back.
    with ledger.begin() as connection:
        connection.execute(text("TRUNCATE suppressions"))
    suppress_file(ledger, path, BY_ADA)
    assert "email =cmd@example.org" in held(ledger)


@pytest.mark.usefixtures("three")
def test_parquet_holds_what_the_ledger_does(ledger: Engine, tmp_path: Path):
    path = tmp_path / "suppressions.parquet"

    assert export(ledger, path, Chosen(ended=True)) == 3

    table = pl.read_parquet(path)
    assert table["address"].to_list() == ["=cmd@example.org", "+447400000001", "ada@example.org"]
    assert table["expires"][2] == datetime(2099, 1, 1, tzinfo=UTC)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_export_of_nothing_is_a_table_without_rows(ledger: Engine, tmp_path: Path):
    for name in ("none.csv", "none.parquet"):
        assert export(ledger, tmp_path / name, Chosen()) == 0
    assert pl.read_parquet(tmp_path / "none.parquet").columns == pl.read_csv(tmp_path / "none.csv").columns


@pytest.mark.parametrize("name", ["suppressions.csv", "suppressions.parquet"])
def test_an_export_that_fails_leaves_no_file(tmp_path: Path, name: str, migrated: Engine):
    def pages(engine: Engine):
        yield from ()
        with engine.begin() as connection:
            connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(ProgrammingError, match="nowhere"):
        write_pages(tmp_path / name, pages(migrated), pl.Schema({"address": pl.String()}))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["suppressions.xlsx", "nowhere/suppressions.csv"])
def test_a_file_that_cannot_be_written_gets_a_sentence(ledger: Engine, tmp_path: Path, name: str):
    with pytest.raises(InputError, match=r"\.csv or \.parquet|no folder"):
        export(ledger, tmp_path / name, Chosen())


@pytest.mark.parametrize("given", ["soon", "90", "9999999999999d", "2026-13-01", "-1d", "2020-01-01", "0d"])
def test_a_time_to_come_that_is_none_gets_a_sentence(given: str):
    with pytest.raises(InputError):
        time_ahead(given)
