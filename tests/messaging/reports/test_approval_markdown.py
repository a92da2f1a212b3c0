"""Who is to approve a campaign reads first what is wrong with it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from messaging.reports.approval_markdown import approval_markdown
from schemas.approval import Draft
from schemas.report import Decision

LONDON = ZoneInfo("Europe/London")
DRAFT = Draft(
    name="spring-offer",
    accounts=["smtp-account/main", "whatsapp-cloud-account/main"],
    audience="customers",
    subject="`10` off",
    recipients=1284,
    excluded={"unsubscribed": 12, "suppressed": 1},
    begins_at=datetime(2027, 6, 20, 9, 0, tzinfo=LONDON),
    time_zone="Europe/London",
    is_due=False,
    ends_at=datetime(2027, 6, 20, 13, 0, tzinfo=LONDON),
    tested="2 accepted",
    comments=[
        Decision(at=datetime(2027, 6, 1, 12, 0, tzinfo=UTC), who="Bo in Prefect", said="who is it for?")
    ],
)


def test_it_says_what_would_be_sent_to_how_many_and_when():
    assert approval_markdown(DRAFT, [], "http://127.0.0.1/artifact").splitlines() == [
        "### Campaign spring-offer waits for your answer",
        "",
        "- Subject: `` `10` off ``",
        "- Recipients: **1,284** of audience customers (left out: 12 unsubscribed, 1 suppressed)",
        "- Starts: 2027-06-20 09:00 Europe/London, once approved",
        "- At the latest: 2027-06-20 13:00 Europe/London",
        "- Account: smtp-account/main, then whatsapp-cloud-account/main",
        "- Test messages: 2 accepted",
        "",
        "[What it looks like, and what was checked](http://127.0.0.1/artifact)",
        "",
        "> who is it for?  ",
        "> Bo in Prefect, 2027-06-01 12:00 UTC",
    ]


def test_what_is_wrong_comes_first_and_what_is_not_there_is_left_out():
    late = DRAFT.model_copy(
        update={"is_due": True, "ends_at": None, "tested": "", "comments": [], "excluded": {}, "audience": ""}
    )

    lines = approval_markdown(
        late, ["no such host", "no test message has arrived: 1 not sent"], ""
    ).splitlines()

    assert lines[2:5:2] == [
        "**Problem:** no such host",
        "**Problem:** no test message has arrived: 1 not sent",
    ]
    assert "- Recipients: **1,284**" in lines
    assert "- Starts: as soon as it is approved (it was due at 2027-06-20 09:00 Europe/London)" in lines
    assert "- Test messages: **none has arrived**" in lines
    assert not any("latest" in line or "](" in line for line in lines)
