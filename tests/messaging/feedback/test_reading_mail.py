"""What came back is in the ledger once, whatever breaks on the way, and only then is it marked."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from messaging.errors import AccountError, DatabaseError, MessagingError, NotSent
from messaging.feedback import bounces
from messaging.feedback.mail import MAX_BYTES
from messaging.feedback.mailbox import MailboxSettings
from messaging.feedback.progress import running
from messaging.feedback.reading_mail import IN_USE, read_mailbox
from messaging.storage import feedback_runs
from schemas.feedback import FeedbackReport
from tests.fakes import reports
from tests.fakes.imap_servers import HOST, PASSWORD, USER, CuttingWire, ImapServer, needs_dovecot, pymap
from tests.fakes.imap_servers import dovecot as dovecot_server
from tests.fakes.scripted_imap import HUGE, ScriptedImap, Session, Stored
from tests.messaging.feedback.reached import Sent, sent

BOX = "imap-mailbox/bounces"
QUICK = (0.0, 0.0, 0.0)
READERS = [f"reader{n}@example.org" for n in range(8)]

Read = Callable[..., FeedbackReport]


@pytest.fixture(scope="module")
def imap() -> Iterator[ImapServer]:
    with pymap() as server:
        yield server


@pytest.fixture
def folder(imap: ImapServer) -> str:
    """A folder of its own for each test."""
    name = f"bounces-{uuid4().hex[:8]}"
    with imap.client() as client:
        client.create_folder(name)
    return name


@pytest.fixture
def put(imap: ImapServer, folder: str) -> Callable[..., None]:
    def append(*mails: bytes) -> None:
        with imap.client() as client:
            for mail in mails:
                client.append(folder, mail)

    return append


@pytest.fixture
def read(ledger: Engine, imap: ImapServer, folder: str) -> Read:
    def reading(again: bool = False, box: str = BOX, **changed: object) -> FeedbackReport:  # noqa: FBT001, FBT002 - a test's
        usual = {"host": HOST, "port": imap.port, "security": "none", "folder": folder}
        login = {"username": USER, "password": PASSWORD}
        return read_mailbox(ledger, box, MailboxSettings(**usual | login | changed), again=again, naps=QUICK)

    return reading


def scripted(server: ScriptedImap, **changed: object) -> MailboxSettings:
    usual = {"host": HOST, "port": server.port, "security": "none", "username": USER, "password": PASSWORD}
    return MailboxSettings(**usual | changed)


def bounces_of(people: list[Sent]) -> list[bytes]:
    return [reports.dsn(one.address, one.message) for one in people]


def events(ledger: Engine) -> Counter[tuple[str, str | None]]:
    with ledger.begin() as connection:
        rows = connection.execute(
            text("SELECT kind, address FROM events e LEFT JOIN attempts a ON a.id = e.attempt_id")
        )
        return Counter((row.kind, row.address) for row in rows)


def suppressed(ledger: Engine) -> dict[str, str]:
    with ledger.begin() as connection:
        rows = connection.execute(
            text("SELECT address_key, reason FROM suppressions WHERE expires_at IS NULL")
        )
        return {row.address_key: row.reason for row in rows}


def kept(ledger: Engine) -> int:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT count(*) FROM returned_mails")).scalar_one()


def flags(imap: ImapServer, folder: str) -> list[bool]:
    """Return of each mail whether it is marked as seen."""
    with imap.client() as client:
        client.select_folder(folder, readonly=True)
        found = client.search("ALL")
        return [b"\\Seen" in client.get_flags([uid])[uid] for uid in found]


def test_each_kind_of_mail_becomes_what_it_is_and_only_what_matters_is_kept(
    ledger: Engine, imap: ImapServer, folder: str, put, read: Read
):
    gone, full, spam, cross, away, warned = people = sent(ledger, *READERS[:6])
    put(
        reports.dsn(gone.address, gone.message),
        reports.dsn(full.address, full.message, reports.FULL),
        reports.dsn(spam.address, spam.message, reports.SPAM),
        reports.complaint(cross.address, cross.message),
        reports.out_of_office(away.address, away.message_id),
        reports.dsn(warned.address, warned.message, reports.FULL, action="delayed"),
        reports.ordinary(),
    )

    report = read()

    assert report == FeedbackReport(
        source=BOX, seen=7, recorded=6, suppressed=2,
        kinds={"bounced": 3, "complained": 1, "auto-replied": 1, "delayed": 1},
    )  # fmt: skip
    assert events(ledger) == Counter(
        zip(
            ["bounced", "bounced", "bounced", "complained", "auto-replied", "delayed"],
            [one.address for one in people],
            strict=True,
        )
    )
    assert suppressed(ledger) == {gone.address: "bounced", cross.address: "complained"}
    assert kept(ledger) == 6
    assert flags(imap, folder) == [True] * 6 + [False]


def test_a_second_reading_reads_only_what_is_new_and_again_reads_what_is_unseen(
    ledger: Engine, put, read: Read
):
    one, other = sent(ledger, *READERS[:2])
    put(reports.dsn(one.address, one.message), reports.ordinary())
    assert (read().seen, read().seen) == (2, 0)
    put(reports.dsn(other.address, other.message))

    assert read() == FeedbackReport(source=BOX, seen=1, recorded=1, suppressed=1, kinds={"bounced": 1})
    assert read(again=True).seen == 1  # the ordinary one, still unseen


def test_mail_that_was_marked_unread_or_numbered_anew_is_known(
    ledger: Engine, imap: ImapServer, folder: str, put, read: Read
):
    mails = bounces_of(sent(ledger, *READERS[:3]))
    put(*mails)
    read()
    before = events(ledger)
    with imap.client() as client:
        client.delete_folder(folder)
        client.create_folder(folder)
    put(*mails)

    assert read() == FeedbackReport(source=BOX, seen=3, repeated=3)
    assert events(ledger) == before
    assert kept(ledger) == 3


def test_the_same_mail_in_two_mailboxes_is_one_event(
    ledger: Engine, imap: ImapServer, folder: str, put, read: Read
):
    put(*bounces_of(sent(ledger, READERS[0])))
    first = read()
    with imap.client() as client:
        client.select_folder(folder)
        client.remove_flags(client.search("ALL"), [b"\\Seen"])

    second = read(box="imap-mailbox/other")

    assert (first.recorded, second.seen, second.recorded, second.repeated) == (1, 1, 0, 1)
    assert (sum(events(ledger).values()), kept(ledger)) == (1, 1)


def test_what_somebody_has_opened_is_left_alone_unless_it_is_to_be_read_too(
    ledger: Engine, imap: ImapServer, folder: str, read: Read
):
    first, second = bounces_of(sent(ledger, *READERS[:2]))
    assert read().seen == 0
    with imap.client() as client:
        client.append(folder, first, [b"\\Seen"])
    assert read().seen == 0
    with imap.client() as client:
        client.append(folder, second, [b"\\Seen"])

    assert read(opened_too=True).recorded == 1


def test_opened_mail_from_before_the_first_reading_is_never_read(
    ledger: Engine, imap: ImapServer, folder: str, read: Read
):
    with imap.client() as client:
        client.append(folder, *bounces_of(sent(ledger, READERS[0])), [b"\\Seen"])

    assert (read(opened_too=True).seen, read(opened_too=True).seen) == (0, 0)


def test_bounces_are_moved_and_other_mail_stays(
    ledger: Engine, imap: ImapServer, folder: str, put, read: Read
):
    put(*bounces_of(sent(ledger, *READERS[:2])), reports.ordinary())
    done = f"{folder}-done"

    report = read(processed_folder=done, mark_others=True)

    assert (report.seen, report.problem) == (3, "")
    assert flags(imap, done) == [True, True]
    assert flags(imap, folder) == [True]


def test_a_wrong_password_is_in_the_ledger_and_in_an_error(ledger: Engine, read: Read):
    with pytest.raises(AccountError, match="refused the login"):
        read(password="another")

    with ledger.begin() as connection:
        [run] = feedback_runs.last(connection, BOX, 9)
    assert "refused the login" in run.problem
    assert "another" not in run.problem


def test_an_empty_mailbox_is_in_the_ledger_too(ledger: Engine, read: Read):
    read()

    with ledger.begin() as connection:
        assert feedback_runs.last(connection, BOX, 9) == [FeedbackReport(source=BOX)]


@pytest.mark.parametrize("cuts", [[9_000], [9_000, 7_000, 5_000], [300, 700]])
def test_a_connection_that_drops_loses_nothing_and_doubles_nothing(
    ledger: Engine, imap: ImapServer, put, read: Read, cuts: list[int]
):
    people = sent(ledger, *READERS)
    put(*bounces_of(people))
    wire = CuttingWire(imap.port, cuts)
    with wire.running():
        report = read(port=wire.port)

    assert wire.cut == len(cuts)
    assert report == FeedbackReport(source=BOX, seen=8, recorded=8, suppressed=8, kinds={"bounced": 8})
    assert events(ledger) == Counter(("bounced", one.address) for one in people)


def test_a_server_that_stays_away_is_said_so_after_four_tries(
    ledger: Engine, imap: ImapServer, put, read: Read
):
    put(*bounces_of(sent(ledger, READERS[0])))
    wire = CuttingWire(imap.port, [50] * 9)
    with wire.running(), pytest.raises(NotSent, match="closed"):
        read(port=wire.port)

    assert wire.opened == 4
    assert read().recorded == 1


def test_what_was_recorded_but_not_marked_is_marked_by_the_next_connection(ledger: Engine):
    drops = iter([True, False])

    def store(session: Session, _tag: str, _rest: str) -> bytes | None:
        return session.hang_up() if next(drops) else None

    mails = bounces_of(sent(ledger, *READERS[:2]))
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(mails, 1)}, {"STORE": store})
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.seen, report.recorded, report.repeated) == (2, 2, 0)
    assert [mail.seen for mail in server.mails.values()] == [True, True]
    assert len(server.asked("FETCH")) == 2  # sizes and bodies, once


def test_mail_that_cannot_be_marked_is_said_so_and_not_read_twice(ledger: Engine):
    script = {"STORE": lambda _session, tag, _rest: f"{tag} NO never\r\n".encode()}
    server = ScriptedImap({1: Stored(*bounces_of(sent(ledger, READERS[0])))}, script)
    with server.running():
        first = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
        second = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (first.recorded, second.seen) == (1, 0)
    assert "not marked" in first.problem


def one_breaks(uid: int, how: Callable[[Session, str], bytes]) -> dict:
    """Let the fetch of one mail's body break, alone or among others."""

    def fetch(session: Session, tag: str, rest: str) -> bytes | None:
        if "BODY.PEEK" in rest and uid in session.chosen(rest):
            return how(session, tag)
        return None

    return {"FETCH": fetch}


