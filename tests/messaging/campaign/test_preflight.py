"""A preflight names everything that is in the way at once, and what is worth a look, in figures."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import preflight
from messaging.campaign.limiting import Change, change_limits
from messaging.campaign.planning import keep_campaign, plan_campaign
from messaging.campaign.preflight import Examined
from messaging.campaign.previewing import From
from messaging.errors import AccountError, InputError
from messaging.settings import settings
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.preflight import Line

SHOP = From("smtp-account/main", "Shop <news@shop.example.org>")
HTML = """<p>Dear {{ name }}</p><a href="https://shop.example.org/">Look</a>
<a href="{{ unsubscribe_url }}">Unsubscribe</a><p>Example Shop Ltd,<br>1 Market&nbsp;Street, LEEDS</p>"""
ADDRESS = "Example Shop Ltd, 1 Market Street, Leeds"

Look = Callable[..., dict[str, Line]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings; the public address is one that recipients reach."""

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"OUTFLOW_{name.upper()}", value)
        settings.cache_clear()

    put(public_url="https://links.example.com")
    yield put
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def examined(ledger: Engine, spec: CampaignSpec) -> Callable[..., Examined]:
    def examine(**changes: object) -> Examined:
        changed = CampaignSpec.model_validate({**spec.model_dump(), **changes})
        return preflight.examine(ledger, changed, preflight.check(ledger, changed), [SHOP])

    return examine


@pytest.fixture
def look(examined: Callable[..., Examined]) -> Look:
    def lines(**changes: object) -> dict[str, Line]:
        return {line.what: line for line in examined(**changes).lines}

    return lines


def test_everything_that_is_in_the_way_is_named_at_once(ledger: Engine, spec: CampaignSpec):
    broken = spec.model_copy(
        update={
            "subject": "{% for x in y %}",
            "html": "<p>{{ a.b }}</p>",
            "audience": "nobody-knows",
            "reply_to": "nobody",
            "attachments": ["/nowhere/terms.pdf"],
        }
    )

    found = preflight.check(ledger, broken)

    refused = [line.said for line in found.lines if line.verdict == "refuse"]
    assert len(refused) == 5
    for words in ("subject: ", "html: ", "there is no audience 'nobody-knows'", "reply_to", "terms.pdf"):
        assert sum(words in said for said in refused) == 1, words
    assert isinstance(found.error, InputError)
    assert str(found.error).startswith("5 things are in the way: (1) ")
    assert found.found is None


