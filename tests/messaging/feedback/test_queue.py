"""A queue of Amazon SES's events into the ledger, over moto's SNS and SQS: nothing lost, nothing twice."""

import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from messaging.channels.ses import SesPool
from messaging.errors import AccountError, DatabaseError, InputError, NotSent
from messaging.feedback import queue_facts
from messaging.feedback.queue import Pace
from messaging.feedback.queue_buffer import Buffer, Message
from messaging.feedback.ses_events import read_ses_event
from messaging.feedback.sqs import QueueSettings, region_of
from tests.fakes.aws_proxy import proxied
from tests.fakes.ses import FakeSes
from tests.messaging.channels.ses_provider import a_message, settings
from tests.messaging.feedback.ses_samples import bounce, complaint, enveloped, event, of_all_kinds
from tests.messaging.feedback.sqs_queue import (
    SOURCE,
    Queue,
    a_queue,
    about,
    address_of,
    hidden_until_now,
    kinds,
    rows,
    runs,
    suppressed,
    token_of,
)


def delivered(person: int) -> dict[str, Any]:
    return about(person, of_all_kinds()["Delivery"])


def bounced(person: int) -> dict[str, Any]:
    return about(person, event("Bounce", bounce("Permanent", "NoEmail", "smtp; 550 5.1.1 user unknown")))


def complained(person: int) -> dict[str, Any]:
    return about(person, event("Complaint", complaint(complaintFeedbackType="abuse")))


# From the sending of a message to its end


@pytest.mark.parametrize("raw", [True, False])
async def test_what_ses_reports_of_sent_messages_reaches_the_ledger(ledger: Engine, *, raw: bool):
    with a_queue(ledger, people=4, raw=raw) as queue:
        who = ["ada@example.org", "bounce@simulator.amazonses.com", "complaint@simulator.amazonses.com"]
        running = FakeSes(on_sent=queue.wire.publish).running()
        async with running as fake, SesPool(settings(fake)) as pool, pool.sender() as sender:
            for person, address in enumerate(who, 1):
                message = a_message(address, token=token_of(person).hex, campaign_id=1)
                await sender.send(message, lambda: asyncio.sleep(0))
        await asyncio.to_thread(queue.wire.wait)
        report = await asyncio.to_thread(queue.read)
        left = queue.left()

    assert (report.seen, report.recorded, report.unmatched, report.set_aside) == (7, 7, 0, 0)
    assert kinds(ledger) == {"sent": 3, "delivered": 2, "bounced": 1, "complained": 1} == report.kinds
    assert suppressed(ledger) == {address_of(2): "bounced", address_of(3): "complained"}
    assert left == 0
    assert runs(ledger) == [(SOURCE, 7, 7, 0, 0, None)]


def test_the_same_events_again_in_envelopes_change_nothing(ledger: Engine):
    with a_queue(ledger) as queue:
        events = [delivered(1), bounced(2), complained(3)]
        queue.put(events)
        first = queue.read()
        before = rows(ledger, "SELECT * FROM events ORDER BY id"), suppressed(ledger)
        queue.put([enveloped(one) for one in reversed(events)] * 2)
        again = queue.read()
        left = queue.left()

    assert (first.recorded, first.suppressed) == (3, 2)
    assert (again.seen, again.recorded, again.repeated, again.suppressed) == (6, 0, 6, 0)
    assert (rows(ledger, "SELECT * FROM events ORDER BY id"), suppressed(ledger)) == before
    assert left == 0


def test_an_empty_queue_is_one_poll_and_a_run_of_nothing(ledger: Engine):
    with a_queue(ledger) as queue, proxied(queue.wire.endpoint) as proxy:
        report = queue.read(endpoint=proxy.endpoint)

    assert (report.seen, report.problem) == (0, "")
    assert proxy.asked == {"ReceiveMessage": 1}
    assert runs(ledger) == [(SOURCE, 0, 0, 0, 0, None)]