@pytest.mark.parametrize(
    "how",
    [
        lambda session, _tag: session.hang_up(),
        lambda _session, tag: f"{tag} NO [SERVERBUG] it is broken\r\n".encode(),
        lambda _session, _tag: b"* 2 FETCH (UID 2 BODY[] {%d}\r\n" % HUGE,
        lambda _session, _tag: b"* 2 FETCH (UID 2 BODY[] {%d}\r\n" % MAX_BYTES + b"x" * MAX_BYTES * 2,
        lambda _session, tag: f"* 2 FETCH (UID 2 BODY[] NIL)\r\n{tag} OK done\r\n".encode(),
    ],
    ids=["hangs up", "refuses", "announces 10 GB", "sends more than it said", "has none"],
)
def test_one_mail_that_the_server_cannot_hand_out_does_not_stop_the_others(ledger: Engine, how):
    people = sent(ledger, *READERS[:4])
    server = ScriptedImap(
        {n: Stored(mail) for n, mail in enumerate(bounces_of(people), 1)}, one_breaks(2, how)
    )
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
        again = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.seen, report.recorded, report.set_aside) == (3, 3, 1)
    assert [mail.seen for mail in server.mails.values()] == [True, False, True, True]
    assert (again.seen, again.set_aside) == (0, 0)
    assert ("bounced", people[1].address) not in events(ledger)


