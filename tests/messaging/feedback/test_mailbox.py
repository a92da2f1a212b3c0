"""A mailbox is reached as it is set up, says truly why not, and can neither flood us nor hold us up."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from messaging.errors import AccountError, InputError, NotSent
from messaging.feedback import mailbox
from messaging.feedback.mail import MAX_BYTES
from messaging.feedback.mailbox import MailboxSettings, UnreadableError, open_folder, verify
from tests.fakes.imap_servers import HOST, PASSWORD, USER, ImapServer, dovecot, needs_dovecot, pymap
from tests.fakes.reports import ordinary
from tests.fakes.scripted_imap import HUGE, ScriptedImap, Session, Stored


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def real(authority: trustme.CA) -> Iterator[ImapServer]:
    with dovecot(authority) as server:
        yield server


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def reached(port: int, **changed: object) -> MailboxSettings:
    usual = {"host": HOST, "security": "none", "username": USER, "password": PASSWORD}
    return MailboxSettings(port=port, **usual | changed)


def answering(answer: bytes) -> Callable[[Session, str, str], bytes]:
    return lambda _session, tag, _rest: answer.replace(b"TAG", tag.encode())


@needs_dovecot
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_with_tls_it_says_which_and_how_many_mails_there_are(real: ImapServer, security: str):
    with real.client("ada") as client:
        before = client.select_folder("INBOX")[b"EXISTS"]
        client.append("INBOX", ordinary(), [b"\\Seen"])
        client.append("INBOX", ordinary())
        unseen = len(client.search("UNSEEN"))
    port = real.tls_port if security == "tls" else real.port

    met = verify(reached(port, username="ada", security=security))

    assert met == (
        f"{HOST}:{port} answers, TLSv1.3, logged in as ada; "
        f"INBOX holds {before + 2} mails, {unseen} of them unseen"
    )


@needs_dovecot
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_that_nobody_we_trust_has_signed_is_refused_before_the_password(
    real: ImapServer, security: str
):
    port = real.tls_port if security == "tls" else real.port

    with pytest.raises(AccountError, match="certificate was refused"):
        verify(reached(port, security=security))


@needs_dovecot
def test_a_wrong_password_and_a_missing_folder_are_told_apart(real: ImapServer):
    with pytest.raises(AccountError, match="refused the login: username or password is wrong"):
        verify(reached(real.port, password="another"))
    with pytest.raises(AccountError, match="does not open folder 'Bounces'"):
        verify(reached(real.port, folder="Bounces"))


def test_pymap_is_reached_too():
    with pymap() as server, server.client() as client:
        client.append("INBOX", ordinary())

        assert verify(reached(server.port)).endswith("INBOX holds 1 mails, 1 of them unseen")


def test_without_starttls_on_offer_nothing_is_sent():
    with (
        ScriptedImap().running() as server,
        pytest.raises(AccountError, match="does not offer STARTTLS; nothing was sent"),
    ):
        verify(reached(server.port, security="starttls"))

    assert not server.asked("LOGIN") + server.asked("AUTHENTICATE")


def test_a_server_that_speaks_no_tls_or_is_not_there_is_said_so():
    with ScriptedImap().running() as server, pytest.raises(AccountError, match="no TLS as we ask for it"):
        verify(reached(server.port, security="tls"))
    with pytest.raises(NotSent, match="Connection refused"):
        verify(reached(1))
    with pytest.raises(NotSent, match="there is no such host"):
        verify(reached(993, host="no..such"))


@pytest.mark.parametrize(
    ("said", "error", "sentence"),
    [
        (b"TAG NO [AUTHENTICATIONFAILED] canary", AccountError, "username or password is wrong"),
        (b"TAG NO canary is not welcome", AccountError, "see to username and password"),
        (b"TAG NO [UNAVAILABLE] canary", NotSent, "not now"),
    ],
)
def test_a_refused_login_says_what_to_do_in_our_words(said: bytes, error: type[Exception], sentence: str):
    with (
        ScriptedImap(script={"AUTHENTICATE": answering(said + b"\r\n")}).running() as server,
        pytest.raises(error, match=sentence) as refusal,
    ):
        verify(reached(server.port))

    assert "canary" not in str(refusal.value)
    assert server.opened == 1


def test_a_connection_that_drops_at_the_login_is_no_refusal():
    script = {"AUTHENTICATE": lambda session, _tag, _rest: session.hang_up()}
    with ScriptedImap(script=script).running() as server, pytest.raises(NotSent, match="LOGIN"):
        verify(reached(server.port))


def test_a_server_that_turns_us_away_is_asked_again_later():
    script = {"GREETING": answering(b"* BYE too many connections\r\n")}
    with ScriptedImap(script=script).running() as server, pytest.raises(UnreadableError, match="connecting"):
        verify(reached(server.port))


def test_an_access_token_is_used_and_its_refusal_is_answered_as_the_protocol_asks():
    with ScriptedImap(tokens={USER: "t0ken"}, capabilities="IMAP4rev1 AUTH=XOAUTH2").running() as server:
        assert "logged in as bounces" in verify(
            reached(server.port, password="", access_token=lambda: "t0ken")
        )
        with pytest.raises(AccountError, match="username or password is wrong") as refusal:
            verify(reached(server.port, password="", access_token=lambda: "canary"))

    assert "canary" not in str(refusal.value)


def test_a_password_with_any_letters_reaches_a_server_that_takes_them():
    with ScriptedImap(logins={USER: "pässwörd"}).running() as server:
        assert "logged in" in verify(reached(server.port, password="pässwörd"))
    with ScriptedImap(capabilities="IMAP4rev1").running() as server:
        assert "logged in" in verify(reached(server.port))
        with pytest.raises(AccountError, match="beyond ASCII"):
            verify(reached(server.port, password="pässwörd"))


def test_a_password_goes_over_the_internet_only_encrypted(monkeypatch: pytest.MonkeyPatch):
    with ScriptedImap().running() as server:
        # The address of a public server, as nothing but loopback can be reached from here.
        monkeypatch.setattr(mailbox, "_peer", lambda _connection: "203.0.114.7")
        with pytest.raises(AccountError, match="not sent over the internet"):
            verify(reached(server.port))

    assert not server.asked("AUTHENTICATE")


def test_a_folder_that_may_only_be_read_is_said_so():
    script = {
        "SELECT": answering(
            b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7]\r\n* OK [READ-ONLY]\r\nTAG OK [READ-ONLY]\r\n"
        )
    }
    with ScriptedImap(script=script).running() as server, pytest.raises(AccountError, match="only be read"):
        verify(reached(server.port))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(InputError, match="either a password or"):
        reached(143, password="")
    with pytest.raises(InputError, match="either a password or"):
        reached(143, access_token=lambda: "token")
    with pytest.raises(InputError, match="another folder"):
        reached(143, processed_folder="INBOX")


def test_no_secret_is_in_the_settings_text():
    assert "canary" not in repr(reached(143, password="canary"))


def test_large_mail_is_fetched_up_to_the_first_mebibyte():
    large = ordinary(body="x" * 70 + "\r\n") + b"y" * 3 * MAX_BYTES
    with (
        ScriptedImap({1: Stored(large), 2: Stored(ordinary())}).running() as server,
        open_folder(reached(server.port)) as folder,
    ):
        sizes = {uid: listed.size for uid, listed in folder.listed([1, 2]).items()}
        assert sizes == {1: len(large), 2: len(ordinary())}
        assert folder.contents(sizes) == {1: large[:MAX_BYTES], 2: ordinary()}

    assert [line.rpartition("(")[2] for line in server.asked("FETCH")[1:]] == [
        "BODY.PEEK[])",
        f"BODY.PEEK[]<0.{MAX_BYTES}>)",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b"* 1 FETCH (UID 1 BODY[] {%d}\r\nx" % HUGE,
        b"* 1 EXISTS\r\n" * 200_000,
        b"* 1 FETCH (UID 1 BODY[] " + b"(" * 900_000 + b"\r\n",
        b"x" * 2_000_000,
    ],
    ids=["a literal of 10 GB", "lines without end", "a long line", "no line"],
)
def test_a_server_cannot_make_us_take_more_than_was_asked_for(answer: bytes):
    with ScriptedImap({1: Stored(b"hello")}, {"FETCH": answering(answer)}).running() as server:
        tracemalloc.start()
        try:
            with pytest.raises(UnreadableError), open_folder(reached(server.port)) as folder:
                folder.contents({1: 5})
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert most < 12_000_000


@pytest.mark.parametrize(
    "answer",
    [
        b"* 1 FETCH (UID x)\r\nTAG OK done\r\n",
        b"* 1 FETCH\r\nTAG OK done\r\n",
        b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc\r\nTAG OK done\r\n",
        b"\xff\xfe\r\nTAG OK done\r\n",
        b"TAG NO no such mail\r\n",
        b"TAG BAD what?\r\n",
        b"other OK done\r\n",
    ],
)
def test_nonsense_is_an_error_of_ours_without_its_words(answer: bytes):
    with (
        ScriptedImap({1: Stored(b"hello")}, {"FETCH": answering(answer)}).running() as server,
        pytest.raises((UnreadableError, NotSent), match=f"{HOST}:{server.port}, FETCH: ") as error,
        open_folder(reached(server.port)) as folder,
    ):
        folder.contents({1: 5})

    assert "what?" not in str(error.value)


def test_mails_that_were_not_asked_for_and_sizes_that_are_none_are_passed_over():
    answer = b"* 1 FETCH (UID 1 RFC822.SIZE many)\r\n* 9 FETCH (UID 9 RFC822.SIZE 5)\r\nTAG OK done\r\n"
    with (
        ScriptedImap({1: Stored(b"hello")}, {"FETCH": answering(answer)}).running() as server,
        open_folder(reached(server.port)) as folder,
    ):
        assert {uid: listed.size for uid, listed in folder.listed([1]).items()} == {1: 0}


def test_a_server_that_drips_or_is_silent_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    def drip(session: Session, _tag: str, _rest: str) -> bytes:
        while True:  # until the connection is cut
            session.send(b"x")
            time.sleep(0.05)

    monkeypatch.setattr(mailbox, "_COMMAND_SECONDS", 0.5)
    for script in (drip, lambda _session, _tag, _rest: b""):
        with (
            ScriptedImap({1: Stored(b"hello")}, {"FETCH": script}).running() as server,
            pytest.raises(NotSent, match="FETCH"),
            open_folder(reached(server.port)) as folder,
        ):
            folder.contents({1: 5})


def test_a_large_folder_is_searched_in_parts():
    uids = range(1, 120_001)
    asked: list[str] = []

    def search(_session: Session, tag: str, rest: str) -> bytes:
        asked.append(rest)
        if rest.endswith("UID *"):
            return f"* SEARCH {uids[-1]}\r\n{tag} OK done\r\n".encode()
        first, _, last = rest.split()[3].partition(":")
        found = " ".join(str(uid) for uid in uids if int(first) <= uid <= int(last))
        return f"* SEARCH {found}\r\n{tag} OK done\r\n".encode()

    mails = dict.fromkeys(uids, Stored(b""))
    with (
        ScriptedImap(mails, {"SEARCH": search}).running() as server,
        open_folder(reached(server.port)) as folder,
    ):
        assert list(folder.find(after=10)) == list(uids)[10:]
        assert folder.newest() == 120_000

    assert [rest.split()[3] for rest in asked] == ["11:50010", "50011:100010", "100011:150010", "*"]


def test_the_newest_mail_is_one_that_was_there_when_the_folder_was_selected():
    with (
        ScriptedImap({5: Stored(b"one"), 8: Stored(b"two")}).running() as server,
        open_folder(reached(server.port)) as folder,
    ):
        assert folder.newest() == 8
        server.mails[9] = Stored(b"came since")
        assert folder.newest() == 8


@pytest.mark.parametrize("capabilities", ["UIDPLUS MOVE", "UIDPLUS", ""])
def test_mail_is_moved_whatever_the_server_can(capabilities: str):
    with (
        ScriptedImap(
            {1: Stored(b"one"), 2: Stored(b"two")}, capabilities=f"IMAP4rev1 AUTH=PLAIN {capabilities}"
        ).running() as server,
        open_folder(reached(server.port)) as folder,
    ):
        folder.move([1], "Processed")
        folder.move([2], "Processed")

    assert server.folders == {"Processed": [b"one", b"two"]}
    assert sorted(server.mails) == ([] if "UIDPLUS" in capabilities else [1, 2])
    assert any("\\Deleted" in line for line in server.commands) == ("MOVE" not in capabilities)