def test_several_receivers_and_many_chunks_lose_and_double_nothing(ledger: Engine):
    with a_queue(ledger, people=100) as queue:
        queue.put([delivered(person) for person in range(1, 101)])
        report = queue.read(Pace(seconds=300, wait=1, chunk=15, buffer=20), connections=8)
        left = queue.left()

    assert report.seen >= 100  # asked by several at once, moto gives one now and then to two, as SQS may
    assert (report.recorded, left) == (100, 0)
    assert rows(ledger, "SELECT count(DISTINCT attempt_id) FROM events") == [(100,)]


def test_a_run_receives_no_more_than_it_may(ledger: Engine):
    with a_queue(ledger, people=50) as queue:
        queue.put([delivered(person) for person in range(1, 51)])
        report = queue.read(Pace(wait=1, most=30), connections=2)
        left = queue.left()

    assert report.recorded == 30
    assert left == 20


def test_greetings_of_aws_are_taken_away_and_events_of_nobody_are_kept(ledger: Engine):
    with a_queue(ledger) as queue:
        stranger = of_all_kinds()["Bounce"]
        queue.put([enveloped("Successfully validated SNS topic for Amazon SES event publishing."), stranger])
        report = queue.read()
        left = queue.left()

    assert (report.seen, report.recorded, report.unmatched, left) == (2, 1, 1, 0)
    assert suppressed(ledger) == {}


def test_an_event_that_came_before_its_message_was_known_is_matched_by_a_later_run(ledger: Engine):
    with a_queue(ledger, people=1) as queue:
        with ledger.begin() as connection:
            connection.execute(
                text("UPDATE attempts SET token = gen_random_uuid(), address_key = 'x@y.example'")
            )
            connection.execute(text("UPDATE contacts SET email_key = 'x@y.example', email = 'x@y.example'"))
        queue.put([bounced(1)])
        early = queue.read()
        with ledger.begin() as connection:
            connection.execute(text("UPDATE attempts SET token = :token"), {"token": token_of(1)})
        later = queue.read()

    assert (early.unmatched, early.suppressed) == (1, 0)
    assert (later.seen, later.recorded, later.suppressed) == (0, 0, 1)
    assert rows(ledger, "SELECT attempt_id FROM events") == [(1,)]


# What goes wrong


def dead_letters(queue: Queue, tries: int) -> str:
    """Give the queue a dead-letter queue and return its URL."""
    sqs, name = queue.wire.sqs, f"dead-{uuid4().hex[:8]}"
    dead = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": tries})
    sqs.set_queue_attributes(QueueUrl=queue.wire.queue_url, Attributes={"RedrivePolicy": policy})
    return dead


def test_what_cannot_be_read_is_set_aside_and_left_to_the_dead_letters(ledger: Engine, caplog):
    with a_queue(ledger) as queue:
        dead = dead_letters(queue, tries=2)
        queue.put(["not JSON of ada@example.org", delivered(1), event("Sneeze")])
        report = queue.read()
        stayed = queue.left()
        logged = caplog.text
        caplog.clear()
        hidden_until_now(queue)
        again = queue.read(Pace(wait=1, hidden=0))
        left = queue.left()
        moved = queue.wire.sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10)["Messages"]

    assert (report.seen, report.recorded, report.set_aside, stayed) == (3, 1, 2, 2)
    assert (again.recorded, left, len(moved)) == (0, 0, 2)
    assert "(not JSON: 1, an event of an unknown kind: Sneeze: 1)" in logged
    assert [one for one in caplog.records if one.name.startswith("messaging")] == []  # told the first time
    assert "@" not in logged


def test_what_could_not_be_deleted_is_tried_once_more_and_comes_again(ledger: Engine, caplog):
    with a_queue(ledger, people=12) as queue, proxied(queue.wire.endpoint) as proxy:
        queue.put([delivered(person) for person in range(1, 13)])

        def spoil(request: dict[str, Any]) -> None:
            request["Entries"][0]["ReceiptHandle"] = "of another time"

        proxy.changes["DeleteMessageBatch"] = spoil
        first = queue.read(endpoint=proxy.endpoint, connections=2)
        deletes = proxy.asked["DeleteMessageBatch"]
        stayed = queue.left()
        proxy.changes.clear()
        hidden_until_now(queue)
        second = queue.read(endpoint=proxy.endpoint)
        left = queue.left()

    assert (first.recorded, second.recorded) == (12, 0)
    assert stayed == second.repeated > 0
    assert deletes == 2 * stayed  # each batch, and what it left
    assert left == 0
    assert f"{stayed} messages could not be deleted" in caplog.text


