"""A campaign's report tells its figures in Markdown that renders."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from messaging.reports.markdown import campaign_markdown, moment
from schemas.report import AccountTotals, CampaignReport, Decision, Slowdown, Totals
from schemas.states import CampaignState


@pytest.fixture
def report() -> CampaignReport:
    return CampaignReport(
        campaign_id=7,
        campaign="spring-offer",
        state=CampaignState.FINISHED,
        totals=Totals(accepted=1_200, rejected=40, unknown=10),
        batches=3,
        excluded={"unsubscribed": 5},
        reasons={"550 5.1.1": 40, "no answer": 10},
        started_at=None,
        finished_at=None,
        seconds=2.5,
    )


def changed(report: CampaignReport, **values: object) -> str:
    return campaign_markdown(report.model_copy(update=values))


def table(markdown: str) -> dict[str, str]:
    """Read the first two cells of every row."""
    rows = (line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("| "))
    return {row[0].strip(" *"): row[1].strip(" *") for row in rows}


def test_its_headline_holds_the_figures(report: CampaignReport):
    lines = campaign_markdown(report).splitlines()

    assert lines[0] == "# Campaign spring-offer: finished"
    assert lines[2] == (
        "**1,200 of 1,250** recipients accepted (96.8 % of those answered), 2.5 seconds, "
        "500 messages per second, 3 batches."
    )


def test_each_account_is_told_when_there_are_several(report: CampaignReport):
    main = AccountTotals(account="smtp-account/main", totals=Totals(accepted=1_190, unknown=10), fell_back=50)
    relay = AccountTotals(account="smtp-account/relay", totals=Totals(accepted=10, rejected=40), fell_back=0)

    lines = changed(report, accounts=[main, relay]).splitlines()

    assert "| smtp-account/main | 1,200 | 1,190 | 0 | 10 | 0 | 50 |" in lines
    assert "| smtp-account/relay | 50 | 10 | 40 | 0 | 0 | 0 |" in lines
    assert "By account" not in campaign_markdown(report)


def test_its_table_counts_every_state(report: CampaignReport):
    counts = table(campaign_markdown(report))

    assert counts["planned"] == "1,250"
    assert {state: counts[state] for state in Totals.model_fields} == {
        "queued": "0",
        "dispatched": "0",
        "accepted": "1,200",
        "rejected": "40",
        "unknown": "10",
        "suppressed": "0",
        "cancelled": "0",
    }


def test_it_counts_reasons_and_who_was_left_out(report: CampaignReport):
    counts = table(campaign_markdown(report))

    assert counts["550 5.1.1: no such mailbox"] == "40"  # the server's code, and what it means
    assert (counts["no answer"], counts["unsubscribed"]) == ("10", "5")


def test_a_code_that_we_have_no_words_for_stands_as_it_is(report: CampaignReport):
    assert table(changed(report, reasons={"554 5.9.9": 3}))["554 5.9.9"] == "3"


@pytest.mark.parametrize("heading", ["Why not accepted", "Left out when planning"])
def test_without_reasons_there_is_no_table_of_them(report: CampaignReport, heading: str):
    assert heading in campaign_markdown(report)
    assert heading not in changed(report, reasons={}, excluded={})


def test_a_pipe_or_line_break_in_a_reason_stays_in_its_cell(report: CampaignReport):
    markdown = changed(report, reasons={"one | two\nthree": 1})

    assert "| one \\| two three | 1 |" in markdown.splitlines()


def test_a_paused_campaign_says_why_and_how_to_go_on(report: CampaignReport):
    markdown = changed(
        report,
        state=CampaignState.PAUSED,
        totals=Totals(accepted=1, queued=2),
        paused_because="login refused",
    )

    assert "# Campaign spring-offer: paused" in markdown
    assert "**Paused because** login refused" in markdown
    assert "**Not done:** `outflow resume spring-offer` sends only what is missing." in markdown


def test_a_finished_campaign_asks_for_nothing(report: CampaignReport):
    assert "Not done" not in campaign_markdown(report)
    assert "unknown:**" not in changed(report, totals=Totals(accepted=1))


def test_it_says_what_slows_the_sending_down_until_when_and_why(report: CampaignReport):
    until = datetime(2027, 3, 20, 15, 5, tzinfo=timezone(timedelta(hours=1)))
    account = Slowdown(what="smtp-account/main", per_second=None, until=until, reason="421 4.3.2")
    markdown = changed(
        report,
        slowdowns=[
            Slowdown(what="gmail.com", per_second=12.0, until=until, reason="421 4.7.28"),
            Slowdown(what="outlook.com", per_second=0.25, until=None, reason="451 4.7.500"),
            account,
        ],
        deferred=300,
        next_turn_at=until,
    )

    for line in (
        "gmail.com slowed to 12/s until 2027-03-20 14:05 UTC because 421 4.7.28",
        "outlook.com slowed to 15/m because 451 4.7.500",
        "smtp-account/main stands still until 2027-03-20 14:05 UTC because 421 4.3.2",
        '300 recipients wait after a "not now"; the next turn is at 2027-03-20 14:05 UTC',
    ):
        assert line in markdown.splitlines()


def test_a_time_of_today_needs_no_date():
    assert moment(datetime.now(UTC)) == f"{datetime.now(UTC):%H:%M} UTC"


def test_it_tells_who_decided_what(report: CampaignReport):
    at = datetime(2027, 3, 20, 14, 5, tzinfo=UTC)
    markdown = changed(report, decisions=[Decision(at=at, who="ada on desk", said="paused: lunch | tea")])

    assert "| 2027-03-20 14:05 UTC | ada on desk | paused: lunch \\| tea |" in markdown.splitlines()
    assert "Decisions" not in campaign_markdown(report)


def test_a_cancelled_campaign_asks_for_nothing(report: CampaignReport):
    totals = Totals(accepted=1, queued=1, cancelled=3)

    assert "Not done" not in changed(report, state=CampaignState.CANCELLED, totals=totals)


def test_it_says_how_to_see_who_is_unknown(report: CampaignReport):
    told = "`outflow report spring-offer` names them, `outflow resolve spring-offer` decides about them."
    assert f"**10 unknown:** {told}" in campaign_markdown(report)
    assert "`outflow report 'spring offer'`" in changed(report, campaign="spring offer")


@pytest.mark.parametrize(("batches", "words"), [(0, "0 batches."), (1, "1 batch."), (2, "2 batches.")])
def test_one_batch_is_a_batch(report: CampaignReport, batches: int, words: str):
    assert f", {words}" in changed(report, batches=batches)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0 seconds"), (59.94, "59.9 seconds"), (61.0, "1 min 01 s"), (3_720.0, "1 h 02 min")],
)
def test_it_says_how_long_in_fitting_units(report: CampaignReport, seconds: float, words: str):
    assert f", {words}," in changed(report, seconds=seconds)


def test_before_any_answer_there_is_no_percentage(report: CampaignReport):
    markdown = changed(report, totals=Totals(queued=3), seconds=0.0)

    assert "**0 of 3** recipients accepted, 0.0 seconds, 0 messages per second" in markdown