def test_one_thing_in_the_way_is_said_as_it_is(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")

    found = preflight.check(ledger, spec.model_copy(update={"text": "{{ surname }}"}))

    assert str(found.error).startswith("unknown merge field 'surname'; did you mean 'name'?")
    assert [line.verdict for line in found.lines] == ["refuse"]


def test_an_account_that_refuses_is_raised_as_it_was(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    refusal = AccountError("smtp-account/main: 535 no")

    assert preflight.check(ledger, spec).refused([refusal], "account").error is refusal
    both = preflight.check(ledger, spec.model_copy(update={"text": "{{ surname }}"})).refused(
        [refusal], "account"
    )
    assert isinstance(both.error, InputError)
    assert "(2) smtp-account/main: 535 no" in str(both.error)


def test_a_campaign_in_order_has_no_line_to_act_on(audience, look: Look, environment):
    environment(postal_address=ADDRESS)
    audience("ada@example.org", "barbara@example.org")

    lines = look(html=HTML, text="")

    assert {what: line.said for what, line in lines.items() if line.verdict != "ok"} == {}
    assert {what for what, line in lines.items() if line.do} == set()
    assert lines["audience"].said == "2 recipients, of 2 contacts of 'customers'"
    assert lines["samples"].said == "2 messages made: the first of the audience, the longest name"
    assert lines["finish"].said == "no limit is set: as fast as smtp-account/main takes them"
    assert lines["links"].said == "2 links, all whole"


def test_who_is_left_out_is_counted_by_reason(audience, look: Look):
    audience("ada@example.org")
    audience("bob@example.org", status="unsubscribed")
    audience("cy@example.org", "di@example.org", consent=None)

    line = look()["left out"]

    assert line.said == "more than half, 3: 2 no consent, 1 unsubscribed"
    assert "--consent" in line.do


def test_nobody_to_write_to_is_a_warning(audience, look: Look):
    audience("cy@example.org", consent=None)

    lines = look()

    assert lines["audience"].verdict == "warn"
    assert lines["audience"].said == "nobody would be written to, of 1 contact of 'customers'"
    assert lines["finish"].said == "there is nobody to send to"


@pytest.mark.parametrize(
    ("written", "verdict", "said"),
    [
        ("{{ city }}", "warn", "2 without city get no message"),
        ("{{ city | upper }}", "warn", "2 without city get no message"),
        ("{{ city | default('town') }}", "ok", "2 without city get what stands in for it"),
        ("{% if city %}{{ city }}{% endif %}", "ok", "2 without city get what stands in for it"),
        ("{{ contact['City'] }}", "warn", "2 without City get no message"),
        ("{{ name }}", "ok", "all have a value: name"),
        ("all", "ok", "none is used"),
    ],
)
def test_fields_without_a_value_are_counted_and_it_is_said_what_that_means(
    audience, look: Look, written: str, verdict: str, said: str
):
    audience("ada@example.org", city="Leeds")
    audience("bob@example.org", "cy@example.org")

    line = look(subject="News", text=f"Dear {written}")["merge fields"]

    assert (line.verdict, line.said) == (verdict, said)


def test_a_sample_that_cannot_be_made_is_told_of(audience, look: Look):
    audience("ada@example.org", city="Leeds")
    audience("bob@example.org")

    line = look(text="{{ city }}")["samples"]

    assert line.verdict == "warn"
    assert line.said == (
        "1 of 2 messages tried cannot be made: most values missing: text: no value for merge field 'city'"
    )


def test_a_message_without_a_link_to_unsubscribe_is_warned_of(audience, look: Look):
    audience("ada@example.org")

    plain = look()["unsubscribe link"]
    one_part = look(html=HTML, text="Dear {{ name }}")["unsubscribe link"]

    assert (plain.verdict, plain.do) == ("warn", "put {{ unsubscribe_url }} into the template")
    assert plain.said == "the text part shows no link to unsubscribe; only the headers have one"
    assert one_part.said == plain.said


@pytest.mark.parametrize(
    ("address", "html", "verdict", "said"),
    [
        ("", HTML, "warn", "messages must show a postal address"),
        (ADDRESS, HTML, "ok", "in each part"),
        ("example shop ltd\n1 market street\nleeds", HTML, "ok", "in each part"),
        (
            ADDRESS,
            HTML.replace("1 Market", "2 Market"),
            "warn",
            "not in the HTML and the text of the message",
        ),
        ("1 Market Street, Lee", HTML, "warn", "not in the HTML and the text"),
    ],
)
def test_the_postal_address_is_looked_for(
    audience, look: Look, environment, address: str, html: str, verdict: str, said: str
):
    environment(postal_address=address)
    audience("ada@example.org")

    line = look(html=html, text="")["postal address"]

    assert line.verdict == verdict
    assert line.said.startswith(said)


def test_a_long_subject_and_a_large_message_are_warned_of(audience, look: Look):
    audience("ada@example.org")

    lines = look(subject="x" * 79, html=HTML + "<p>word</p>" * 12_000)

    assert (lines["subject"].verdict, lines["size"].verdict) == ("warn", "warn")
    assert lines["subject"].said.startswith("79 characters")
    assert "Gmail cuts HTML of more than 102 KB off" in lines["size"].said
    assert look(subject="x" * 78)["subject"].verdict == "ok"


def test_a_public_address_that_nobody_reaches_is_warned_of(audience, look: Look, environment):
    audience("ada@example.org")
    environment(public_url="https://localhost:8422")

    line = look()["public address"]

    assert (line.verdict, line.do) == ("warn", "set OUTFLOW_PUBLIC_URL to an https address of yours")


def test_what_is_not_tracked_is_named(audience, look: Look):
    audience("ada@example.org", city="York")

    line = look(html=HTML + '<a href="{{ city }}">x</a>', tracking={"clicks": True})["tracking"]

    assert line.verdict == "warn"
    assert line.said.startswith("clicks on 1 link will be counted; not: {{…}}: ")


def test_the_finish_is_foretold_from_the_accounts_limits(ledger: Engine, audience, look: Look):
    audience(*(f"r{n}@example.org" for n in range(120)))
    change_limits(ledger, "smtp-account/main", Change(rate="1/m", per_day="50"))

    line = look(time_zone="Europe/London")["finish"]

    # 50 an hour or so, 50 more a day later, and the last 20 on the third day.
    assert line.said.startswith("about 2 days, until ")
    assert line.said.endswith("account smtp-account/main allows 1/m and 50 a day")
    assert line.verdict == "ok"


def test_the_slower_of_pace_account_and_provider_group_counts(ledger: Engine, audience, look: Look):
    audience(*(f"r{n}@gmail.com" for n in range(50)), *(f"r{n}@googlemail.com" for n in range(50)))
    audience(*(f"r{n}@example.org" for n in range(10)))
    change_limits(ledger, "smtp-account/main", Change(rate="10/s", domains={"gmail.com": "1/m"}))

    slow = look(pacing=Pacing(rate="100/s").model_dump())["finish"]
    slower = look(pacing=Pacing(rate="30/h").model_dump())["finish"]

    assert slow.said.startswith("about 1 h 40 min, until ")
    assert (
        "account smtp-account/main allows 10/s and 1/m to gmail.com; the campaign's pace is 100/s"
        in slow.said
    )
    assert slower.said.startswith("about 3 h 40 min, until ")


def test_a_campaign_that_would_end_too_late_is_warned_of_and_refused_when_nobody_would_be_reached(
    ledger: Engine, audience, examined: Callable[..., Examined]
):
    audience(*(f"r{n}@example.org" for n in range(120)))
    change_limits(ledger, "smtp-account/main", Change(rate="1/m"))

    late = {line.what: line for line in examined(not_after="1h").lines}["finish"]
    never = examined(not_after="30s")

    assert late.verdict == "warn"
    assert " of 120 would be sent to by " in late.said
    assert never.error is not None
    assert str(never.error).startswith("nobody could be sent to by ")
    assert [line.what for line in never.lines if line.verdict == "refuse"] == ["finish"]


def test_messages_of_the_last_day_count(ledger: Engine, audience, look: Look):
    audience("ada@example.org")
    change_limits(ledger, "smtp-account/main", Change(per_day="100"))
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO sent_minutes (key, minute, n)
                VALUES ('account:smtp-account/main', date_trunc('minute', now() - interval '20 hours'), 100)
            """)
        )

    lines = look()

    assert lines["finish"].said.startswith(("about 4 h, until", "about 3 h 59 min", "about 4 h 1 min"))
    assert lines["account now"].verdict == "warn"
    assert "100 messages in 24 hours" in lines["account now"].said


def test_a_time_to_start_and_quiet_hours_are_told(audience, look: Look):
    audience(*(f"r{n}@example.org" for n in range(60)))
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    line = look(
        send_at=f"{tomorrow:%F}T20:30", quiet_hours="21:00-08:00", pacing=Pacing(rate="1/m").model_dump()
    )["finish"]

    assert line.said.startswith(f"from {tomorrow:%a %F} 20:30 UTC on about 12 h, until ")
    assert "nothing is sent at 21:00-08:00" in line.said


def test_a_campaign_that_is_too_late_is_in_order_again_with_a_later_time(
    ledger: Engine, audience, spec: CampaignSpec, look: Look
):
    audience("ada@example.org")
    timed = spec.model_copy(update={"not_after": "1h", "approval": True})
    keep_campaign(ledger, timed, datetime.now(UTC) - timedelta(days=2))
    later = f"{datetime.now(UTC) + timedelta(days=1):%FT%R}"

    for changes in ({"send_at": later}, {}):  # without a time it counts from this launch
        line = look(not_after="1h", approval=True, **changes)["finish"]
        assert line.verdict == "ok", line.said


def test_a_campaign_that_was_planned_is_looked_at_again_with_who_is_left(
    ledger: Engine, audience, spec: CampaignSpec, look: Look
):
    audience("ada@example.org", "bob@example.org")
    plan_campaign(ledger, spec)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted' WHERE address LIKE 'ada%'"))

    lines = look()

    assert lines["audience"].said == "it was launched before and is running: 1 recipient is left"
    assert lines["finish"].verdict == "ok"