def test_one_mail_whose_size_the_server_cannot_say_does_not_stop_the_others(ledger: Engine):
    def fetch(session: Session, tag: str, rest: str) -> bytes | None:
        if "RFC822.SIZE" in rest and 2 in session.chosen(rest):
            return f"{tag} NO [SERVERBUG] it is broken\r\n".encode()
        return None

    mails = bounces_of(sent(ledger, *READERS[:4]))
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(mails, 1)}, {"FETCH": fetch})
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.seen, report.recorded, report.set_aside) == (3, 3, 1)
    assert [mail.seen for mail in server.mails.values()] == [True, False, True, True]


def test_another_account_under_the_same_name_is_read_from_its_beginning(ledger: Engine):
    first, second = bounces_of(sent(ledger, *READERS[:2]))
    one = ScriptedImap({5: Stored(first)})
    other = ScriptedImap({3: Stored(second)}, logins={"returns": PASSWORD})
    with one.running(), other.running():
        assert read_mailbox(ledger, BOX, scripted(one), naps=QUICK).recorded == 1
        assert read_mailbox(ledger, BOX, scripted(other, username="returns"), naps=QUICK).recorded == 1
        assert read_mailbox(ledger, BOX, scripted(one), naps=QUICK).seen == 0


def test_when_the_time_is_up_the_next_reading_goes_on(ledger: Engine):
    mails = bounces_of(sent(ledger, *[f"reader{n}@example.org" for n in range(120)]))
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(mails, 1)})
    with server.running():
        found = [read_mailbox(ledger, BOX, scripted(server), seconds=1e-9, naps=QUICK) for _ in range(4)]

    assert [(report.seen, report.recorded, report.problem) for report in found] == [
        (50, 50, ""), (50, 50, ""), (20, 20, ""), (0, 0, ""),
    ]  # fmt: skip


