"""What happens reaches every target once, whatever becomes of the others."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Engine, text

from messaging.alerts import services, telling
from messaging.alerts.notices import MOST_LISTED
from messaging.alerts.telling import Target
from messaging.sandbox import Sandbox
from messaging.storage.alerts import MOST_AT_ONCE, Alert, alert, undelivered
from schemas.states import AlertKind
from tests.fakes.listeners import Listener

# Apprise loads all its services, one of which a library that Python is about to drop a part of.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SAID = "campaign 'spring' (number 1) is paused: 12 of 200 messages bounced"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener().running() as running:
        yield running


@pytest.fixture
def another() -> Iterator[Listener]:
    with Listener().running() as running:
        yield running


@pytest.fixture
def announced() -> list[Alert]:
    return []


@pytest.fixture
def tell(ledger: Engine, announced: list[Alert]) -> Callable[..., int]:
    return lambda *targets, **how: telling.tell(ledger, targets, announced.append, **how)


def to(listener: Listener, name: str = "ops", kinds: frozenset[AlertKind] = frozenset(AlertKind)) -> Target:
    return Target(name, kinds, partial(services.deliver, listener.url))


def raised(ledger: Engine, *said: str, kind: AlertKind = AlertKind.PAUSED, **more: str) -> None:
    with ledger.begin() as connection:
        for each in said or (SAID,):
            alert(connection, kind, each, **more)


def pass_minutes(ledger: Engine, minutes: int) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE alerts SET raised_at = raised_at - make_interval(mins => :n)"), {"n": minutes}
        )


def rows(ledger: Engine) -> list[tuple[bool, int, list[str]]]:
    with ledger.begin() as connection:
        found = connection.execute(text("SELECT told_at, tries, told FROM alerts ORDER BY id"))
        return [(row.told_at is not None, row.tries, row.told) for row in found]


def test_a_webhook_is_told_once_what_happened_and_how_grave_it_is(ledger, tell, listener, announced):
    raised(ledger, link="https://example.org/runs/1")

    assert (tell(to(listener)), tell(to(listener))) == (1, 0)

    [posted] = listener.posted
    assert posted["title"] == "Outflow: paused"
    assert posted["message"] == f"{SAID} https://example.org/runs/1"
    assert posted["type"] == "warning"
    assert [each.said for each in announced] == [SAID]
    assert rows(ledger) == [(True, 0, ["ops"])]


def test_a_mailbox_is_told_over_smtp(ledger, tell, server: Sandbox):
    raised(ledger)
    url = f"mailto://127.0.0.1:{server.port}/ops@example.org?from=alerts@example.org"

    tell(Target("mail", frozenset(AlertKind), partial(services.deliver, url)))

    [mail] = [file.read_text() for file in (server.outbox / "new").iterdir()]
    assert "X-Sandbox-Rcpt-To: ops@example.org" in mail
    assert "Subject: Outflow: paused" in mail
    assert "12 of 200 messages bounced" in mail


def test_without_a_target_it_is_logged_and_done(ledger, tell, announced, caplog):
    raised(ledger, "campaign 'spring' (number 1) is finished: 3 accepted", kind=AlertKind.FINISHED)
    raised(ledger)
    with caplog.at_level(logging.INFO, "messaging.alerts"):
        tell()

    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert logged == [
        ("INFO", "campaign 'spring' (number 1) is finished: 3 accepted"),
        ("WARNING", SAID),
    ]
    assert [told for told, _, _ in rows(ledger)] == [True, True]
    assert len(announced) == 2


def test_a_target_that_fails_is_tried_again_and_the_others_are_not_told_twice(
    ledger, tell, listener, another, announced, caplog
):
    listener.status = 503
    raised(ledger)
    targets = to(listener), to(another, "chat")

    tell(*targets)
    assert rows(ledger) == [(False, 1, ["chat"])]
    assert "alert target ops was told nothing: it answered 503" in caplog.text
    assert tell(*targets) == 0  # not before a minute has passed

    pass_minutes(ledger, 1)
    tell(*targets)
    assert rows(ledger) == [(False, 2, ["chat"])]
    pass_minutes(ledger, 1)
    assert tell(*targets) == 0  # three minutes, the second time

    listener.status = 200
    pass_minutes(ledger, 1)
    tell(*targets)
    assert rows(ledger) == [(True, 2, ["chat", "ops"])]
    assert (len(listener.posted), len(another.posted)) == (3, 1)
    assert len(announced) == 1


def test_what_cannot_be_told_for_days_is_given_up_and_counted(ledger, tell, listener):
    listener.status = 404
    raised(ledger)
    tell(to(listener))
    with ledger.begin() as connection:
        assert undelivered(connection) == (1, 0)

    pass_minutes(ledger, 3 * 24 * 60)
    assert tell(to(listener)) == 0
    with ledger.begin() as connection:
        assert undelivered(connection) == (0, 1)
    assert len(listener.posted) == 1


def test_what_nobody_was_there_to_tell_for_days_is_still_told(ledger, tell, listener):
    raised(ledger)
    pass_minutes(ledger, 5 * 24 * 60)

    assert tell(to(listener)) == 1
    assert len(listener.posted) == 1


def test_a_target_gets_the_kinds_it_wants_only(ledger, tell, listener):
    raised(ledger, kind=AlertKind.FINISHED)
    raised(ledger, "account smtp-account/main cannot go on", kind=AlertKind.ACCOUNT_PAUSED)

    tell(to(listener, kinds=frozenset({AlertKind.ACCOUNT_PAUSED})))

    [posted] = listener.posted
    assert (posted["message"], posted["type"]) == ("account smtp-account/main cannot go on", "failure")
    assert [told for told, _, _ in rows(ledger)] == [True, True]


def test_a_storm_is_folded_into_one_message_a_run(ledger, tell, listener):
    raised(ledger, *(f"campaign {n} is paused: too much came back" for n in range(MOST_AT_ONCE + 40)))
    raised(ledger, "account smtp-account/main cannot go on", kind=AlertKind.ACCOUNT_PAUSED)

    assert [tell(to(listener)), tell(to(listener)), tell(to(listener))] == [MOST_AT_ONCE, 41, 0]

    first, second = listener.posted
    assert first["title"] == f"Outflow: {MOST_AT_ONCE} alerts: {MOST_AT_ONCE} paused"
    assert first["message"].count("is paused") == MOST_LISTED
    assert f"and {MOST_AT_ONCE - MOST_LISTED} more" in first["message"]
    assert second["title"] == "Outflow: 41 alerts: 40 paused, 1 cannot go on"
    assert second["message"].startswith("- account smtp-account/main cannot go on\n")  # the gravest first
    assert second["type"] == "failure"


def test_a_target_that_never_answers_holds_nobody_up(ledger, tell, listener, another):
    listener.silent = True
    raised(ledger)

    tell(to(listener), to(another, "chat"), seconds=3.0)

    assert rows(ledger) == [(False, 1, ["chat"])]
    assert len(another.posted) == 1


def test_an_address_that_is_none_is_said_without_it(ledger, tell, caplog):
    raised(ledger)

    tell(Target("ops", frozenset(AlertKind), partial(services.deliver, "nonsense://secret-word@host")))

    assert rows(ledger) == [(False, 1, [])]
    assert "its address is none that can be used" in caplog.text
    assert "secret-word" not in caplog.text


def test_nobody_who_is_written_to_and_no_password_is_logged(ledger, tell, server: Sandbox, caplog, capfd):
    raised(ledger)
    caplog.set_level(logging.DEBUG)
    url = f"mailto://canary:secret-word@127.0.0.1:{server.port}/nobody@example.org?from=alerts@example.org"

    tell(Target("mail", frozenset(AlertKind), partial(services.deliver, url)))

    assert rows(ledger) == [(False, 1, [])]
    said = caplog.text + "".join(capfd.readouterr())
    assert "alert target mail was told nothing" in said
    assert {word for word in ("canary", "secret-word", "nobody@", "alerts@") if word in said} == set()


def test_of_two_processes_that_tell_at_once_one_tells(ledger, tell, listener):
    raised(ledger)
    with ledger.begin() as connection:  # the other one has it, and waits for its target
        connection.execute(text("SELECT FROM alerts FOR UPDATE"))
        assert tell(to(listener)) == 0

    assert tell(to(listener)) == 1
    assert len(listener.posted) == 1


def test_a_process_that_dies_while_it_tells_leaves_it_to_be_told(ledger, tell, listener):
    raised(ledger)

    def die(_: Alert) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telling.tell(ledger, [to(listener)], die)

    assert tell(to(listener)) == 1


def test_whether_there_is_something_to_tell_is_asked_first(ledger: Engine, tell):
    assert not telling.is_due(ledger)
    raised(ledger)
    assert telling.is_due(ledger)
    tell()
    assert not telling.is_due(ledger)
