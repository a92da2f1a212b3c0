"""What comes back after a campaign is read by a flow, and the next campaign leaves those people out."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import typer
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from blocks import ImapMailbox, SmtpAccount
from flows.launch_campaign import launch_campaign
from flows.process_bounces import process_bounces
from messaging import sandbox
from messaging.errors import AccountError, InputError, MessagingError
from messaging.storage import feedback_runs
from outflow.bounces import bounces
from schemas.campaign import CampaignSpec
from schemas.feedback import BouncesRequest, FeedbackReport
from tests.fakes import reports
from tests.fakes.imap_servers import HOST, PASSWORD, USER, ImapServer, pymap
from tests.fakes.scripted_imap import ScriptedImap, Stored

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = [f"reader{n}@example.org" for n in range(6)]

app = typer.Typer()
app.command()(bounces)


@pytest.fixture
def imap() -> Iterator[ImapServer]:
    with pymap() as server:
        yield server


@pytest.fixture
async def saved() -> Callable[..., object]:
    """Save mailboxes, real blocks; those of other tests are gone."""
    from tasks.accounts import list_accounts, remove_account  # noqa: PLC0415 - of Prefect's server

    for reference in await list_accounts():
        if reference.startswith("imap-mailbox/"):
            await remove_account(reference)

    async def save(port: int, name: str = "bounces", **values: str) -> str:
        usual = {"host": HOST, "port": port, "security": "none", "username": USER, "password": PASSWORD}
        await ImapMailbox(**usual | values).asave(name, overwrite=True)
        return f"imap-mailbox/{name}"

    return save


@pytest.fixture
def came_in(server: sandbox.Sandbox) -> Callable[[], dict[str, bytes]]:
    """Return what the sandbox took, by recipient, as it was on the wire."""

    def messages() -> dict[str, bytes]:
        found = {}
        for file in (server.outbox / "new").iterdir():
            envelope, _, message = file.read_bytes().replace(b"\r\n", b"\n").partition(b"X-Sandbox-Rcpt-To: ")
            assert envelope.startswith(b"X-Sandbox-Mail-From: ")
            recipient, _, message = message.partition(b"\n")
            found[recipient.decode().strip()] = message
        return found

    return messages


def suppressed(ledger: Engine) -> dict[str, tuple[str, str]]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT address_key, reason, source FROM suppressions"))
        return {row.address_key: (row.reason, row.source) for row in rows}


async def test_who_bounced_or_complained_is_left_out_of_the_next_campaign(
    ledger: Engine,
    audience,
    spec: CampaignSpec,
    server,
    account,
    received,
    came_in,
    imap: ImapServer,
    saved,
    artifact,
):
    audience(*READERS)
    await account(server.port)
    first = await launch_campaign(spec)
    taken = came_in()
    gone, full, cross, away, _, _ = READERS
    with imap.client() as client:
        for mail in [
            reports.dsn(gone, taken[gone]),
            reports.dsn(full, taken[full], reports.FULL),
            reports.complaint(cross, taken[cross]),
            reports.out_of_office(away),
            reports.dsn("stranger@example.org", reports.message("stranger@example.org")),
            reports.ordinary(),
        ]:
            client.append("INBOX", mail)
    box = await saved(imap.port)

    [report] = await process_bounces()
    [nothing] = await process_bounces(BouncesRequest(mailbox=box))

    assert report == FeedbackReport(
        source=box, seen=6, recorded=5, unmatched=1, suppressed=2,
        kinds={"bounced": 3, "complained": 1, "auto-replied": 1},
    )  # fmt: skip
    assert nothing == FeedbackReport(source=box)
    assert suppressed(ledger) == {gone: ("bounced", box), cross: ("complained", box)}
    with ledger.begin() as connection:
        found = connection.execute(
            text("""
                SELECT kind, address, a.campaign_id, details ->> 'reason' AS reason FROM events e
                JOIN attempts a ON a.id = e.attempt_id WHERE source = :box ORDER BY a.id
            """),
            {"box": box},
        )
        assert [tuple(row) for row in found] == [
            ("bounced", gone, first.campaign_id, "user unknown"),
            ("bounced", full, first.campaign_id, "mailbox full"),
            ("complained", cross, first.campaign_id, "abuse"),
            ("auto-replied", away, first.campaign_id, None),
        ]
    rows = json.loads((await artifact("bounces")).data)
    assert [(row["read from"], row["messages"]) for row in rows] == [(box, 6)]  # nothing is shown of nothing

    second = await launch_campaign(spec.model_copy(update={"name": "summer-offer"}))

    assert second.totals.accepted == 4
    assert received() == Counter(READERS) + Counter(set(READERS) - {gone, cross})


async def test_a_mailbox_that_cannot_be_read_fails_the_run_after_the_others(ledger: Engine, saved, artifact):
    [one] = [Stored(reports.dsn(READERS[0], reports.message(READERS[0])))]
    with ScriptedImap({1: one}).running() as server:
        await saved(server.port, "good")
        await saved(server.port, "bad", password="another")
        with pytest.raises(MessagingError, match="1 of 2 could not be read: imap-mailbox/bad: ") as failure:
            await process_bounces()

    assert "refused the login" in str(failure.value)
    assert one.seen
    rows = {row["read from"]: row for row in json.loads((await artifact("bounces")).data)}
    assert rows["imap-mailbox/good"]["new events"] == 1
    assert rows["imap-mailbox/good"]["of no message of ours"] == 1
    assert "refused the login" in rows["imap-mailbox/bad"]["problem"]
    assert READERS[0] not in json.dumps(rows)
    with ledger.begin() as connection:
        [run] = feedback_runs.last(connection, "imap-mailbox/bad", 9)
    assert "refused the login" in run.problem


@pytest.mark.usefixtures("ledger")
async def test_one_mailbox_alone_fails_with_its_own_error(saved):
    with ScriptedImap().running() as server:
        box = await saved(server.port, password="another")
        with pytest.raises(AccountError, match="refused the login"):
            await process_bounces(BouncesRequest(mailbox=box))


@pytest.mark.usefixtures("ledger", "saved")
async def test_without_a_mailbox_there_is_nothing_to_do_and_what_is_none_is_said_so():
    assert await process_bounces() == []
    with pytest.raises(InputError, match="there is no account 'imap-mailbox/nowhere'"):
        await process_bounces(BouncesRequest(mailbox="imap-mailbox/nowhere"))
    await SmtpAccount(host=HOST, sender="news@shop.example.org").asave("mailboxless", overwrite=True)
    with pytest.raises(InputError, match="is no mailbox"):
        await process_bounces(BouncesRequest(mailbox="smtp-account/mailboxless"))


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_command_reads_once_and_reads_again_what_was_kept(ledger: Engine, saved):
    bounce = Stored(reports.dsn(READERS[0], reports.message(READERS[0])))
    with ScriptedImap({1: bounce, 2: Stored(reports.ordinary())}).running() as server:
        box = asyncio.run(saved(server.port))
        first = json.loads(invoke(box, "--json"))
        for_people = invoke("--again")

    assert first["mailboxes"] == [
        FeedbackReport(
            source=box, seen=2, recorded=1, unmatched=1, kinds={"bounced": 1}
        ).model_dump()
    ]  # fmt: skip
    assert for_people == f"{box}: 1 mails read, 0 new events, 0 addresses suppressed\n"

    with ledger.begin() as connection:
        connection.execute(
            text("""UPDATE returned_mails SET findings = jsonb_set(jsonb_set(findings,
                '{0,class}', '"soft"'), '{0,reason}', '"system"')""")
        )
    asked = invoke("--reclassify")
    applied = json.loads(invoke("--reclassify", "--apply", "--since", "2020-01-01", "--json"))

    assert "1 mails read again, of 1 something else is said now" in asked
    assert "--apply" in asked
    assert applied["changes"] == {"soft, system": {"hard, user unknown": 1}}
    assert json.loads(invoke("--reclassify", "--json"))["changed"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("imap-mailbox/bounces", "--reclassify"),
        ("--apply",),
        ("--since", "2026-01-01"),
        ("--reclassify", "--again"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...]):
    with pytest.raises(InputError, match="--reclassify"):
        invoke(*arguments)