def test_an_answer_that_did_not_come_to_a_delete_costs_nothing(ledger: Engine):
    with a_queue(ledger, people=5) as queue, proxied(queue.wire.endpoint) as proxy:
        queue.put([delivered(person) for person in range(1, 6)])
        proxy.cut.add("DeleteMessageBatch")
        first = queue.read(endpoint=proxy.endpoint)
        proxy.cut.clear()
        hidden_until_now(queue)
        second = queue.read(endpoint=proxy.endpoint)
        left = queue.left()

    assert (first.recorded, first.problem) == (5, "")
    assert (second.recorded, second.repeated, left) == (0, 5, 0)


READ = """
import sys
from messaging.feedback.queue import Pace, QueueReader
from messaging.feedback.sqs import QueueSettings
from messaging.storage.engine import open_engine
database, queue_url, endpoint = sys.argv[1:]
settings = QueueSettings("eu-west-1", "x", "x", queue_url=queue_url, endpoint=endpoint)
QueueReader(open_engine(database), "ses-queue/events", settings, Pace(wait=1)).read()
"""


def test_killed_between_commit_and_delete_the_next_run_finds_all_known(ledger: Engine, database_url: str):
    with a_queue(ledger, people=7) as queue, proxied(queue.wire.endpoint) as proxy:
        queue.put([delivered(1), bounced(2), complained(3), *(delivered(person) for person in range(4, 8))])
        proxy.held.add("DeleteMessageBatch")
        command = [sys.executable, "-c", READ, database_url, queue.wire.queue_url, proxy.endpoint]
        with subprocess.Popen(command) as process:
            assert proxy.reached.wait(60)
            process.kill()
        before = kinds(ledger), suppressed(ledger)
        stayed = queue.left()
        hidden_until_now(queue)
        report = queue.read()
        left = queue.left()

    assert stayed == 7
    assert report.recorded + report.repeated == 7
    assert report.repeated == sum(before[0].values()) > 0
    assert kinds(ledger) == {"delivered": 5, "bounced": 1, "complained": 1}
    assert suppressed(ledger) == {address_of(2): "bounced", address_of(3): "complained"}
    assert left == 0
    assert [problem for *_, problem in runs(ledger)] == [None, None]  # the first one never ended