def test_when_the_time_is_up_no_new_connection_is_made(ledger: Engine):
    mails = bounces_of(sent(ledger, *[f"reader{n}@example.org" for n in range(60)]))
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(mails, 1)})
    server.script["FETCH"] = lambda session, _tag, rest: (
        session.hang_up() if 60 in session.chosen(rest) else None
    )
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), seconds=1e-9, naps=QUICK)

    assert (report.seen, server.opened) == (50, 1)
    assert "closed" in report.problem


def test_when_no_mail_can_be_fetched_none_is_passed_over(ledger: Engine):
    def fetch(session: Session, _tag: str, rest: str) -> bytes | None:
        return session.hang_up() if "BODY.PEEK" in rest and broken else None

    broken = True
    mails = bounces_of(sent(ledger, *READERS[:5]))
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(mails, 1)}, {"FETCH": fetch})
    with server.running():
        with pytest.raises(MessagingError, match="3 mails in a row"):
            read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
        broken = False
        assert read_mailbox(ledger, BOX, scripted(server), naps=QUICK).recorded == 5


def test_sizes_that_are_lies_and_mail_beyond_the_limit_are_read_as_far_as_is_kept(ledger: Engine):
    people = sent(ledger, *READERS[:3])
    small, large, huge = bounces_of(people)
    large += b"x" * MAX_BYTES
    huge += b"y" * 3 * MAX_BYTES
    server = ScriptedImap({1: Stored(small, said_size=0), 2: Stored(large, said_size=7), 3: Stored(huge)})
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.recorded, report.set_aside) == (3, 0)
    with ledger.begin() as connection:
        sizes = connection.execute(
            text("SELECT size, octet_length(raw) AS raw FROM returned_mails ORDER BY size")
        )
        assert [(row.size, row.raw < 5_000) for row in sizes] == [
            (len(small), True), (MAX_BYTES, True), (len(huge), True),
        ]  # fmt: skip


def test_a_mail_whose_words_the_database_does_not_take_is_recorded_all_the_same(ledger: Engine):
    [one] = sent(ledger, READERS[0])
    mail = reports.dsn(one.address, one.message, "550 5.1.1 <{}> no such user here NUL")
    server = ScriptedImap({1: Stored(mail.replace(b"NUL", b"\0\xed\xa0\x80"))})
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.recorded, report.suppressed, report.set_aside) == (1, 1, 0)


def test_one_mail_that_cannot_be_recorded_does_not_stop_the_others(ledger: Engine):
    people = sent(ledger, *READERS[:4])
    with ledger.begin() as connection:
        connection.execute(
            text("ALTER TABLE returned_mails ADD CONSTRAINT no_second CHECK (size <> :size)".replace(
                ":size", str(len(bounces_of(people)[1]) + 1)))
        )  # fmt: skip
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(bounces_of(people), 1)})
    server.mails[2].content += b"\n"
    try:
        with server.running():
            report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
    finally:
        with ledger.begin() as connection:
            connection.execute(text("ALTER TABLE returned_mails DROP CONSTRAINT no_second"))

    assert (report.seen, report.recorded, report.set_aside) == (3, 3, 1)


def test_a_ledger_that_does_not_fit_stops_the_reading_and_no_mail_is_set_aside(ledger: Engine):
    server = ScriptedImap({1: Stored(*bounces_of(sent(ledger, READERS[0])))})
    rename = "ALTER TABLE returned_mails RENAME COLUMN {} TO {}"
    with ledger.begin() as connection:
        connection.execute(text(rename.format("notes", "remarks")))
    try:
        with server.running(), pytest.raises(DatabaseError, match="UndefinedColumn"):
            read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
    finally:
        with ledger.begin() as connection:
            connection.execute(text(rename.format("remarks", "notes")))
    with server.running():
        assert read_mailbox(ledger, BOX, scripted(server), naps=QUICK).recorded == 1


