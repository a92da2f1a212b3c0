"""Recurring campaigns: each time one edition, to the audience as it is then."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from messaging.campaign import controlling, planning, recurring, scheduling
from messaging.campaign.editions import make_editions
from messaging.campaign.finding import campaign_named
from messaging.errors import InputError
from schemas.campaign import CampaignSpec
from schemas.schedule import ScheduleSpec
from schemas.states import CampaignState, ScheduleState

ADA = "ada on desk"
Every = Callable[..., ScheduleSpec]


@pytest.fixture
def every(spec: CampaignSpec) -> Every:
    """The campaign, on a schedule; by default five minutes from now on each day, since a week ago."""

    def made(**values: Any) -> ScheduleSpec:
        first = datetime.now(UTC) - timedelta(days=7, minutes=-5)
        usual = {"interval": "1d", "starts_at": f"{first:%FT%H:%M}"}
        given = spec.model_dump(exclude={"send_at"}) | {"name": "news", "schedule": usual}
        return ScheduleSpec.model_validate(given | values)

    return made


def passes(ledger: Engine, days: int) -> None:
    """Let everything have been planned for so many days earlier."""
    with ledger.begin() as connection:
        for table, column in (
            ("schedules", "next_at"),
            ("campaigns", "due_at"),
            ("campaigns", "scheduled_for"),
        ):
            connection.execute(
                text(f"UPDATE {table} SET {column} = {column} - make_interval(days => :days)"),  # noqa: S608
                {"days": days},
            )


def starts(ledger: Engine, name: str) -> int:
    """Start an edition in time."""
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET due_at = now()"))
    return planning.start_campaign(ledger, campaign_named(ledger, name).id).recipients


def editions(ledger: Engine) -> list[tuple[str, str, str | None]]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT name, state, state_reason FROM campaigns ORDER BY id"))
        return [tuple(row) for row in rows]


def alerts(ledger: Engine) -> list[str]:
    with ledger.begin() as connection:
        return list(connection.execute(text("SELECT kind || ': ' || said FROM alerts ORDER BY id")).scalars())


def next_at(ledger: Engine) -> datetime | None:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT next_at FROM schedules")).scalar_one()


def test_an_edition_is_made_when_it_is_due_and_not_before(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    added = recurring.add(ledger, every())
    assert make_editions(ledger).editions == []
    passes(ledger, 1)
    due = next_at(ledger)
    made = make_editions(ledger)

    assert due is not None
    assert made.editions == [f"news {due:%F %H%M}"]
    campaign = campaign_named(ledger, made.editions[0])
    assert (campaign.state, campaign.due_at) == (CampaignState.SCHEDULED, due)
    assert scheduling.due_at(campaign.spec) == due
    assert next_at(ledger) == added.next[0]
    assert make_editions(ledger).editions == []


def test_each_edition_goes_to_the_audience_as_it_is_then(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)
    [name] = make_editions(ledger).editions
    audience("bo@example.org")  # joins after the edition was made, before it starts

    assert starts(ledger, name) == 2


def test_made_at_once_by_several_each_edition_is_one(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    for name in ("news", "tips", "jobs"):
        recurring.add(ledger, every(name=name))
    passes(ledger, 1)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: make_editions(ledger), range(4)))

    names = [name for one in made for name in one.editions]
    assert len(names) == len(set(names)) == len(editions(ledger)) == 3


def test_of_several_missed_times_the_last_is_taken_and_the_others_are_counted(
    ledger: Engine, audience, every: Every
):
    audience("ada@example.org")
    [coming, *_] = recurring.add(ledger, every()).next
    passes(ledger, 4)
    [name] = make_editions(ledger).editions

    assert name == f"news {coming - timedelta(days=1):%F %H%M}"
    assert len(editions(ledger)) == 1
    with ledger.begin() as connection:
        said = connection.execute(text("SELECT details ->> 'said' FROM events")).scalar_one()
    assert said.endswith("3 earlier times were missed")
    assert next_at(ledger) == coming


def test_an_edition_that_comes_many_hours_late_waits_for_a_person(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)  # the last time was nearly a day ago
    make_editions(ledger)

    assert len(scheduling.due_campaigns(ledger).late) == 1
    assert [said.split(":")[0] for said in alerts(ledger)] == ["late"]


@pytest.mark.parametrize(
    ("begun", "standing"),
    [(True, "is still being sent"), (False, "has not started yet")],
    ids=["sent", "due"],
)
def test_while_an_edition_is_sent_the_next_is_skipped_and_people_are_told(
    ledger: Engine, audience, every: Every, *, begun: bool, standing: str
):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)
    [first] = make_editions(ledger).editions
    if begun:
        starts(ledger, first)
    passes(ledger, 1)
    made = make_editions(ledger)

    reason = f"edition {first!r} {standing}"
    assert made.editions == []
    assert editions(ledger)[1] == (made.skipped[0], "cancelled", f"skipped: {reason}")
    [said] = alerts(ledger)
    assert said.startswith("skipped: ")
    assert said.endswith(f"nobody gets it: {reason}")
    assert recurring.everything(ledger)[0].state is ScheduleState.ACTIVE


def test_paused_half_way_it_holds_the_next_up_and_paused_unsent_it_does_not(
    ledger: Engine, audience, every: Every
):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)
    [unsent] = make_editions(ledger).editions
    controlling.pause(ledger, unsent, "", ADA)
    passes(ledger, 1)
    [half_way] = make_editions(ledger).editions
    starts(ledger, half_way)
    controlling.pause(ledger, half_way, "", ADA)
    passes(ledger, 1)

    assert make_editions(ledger).editions == []
    assert alerts(ledger)[-1].endswith("is paused, with people left to be written to")


def test_an_edition_that_is_to_be_approved_is_a_draft(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every(approval=True))
    passes(ledger, 1)
    [name] = make_editions(ledger).editions

    assert campaign_named(ledger, name).state is CampaignState.DRAFT


def test_without_its_audience_an_edition_cannot_start_and_the_schedule_goes_on(
    ledger: Engine, audience, every: Every
):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)
    with ledger.begin() as connection:
        connection.execute(text("DELETE FROM audience_members; DELETE FROM audiences"))
    [name] = make_editions(ledger).editions

    with pytest.raises(InputError, match="customers"):
        starts(ledger, name)
    assert recurring.everything(ledger)[0].state is ScheduleState.ACTIVE


def test_attachments_are_read_for_each_edition(ledger: Engine, audience, every: Every, tmp_path: Path):
    audience("ada@example.org")
    terms = tmp_path / "terms.txt"
    terms.write_text("first")
    recurring.add(ledger, every(attachments=[str(terms)]))
    terms.write_text("second")
    passes(ledger, 1)
    [name] = make_editions(ledger).editions
    with ledger.begin() as connection:
        content = connection.execute(text("SELECT content FROM campaign_files")).scalar_one()
    assert bytes(content) == b"second"

    controlling.cancel(ledger, name, ADA)
    terms.unlink()
    passes(ledger, 1)
    made = make_editions(ledger)
    assert (made.editions, len(made.skipped)) == ([], 1)
    assert "no such file" in alerts(ledger)[-1]


def test_a_rule_that_has_ended_makes_its_last_edition_and_no_more(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    begin = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=5)
    last = {"rrule": "FREQ=DAILY;COUNT=1", "starts_at": f"{begin:%FT%H:%M}"}
    assert recurring.add(ledger, every(schedule=last)).next == [begin]
    passes(ledger, 1)
    with ledger.begin() as connection:  # as the rule was when that was its time
        before = f"{begin - timedelta(days=1):%FT%H:%M}"
        connection.execute(
            text("UPDATE schedules SET spec = jsonb_set(spec, '{schedule,starts_at}', CAST(:at AS jsonb))"),
            {"at": f'"{before}"'},
        )
    assert len(make_editions(ledger).editions) == 1

    [status] = recurring.everything(ledger)
    assert (status.state, status.next, status.editions) == (ScheduleState.ENDED, [], 1)
    for change in (
        lambda: recurring.resume(ledger, "news"),
        lambda: recurring.pause(ledger, "news", "", ADA),
    ):
        with pytest.raises(InputError, match="has ended"):
            change()


def test_a_schedule_says_its_next_times_in_order(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    rule = {"cron": "30 2 * * *", "starts_at": "2099-03-28T00:00"}
    [status] = [recurring.add(ledger, every(schedule=rule, time_zone="Europe/Berlin"))]

    assert [f"{moment:%FT%H:%M}" for moment in status.next] == [
        "2099-03-28T01:30",
        "2099-03-29T01:00",  # 02:30 does not exist on that day
        "2099-03-30T00:30",
    ]
    assert status.said == (
        "schedule 'news' is added: cron 30 2 * * *, not before 2099-03-28T00:00 (Europe/Berlin); "
        "next at 2099-03-28 02:30, which is 2099-03-28 01:30 UTC"
    )


def test_at_recipients_own_times_an_edition_starts_with_the_first_clock_on_earth(
    ledger: Engine, audience, every: Every
):
    audience("ada@example.org")
    rule = {"cron": "0 9 * * *", "starts_at": "2099-06-01T00:00"}
    status = recurring.add(ledger, every(schedule=rule, time_zone="Europe/Berlin", recipient_local=True))

    assert status.next[0] == datetime(2099, 5, 31, 19, tzinfo=UTC)


def test_added_again_unchanged_it_misses_nothing(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)  # due while nothing ran, and then it is deployed anew
    again = recurring.add(ledger, every())

    assert not again.changed
    assert len(make_editions(ledger).editions) == 1


def test_added_by_several_at_once_it_is_one_and_one_has_added_it(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lambda _: recurring.add(ledger, every()).said.split(":")[0], range(4)))

    assert sorted(said) == ["schedule 'news' is added"] + ["schedule 'news' is unchanged"] * 3


def test_another_text_keeps_the_times_and_another_rule_changes_them(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    first = recurring.add(ledger, every())
    texts = recurring.add(ledger, every(text="Dear all"))
    assert (texts.changed, texts.next) == (True, first.next)

    rules = recurring.add(ledger, every(schedule={"cron": "0 9 * * 1"}))
    assert rules.changed
    assert rules.next != first.next
    assert len(recurring.everything(ledger)) == 1


def test_paused_it_makes_nothing_and_resumed_it_goes_on_from_now(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every())
    paused = recurring.pause(ledger, "news", "holidays", ADA)
    assert (paused.state, paused.reason, paused.next) == (ScheduleState.PAUSED, f"holidays, by {ADA}", [])
    passes(ledger, 3)
    assert make_editions(ledger).editions == []
    assert recurring.add(ledger, every(text="Dear all")).state is ScheduleState.PAUSED

    resumed = recurring.resume(ledger, "news")
    assert resumed.state is ScheduleState.ACTIVE
    assert resumed.next[0] > datetime.now(UTC)
    assert make_editions(ledger).editions == []


def test_removed_it_is_forgotten_and_its_editions_stay(ledger: Engine, audience, every: Every):
    audience("ada@example.org")
    recurring.add(ledger, every())
    passes(ledger, 1)
    [name] = make_editions(ledger).editions
    recurring.remove(ledger, "news")

    assert recurring.everything(ledger) == []
    assert campaign_named(ledger, name).schedule_id is None
    with pytest.raises(InputError, match=r"there is no schedule 'news' \(schedules: none yet\)"):
        recurring.remove(ledger, "news")


def test_one_that_another_version_has_kept_is_set_aside_and_the_others_go_on(
    ledger: Engine, audience, every: Every
):
    audience("ada@example.org")
    recurring.add(ledger, every(name="of tomorrow"))
    recurring.add(ledger, every())
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE schedules SET spec = spec || '{\"moon\": \"full\"}' WHERE name = 'of tomorrow'")
        )
    problem = (
        "this version of Outflow cannot read it (its 'moon'): remove it (outflow schedule remove "
        "'of tomorrow') and add it again"
    )
    assert [status.reason for status in recurring.everything(ledger)] == ["", problem]
    passes(ledger, 1)

    assert len(make_editions(ledger).editions) == 1
    assert alerts(ledger) == [f"paused: schedule 'of tomorrow' is paused: {problem}"]
    assert make_editions(ledger).editions == []
    for change in (
        lambda: recurring.resume(ledger, "of tomorrow"),
        lambda: recurring.add(ledger, every(name="of tomorrow")),
    ):
        with pytest.raises(
            InputError, match="schedule 'of tomorrow': this version of Outflow cannot read it"
        ):
            change()
    assert recurring.remove(ledger, "of tomorrow").changed
    assert [status.schedule for status in recurring.everything(ledger)] == ["news"]


def test_a_schedule_of_a_campaign_that_cannot_be_sent_is_refused(ledger: Engine, audience, every: Every):
    with pytest.raises(InputError, match="customers"):
        recurring.add(ledger, every())
    audience("ada@example.org")
    with pytest.raises(InputError, match="nmae"):
        recurring.add(ledger, every(text="Dear {{ nmae }}"))

    assert recurring.everything(ledger) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "n" * 81}, "pattern"),
        ({"send_at": "2027-03-20T09:00"}, "each edition is sent at its own time"),
        ({"schedule": {}}, "one of cron, interval and rrule"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(every: Every, values: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        every(**values)


def test_the_form_shows_the_rule_below_the_name_and_no_other_time():
    fields = list(ScheduleSpec.model_json_schema()["properties"])

    assert fields[:2] == ["name", "schedule"]
    assert "send_at" not in fields
    assert set(CampaignSpec.model_fields) - {"send_at"} < set(fields)
