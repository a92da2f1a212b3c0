"""Suppressions are added once, and held against another's list."""

from sqlalchemy import Engine, text

from messaging.storage.suppressions import Compared, add, compare
from schemas.states import Channel, SuppressionReason

BOUNCED, COMPLAINED = SuppressionReason.BOUNCED, SuppressionReason.COMPLAINED
BOTH = [BOUNCED, COMPLAINED]


def added(ledger: Engine, reasons: dict, source: str = "ses:main", channel: Channel = Channel.EMAIL) -> int:
    with ledger.begin() as connection:
        return add(connection, channel, reasons, source)


def compared(ledger: Engine, keys: list[str], source: str = "ses:main") -> Compared:
    with ledger.begin() as connection:
        return compare(connection, Channel.EMAIL, keys, BOTH, source)


def kept(ledger: Engine) -> dict[str, tuple[str, str]]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT address_key, reason, source FROM suppressions"))
        return {row.address_key: (row.reason, row.source) for row in rows}


def test_what_is_added_again_changes_nothing(ledger: Engine):
    first = added(ledger, {"ada@example.org": BOUNCED, "bob@example.org": COMPLAINED})
    again = added(ledger, {"ada@example.org": COMPLAINED, "eve@example.org": BOUNCED}, "ses:other")

    assert (first, again) == (2, 1)
    assert kept(ledger) == {
        "ada@example.org": ("bounced", "ses:main"),
        "bob@example.org": ("complained", "ses:main"),
        "eve@example.org": ("bounced", "ses:other"),
    }


def test_nothing_is_added_of_an_empty_list(ledger: Engine):
    assert added(ledger, {}) == 0


def test_a_suppression_that_would_end_gives_way_to_one_that_does_not(ledger: Engine):
    added(ledger, {"ada@example.org": BOUNCED}, "mailbox")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE suppressions SET expires_at = now() + interval '1 day'"))

    assert added(ledger, {"ada@example.org": COMPLAINED}) == 1
    assert kept(ledger) == {"ada@example.org": ("complained", "ses:main")}
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT expires_at FROM suppressions")).scalar_one() is None


def test_what_a_list_lacks_is_ours_for_good_by_mail_and_not_from_it(ledger: Engine):
    added(ledger, {"listed@example.org": BOUNCED, "gone@example.org": BOUNCED})
    added(ledger, {"ours@example.org": COMPLAINED, "others@example.org": BOUNCED}, "ses:other")
    added(ledger, {"opted-out@example.org": SuppressionReason.UNSUBSCRIBED}, "page")
    added(ledger, {"+447400000001": BOUNCED}, "meta", Channel.WHATSAPP)
    added(ledger, {"soft@example.org": BOUNCED}, "mailbox")
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE suppressions SET expires_at = now() + interval '1 day' WHERE source = 'mailbox'")
        )

    found = compared(ledger, ["listed@example.org"])

    assert found.missing == {"ours@example.org": COMPLAINED, "others@example.org": BOUNCED}
    assert found.gone == 1


def test_an_empty_list_lacks_everything(ledger: Engine):
    added(ledger, {"ours@example.org": BOUNCED}, "mailbox")

    assert compared(ledger, []) == Compared({"ours@example.org": BOUNCED}, 0)