def test_a_mail_that_our_parser_has_no_answer_to_is_kept_for_a_better_one(
    ledger: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    people = sent(ledger, *READERS[:2])
    first, second = bounces_of(people)
    real = bounces.read_origin
    monkeypatch.setattr(  # a defect of ours, at one mail
        bounces,
        "read_origin",
        lambda mail, *more: real(mail, *more) if READERS[0].encode() in mail.returned else 1 / 0,
    )
    server = ScriptedImap({1: Stored(first), 2: Stored(second)})
    with server.running():
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.seen, report.recorded, report.set_aside) == (2, 1, 1)
    assert kept(ledger) == 2
    assert [mail.seen for mail in server.mails.values()] == [True, False]
    assert "ZeroDivisionError" in caplog.text


def test_two_readers_at_once_are_one(ledger: Engine):
    reading, go_on = threading.Event(), threading.Event()

    def search(_session: Session, _tag: str, _rest: str) -> None:
        reading.set()
        assert go_on.wait(30)

    server = ScriptedImap({1: Stored(*bounces_of(sent(ledger, READERS[0])))}, {"SEARCH": search})
    first: list[FeedbackReport] = []
    with server.running():
        thread = threading.Thread(
            target=lambda: first.append(read_mailbox(ledger, BOX, scripted(server), naps=QUICK))
        )
        thread.start()
        assert reading.wait(30)
        assert read_mailbox(ledger, BOX, scripted(server), naps=QUICK) == FeedbackReport(
            source=BOX, problem=IN_USE
        )
        go_on.set()
        thread.join(30)

    assert (first[0].recorded, server.opened) == (1, 1)


def test_who_stops_a_reading_keeps_what_was_read(ledger: Engine):
    def store(_session: Session, _tag: str, _rest: str) -> None:
        for progress in running():
            progress.stop()

    people = sent(ledger, *[f"reader{n}@example.org" for n in range(60)])
    server = ScriptedImap({n: Stored(mail) for n, mail in enumerate(bounces_of(people), 1)}, {"STORE": store})
    with server.running():
        with pytest.raises(MessagingError, match="was stopped"):
            read_mailbox(ledger, BOX, scripted(server), naps=QUICK)
        assert sum(n for (kind, _), n in events(ledger).items() if kind == "bounced") == 50
        assert not running()
        server.script.clear()
        report = read_mailbox(ledger, BOX, scripted(server), naps=QUICK)

    assert (report.recorded, report.repeated) == (10, 0)


def test_nobody_and_no_secret_is_in_the_log(
    ledger: Engine, imap: ImapServer, put, read: Read, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, logger="messaging")
    caplog.set_level(logging.DEBUG, logger="imapclient")
    put(*bounces_of(sent(ledger, "canary@example.org")))
    wire = CuttingWire(imap.port, [700])
    with wire.running():
        read(port=wire.port)

    assert "1 mails read" in caplog.text
    assert "canary" not in caplog.text
    assert PASSWORD not in caplog.text


@needs_dovecot
def test_dovecot_hands_out_moves_and_numbers_anew(ledger: Engine):
    import trustme  # noqa: PLC0415

    people = sent(ledger, *READERS)
    mails = bounces_of(people)
    with dovecot_server(trustme.CA()) as server:
        user = f"u{uuid4().hex[:8]}"
        box = {"host": HOST, "security": "none", "username": user, "password": PASSWORD}
        with server.client(user) as client:
            for mail in [*mails, reports.ordinary()]:
                client.append("INBOX", mail)
        wire = CuttingWire(server.port, [7_000, 9_000])
        with wire.running():
            settings = MailboxSettings(port=wire.port, processed_folder="Processed", **box)
            report = read_mailbox(ledger, BOX, settings, naps=QUICK)
        assert (wire.cut, report.seen, report.recorded, report.problem) == (2, 9, 8, "")
        with server.client(user) as client:
            assert (client.select_folder("INBOX")[b"EXISTS"], len(client.search("UNSEEN"))) == (1, 1)
            assert (client.select_folder("Processed")[b"EXISTS"], len(client.search("UNSEEN"))) == (8, 0)
            client.create_folder("Bounces")
            for mail in mails:
                client.append("Bounces", mail)
        settings = MailboxSettings(port=server.port, folder="Bounces", **box)
        assert read_mailbox(ledger, BOX, settings).repeated == 8
        with server.client(user) as client:
            client.delete_folder("Bounces")
            client.create_folder("Bounces")
            client.append("Bounces", mails[0])
        assert read_mailbox(ledger, BOX, settings).repeated == 1

    assert events(ledger) == Counter(("bounced", one.address) for one in people)