def test_what_the_ledger_refuses_stays_and_stops_nothing_else(ledger: Engine, caplog):
    refuse = f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.source_id LIKE '%-3:%' THEN
                RAISE EXCEPTION 'of {address_of(3)}' USING ERRCODE = 'check_violation';
            END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse();
    """
    with a_queue(ledger, people=5) as queue:
        queue.put([delivered(person) for person in range(1, 6)])
        with ledger.begin() as connection:
            connection.execute(text(refuse))
        try:
            report = queue.read()
        finally:
            with ledger.begin() as connection:
                connection.execute(text("DROP FUNCTION refuse CASCADE"))
        left = queue.left()

    assert (report.recorded, report.set_aside, left) == (4, 1, 1)
    assert "@" not in caplog.text


def test_with_the_ledger_away_nothing_is_deleted(ledger: Engine):
    with a_queue(ledger) as queue:
        queue.put([delivered(1), bounced(2)])
        with ledger.begin() as connection:
            connection.execute(text("ALTER TABLE events RENAME TO gone"))
        try:
            with pytest.raises(DatabaseError):
                queue.read()
        finally:
            with ledger.begin() as connection:
                connection.execute(text("ALTER TABLE gone RENAME TO events"))
        stayed = queue.left()
        hidden_until_now(queue)
        report = queue.read()

    assert stayed == 2
    assert report.recorded == 2
    assert runs(ledger)[0][-1].startswith("the ledger did not answer")


# Refusals, as the account's owner must read them


REFUSALS = [
    ((400, "QueueDoesNotExist", "The specified queue does not exist."), "there is no queue"),
    ((403, "AccessDeniedException", "User is not authorized"), "does not allow sqs:ReceiveMessage on queue"),
    ((403, "InvalidClientTokenId", "The security token is invalid"), "does not know the access key"),
    ((403, "SignatureDoesNotMatch", "We computed another"), "does not belong to the key id"),
    ((403, "ExpiredToken", "expired"), "credentials have expired"),
    ((400, "KmsAccessDenied", "The ciphertext refers to a key"), "allow kms:Decrypt"),
    ((403, "Whatever", "arn:aws:iam::123456789012:user/ada"), "check the policy"),
]


@pytest.mark.parametrize(("refusal", "sentence"), REFUSALS)
def test_a_refusal_is_a_sentence_that_says_what_to_do_and_ends_the_run(
    ledger: Engine, refusal: tuple[int, str, str], sentence: str
):
    with a_queue(ledger) as queue, proxied(queue.wire.endpoint) as proxy:
        proxy.refusals["ReceiveMessage"] = refusal
        with pytest.raises(AccountError, match=sentence) as error:
            queue.read(endpoint=proxy.endpoint)

    assert "arn:aws:iam" not in str(error.value)
    assert runs(ledger)[0][-1] == str(error.value)
    assert proxy.asked == {"ReceiveMessage": 1}


def test_a_queue_that_is_not_there_is_named(ledger: Engine):
    with a_queue(ledger) as queue:
        elsewhere = queue.wire.queue_url + "-of-nobody"
        with pytest.raises(AccountError, match=r"there is no queue outflow-\w+-of-nobody in eu-west-1"):
            queue.read(queue_url=elsewhere)


def test_who_may_not_delete_is_told_and_loses_nothing(ledger: Engine):
    with a_queue(ledger) as queue, proxied(queue.wire.endpoint) as proxy:
        queue.put([delivered(1)])
        proxy.refusals["DeleteMessageBatch"] = (403, "AccessDenied", "no")
        with pytest.raises(AccountError, match="does not allow sqs:DeleteMessage"):
            queue.read(endpoint=proxy.endpoint)
        left = queue.left()

    assert (kinds(ledger), left) == ({"delivered": 1}, 1)
    assert runs(ledger)[0][2] == 1


def test_a_fault_of_sqs_is_tried_again_and_then_told(ledger: Engine):
    with a_queue(ledger) as queue, proxied(queue.wire.endpoint) as proxy:
        proxy.refusals["ReceiveMessage"] = (503, "ServiceUnavailable", "busy")
        with pytest.raises(NotSent, match="ReceiveMessage was answered 503"):
            queue.read(endpoint=proxy.endpoint)

    assert proxy.asked == {"ReceiveMessage": 3}


def test_nobody_at_the_endpoint_and_no_credentials(ledger: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with a_queue(ledger) as queue:
        with pytest.raises(NotSent, match="Amazon SQS in eu-west-1: cannot be reached"):
            queue.read(endpoint="http://127.0.0.1:1")
        with pytest.raises(AccountError, match="no AWS credentials found"):
            queue.read(access_key_id=None, secret_access_key=None)

    assert [bool(problem) for *_, problem in runs(ledger)] == [True, True]


# Order and limits


def messages(*notices: dict[str, Any]) -> list[Message]:
    return [Message(str(n), read_ses_event(json.dumps(one), SOURCE)) for n, one in enumerate(notices)]


def test_bounces_complaints_and_unsubscribes_overtake_what_waits_before_them():
    buffer = Buffer(Pace(chunk=2))
    buffer.put(messages(delivered(1), delivered(2), bounced(3), about(4, of_all_kinds()["Subscription"])))
    buffer.put(messages(delivered(5), complained(6)))
    buffer.close()

    taken = list(itertools.takewhile(bool, iter(buffer.take, None)))

    order = [one.evidence[0].kind for chunk in taken for one in chunk]
    assert order == ["bounced", "unsubscribed", "complained", "delivered", "delivered", "delivered"]


def test_the_rest_has_its_share_of_a_second_and_bounces_pass_it():
    buffer = Buffer(Pace(chunk=4, rest_per_second=8))
    buffer.put(messages(*(delivered(person) for person in range(20))))
    started = time.monotonic()
    first = [len(buffer.take()) for _ in range(3)]  # a second's worth at once, then half a second
    rest_took = time.monotonic() - started
    buffer.put(messages(bounced(1)))
    passed = buffer.take()

    assert first == [4, 4, 4]
    assert rest_took > 0.4
    assert passed[0].evidence[0].kind == "bounced"


def test_a_full_buffer_makes_receivers_wait():
    buffer = Buffer(Pace(buffer=3, chunk=2))
    went_in = threading.Event()

    def receive() -> None:
        buffer.put(messages(delivered(1), delivered(2), delivered(3)))
        buffer.put(messages(delivered(4)))
        went_in.set()

    receiver = threading.Thread(target=receive)
    receiver.start()
    assert not went_in.wait(0.3)
    assert len(buffer.take()) == 2
    assert went_in.wait(20)
    receiver.join()


def test_stopped_a_run_ends_with_its_chunk_and_the_rest_comes_again(ledger: Engine):
    with a_queue(ledger, people=40) as queue:
        queue.put([delivered(person) for person in range(1, 41)])
        reader = queue.reader(Pace(wait=1, chunk=5, rest_per_second=5))
        reading = threading.Thread(target=reader.read)
        reading.start()
        while not reader.report.recorded:
            time.sleep(0.01)
        reader.stop()
        reading.join(30)
        stopped = reader.report
        left = queue.left()
        hidden_until_now(queue)
        rest = queue.read()

    assert not reading.is_alive()
    assert 0 < stopped.recorded < 40
    assert left == 40 - stopped.recorded == rest.recorded
    assert rows(ledger, "SELECT count(DISTINCT attempt_id) FROM events") == [(40,)]


# Settings, and what a queue lacks


def test_a_queue_says_what_waits_and_what_it_lacks(ledger: Engine):
    with a_queue(ledger) as queue:
        queue.put([delivered(1)])
        bare = asyncio.run(queue_facts.verify(queue.settings()))
        dead_letters(queue, tries=5)
        policy = {"Statement": [{"Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}]}
        queue.wire.sqs.set_queue_attributes(
            QueueUrl=queue.wire.queue_url,
            Attributes={"Policy": json.dumps({"Version": "2012-10-17"} | policy)},
        )
        good = asyncio.run(queue_facts.verify(queue.settings()))
        left = queue.left()

    name = queue.settings().queue
    assert bare == (
        f"Amazon SQS in eu-west-1, key …x: queue {name}, about 1 messages wait; missing: a redrive policy "
        "with a dead-letter queue (what cannot be read comes again for days); a policy that lets the topic "
        "send to it (sqs:SendMessage for sns.amazonaws.com)"
    )
    assert "missing" not in good
    assert "what cannot be read goes to dead-" in good
    assert good.endswith("after 5 tries")
    assert left == 1


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/outflow", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/outflow", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/outflow", "cn-north-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/outflow", "us-gov-west-1"),
        ("http://127.0.0.1:5000/123456789012/outflow", ""),
        ("https://sqs.eu-west-1.example.org/outflow", ""),
    ],
)
def test_a_queues_url_names_its_region(url: str, region: str):
    assert region_of(url) == region


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"queue_url": "outflow"}, "queue_url is one such as"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/"}, "queue_url is one such as"),
        ({"region": "us-east-1"}, "the queue is in eu-west-1, the account's region is us-east-1"),
        ({"region": "Ireland"}, "region is one such as eu-west-1"),
        ({"secret_access_key": None}, "give both"),
    ],
)
def test_settings_that_can_never_work_are_refused(values: dict[str, Any], sentence: str):
    usual = {
        "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/outflow", "region": "eu-west-1",
        "access_key_id": "AKIA", "secret_access_key": "made-up",
    }  # fmt: skip
    with pytest.raises(InputError, match=sentence):
        QueueSettings(**usual | values)
    assert "made-up" not in repr(QueueSettings(**usual))


def test_the_queue_is_imported_without_boto3():
    code = (
        "import messaging.feedback.queue, sys; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
