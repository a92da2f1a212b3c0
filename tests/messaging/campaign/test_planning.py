"""Planning snapshots an audience once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.planning import check_campaign, plan_campaign
from messaging.errors import InputError
from messaging.storage import audiences, campaigns, plans
from schemas.audience import AudienceSpec
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.states import CampaignState


def test_planned_many_times_at_once_a_campaign_has_one_plan(ledger: Engine, audience, spec: CampaignSpec):
    audience(*(f"reader{n}@example.org" for n in range(50)))

    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda _: plan_campaign(ledger, spec), range(8)))

    assert [plan.created for plan in plans].count(True) == 1
    assert {(plan.campaign_id, plan.recipients) for plan in plans} == {(plans[0].campaign_id, 50)}
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM attempts")).scalar_one() == 50


def test_who_must_not_be_written_to_is_left_out_with_the_reason(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", "bounced@example.org", "elsewhere@example.org")
    audience("gone@example.org", status="unsubscribed")
    audience("new@example.org", status="pending")
    audience("stranger@example.org", consent=None)
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source, expires_at) VALUES
                ('email', 'bounced@example.org', 'bounced', 'test', NULL),
                ('email', 'elsewhere@example.org', 'manual', 'test', now() - interval '1 day')
            """)
        )
        connection.execute(text("INSERT INTO contacts (phone) VALUES ('+447700900001')"))
        connection.execute(
            text("INSERT INTO audience_members (audience_id, contact_id) SELECT 1, max(id) FROM contacts")
        )

    plan = plan_campaign(ledger, spec)

    assert plan.recipients == 2  # ada, and elsewhere whose suppression has expired
    assert plan.excluded == {
        "no consent": 1,
        "no e-mail address": 1,
        "subscription not confirmed": 1,
        "suppressed: bounced": 1,
        "unsubscribed": 1,
    }
    assert check_campaign(ledger, spec).excluded == plan.excluded


@pytest.mark.parametrize(
    ("batch_size", "most_batches", "sizes"),
    [(4, 200, [4, 4, 2]), (10, 200, [10]), (1, 3, [4, 4, 2]), (100, 1, [10])],
)
def test_batches_have_the_size_asked_for_unless_there_would_be_too_many(
    ledger: Engine, audience, spec: CampaignSpec, batch_size: int, most_batches: int, sizes: list[int]
):
    audience(*(f"reader{n}@example.org" for n in range(10)))
    with ledger.begin() as connection:
        campaign_id = campaigns.add(connection, spec, 1)
        plans.plan(connection, campaign_id, batch_size, most_batches)

        made = connection.execute(
            text("""
                SELECT count(*) FROM attempts a JOIN batches b ON b.id = a.batch_id
                GROUP BY b.number ORDER BY b.number
            """)
        ).scalars()
        assert list(made) == sizes


def test_an_automatic_batch_is_some_seconds_of_sending_but_at_least_500(
    ledger: Engine, audience, spec: CampaignSpec
):
    audience(*(f"reader{n}@example.org" for n in range(1200)))

    plan = plan_campaign(ledger, spec.model_validate(spec.model_dump() | {"pacing": {"rate": "10/s"}}))

    assert plan.batches == [1, 2, 3]


def test_a_name_stands_for_one_content(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    plan_campaign(ledger, spec)

    with pytest.raises(InputError, match="planned before with another subject"):
        plan_campaign(ledger, spec.model_copy(update={"subject": "Something else"}))


def test_account_and_pace_may_change_between_launches(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    plan_campaign(ledger, spec)

    plan = plan_campaign(ledger, spec.model_copy(update={"account": "smtp-account/other"}))

    assert (plan.created, plan.accounts) == (False, ["smtp-account/other"])


def test_after_its_deadline_a_campaign_is_not_launched_again_without_a_later_one(
    ledger: Engine, audience, spec: CampaignSpec
):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec.model_copy(update={"not_after": "4h"}))
    with ledger.begin() as connection:
        campaign = campaigns.get(connection, plan.campaign_id)
        assert campaign.deadline == campaign.planned_at + timedelta(hours=4)
        connection.execute(text("UPDATE campaigns SET planned_at = planned_at - interval '5 h'"))
        campaigns.pause(connection, plan.campaign_id, "too late")

    with pytest.raises(
        InputError, match=r"was to be sent by .* UTC \(not_after: 4h\), so nothing more is sent"
    ):
        plan_campaign(ledger, spec.model_copy(update={"not_after": "4h"}))
    with ledger.begin() as connection:
        assert campaigns.get(connection, plan.campaign_id).state is CampaignState.PAUSED

    plan_campaign(ledger, spec.model_copy(update={"not_after": "1d"}))
    with ledger.begin() as connection:
        assert campaigns.get(connection, plan.campaign_id).state is CampaignState.RUNNING


def test_without_a_limit_there_is_no_deadline(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec)

    with ledger.begin() as connection:
        assert campaigns.get(connection, plan.campaign_id).deadline is None


def test_attachments_are_kept_as_they_were_when_the_campaign_was_planned(
    ledger: Engine, audience, spec: CampaignSpec, tmp_path: Path
):
    audience("ada@example.org")
    terms, photo = tmp_path / "terms.pdf", tmp_path / "photo.png"
    terms.write_bytes(b"%PDF-1.7\x00")
    photo.write_bytes(b"\x89PNG")
    attached = spec.model_copy(update={"attachments": [str(terms), str(photo)]})

    preflight = check_campaign(ledger, attached)
    plan = plan_campaign(ledger, attached)

    assert preflight.attachments == {"terms.pdf": 9, "photo.png": 4}
    with ledger.begin() as connection:
        assert campaigns.attachments(connection, plan.campaign_id) == [
            ("terms.pdf", "application/pdf", b"%PDF-1.7\x00"),
            ("photo.png", "image/png", b"\x89PNG"),
        ]


def test_the_same_files_are_the_same_content_wherever_they_lie(
    ledger: Engine, audience, spec: CampaignSpec, tmp_path: Path
):
    audience("ada@example.org")
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "terms.pdf").write_bytes(b"%PDF-1.7")

    plans = [
        plan_campaign(ledger, spec.model_copy(update={"attachments": [str(tmp_path / folder / "terms.pdf")]}))
        for folder in ("here", "there")
    ]

    assert [plan.created for plan in plans] == [True, False]


@pytest.mark.parametrize("change", ["bytes", "name", "left out", "order"])
def test_other_attachments_under_the_same_name_are_refused(
    ledger: Engine, audience, spec: CampaignSpec, tmp_path: Path, change: str
):
    audience("ada@example.org")
    paths = [tmp_path / "a.pdf", tmp_path / "b.pdf"]
    for path in paths:
        path.write_bytes(b"%PDF-1.7")
    plan_campaign(ledger, spec.model_copy(update={"attachments": [*map(str, paths)]}))
    if change == "bytes":
        paths[0].write_bytes(b"%PDF-1.8")
    elif change == "name":
        paths[0] = paths[0].rename(tmp_path / "c.pdf")
    elif change == "left out":
        paths.pop()
    else:
        paths.reverse()

    with pytest.raises(InputError, match="planned before with another set of attachments"):
        plan_campaign(ledger, spec.model_copy(update={"attachments": [*map(str, paths)]}))


def test_an_attachment_that_is_not_there_is_refused_before_anything_is_written(
    ledger: Engine, audience, spec: CampaignSpec, tmp_path: Path
):
    audience("ada@example.org")
    attached = spec.model_copy(update={"attachments": [str(tmp_path / "missing.pdf")]})

    for attempt in (check_campaign, plan_campaign):
        with pytest.raises(InputError, match=r"missing\.pdf: no such file"):
            attempt(ledger, attached)

    with ledger.begin() as connection:
        assert campaigns.names(connection) == []


def test_a_finished_campaign_stays_finished(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
        campaigns.finish(connection, plan.campaign_id)

    assert plan_campaign(ledger, spec).state is CampaignState.FINISHED


def test_a_paused_campaign_runs_on_when_it_is_launched_again(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec)
    with ledger.begin() as connection:
        campaigns.pause(connection, plan.campaign_id, "the account is blocked")

    plan_campaign(ledger, spec)

    with ledger.begin() as connection:
        assert campaigns.get(connection, plan.campaign_id).state is CampaignState.RUNNING


def test_an_audience_that_is_not_there_is_refused_before_anything_is_written(
    ledger: Engine, audience, spec: CampaignSpec
):
    audience("ada@example.org", name="staff")

    with pytest.raises(InputError, match=r"no audience 'customers' \(audiences: staff\)"):
        plan_campaign(ledger, spec)

    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaigns")).scalar_one() == 0


def test_a_merge_field_the_audience_does_not_have_is_refused(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", city="Leeds")

    with pytest.raises(InputError, match="ctiy"):
        plan_campaign(ledger, spec.model_copy(update={"subject": "News from {{ ctiy }}"}))


def test_a_check_counts_who_lacks_a_field(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", city="Leeds")
    audience("bo@example.org", "cy@example.org")

    preflight = check_campaign(ledger, spec.model_copy(update={"subject": "News from {{ city }}"}))

    assert (preflight.recipients, preflight.empty_fields) == (3, {"city": 2})


def test_a_filter_is_evaluated_when_the_campaign_is_planned(
    ledger: Engine, audience, spec: CampaignSpec, states
):
    audience("ada@example.org", city="Leeds")
    audience("bo@example.org", "cy@example.org", city="York")
    audience("di@example.org", name="others", city="Leeds")
    with ledger.begin() as connection:
        audiences.save(
            connection, AudienceSpec(name="leeds", members_of=["customers"], where='city = "Leeds"')
        )
    leeds = spec.model_copy(update={"audience": "leeds", "subject": "News from {{ city }}"})
    assert check_campaign(ledger, leeds).recipients == 1
    audience("ed@example.org", city="Leeds")

    plan_campaign(ledger, leeds)
    audience("flo@example.org", city="Leeds")

    assert plan_campaign(ledger, leeds).recipients == 2
    assert states().keys() == {"ada@example.org", "ed@example.org"}


def test_a_condition_narrows_an_audience_and_who_is_left_out(
    ledger: Engine, audience, spec: CampaignSpec, states
):
    audience("ada@example.org", "bo@example.org", city="Leeds")
    audience("gone@example.org", city="Leeds", status="unsubscribed")
    audience("cy@example.org", city="York")
    audience("away@example.org", city="York", status="unsubscribed")
    narrowed = spec.model_copy(update={"where": 'city = "Leeds" and name != "Bo"'})

    preflight = check_campaign(ledger, narrowed)
    plan = plan_campaign(ledger, narrowed)

    assert (preflight.contacts, preflight.recipients, preflight.excluded) == (2, 1, {"unsubscribed": 1})
    assert (plan.recipients, plan.excluded) == (1, {"unsubscribed": 1})
    assert states().keys() == {"ada@example.org"}
    with pytest.raises(InputError, match="planned before with another where"):
        plan_campaign(ledger, spec)


def test_a_field_that_only_others_have_is_no_mistake(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", city="Leeds")
    audience("bo@example.org")
    update = {"where": "city is empty", "subject": "News from {{ city | default('afar') }}"}

    preflight = check_campaign(ledger, spec.model_copy(update=update))

    assert (preflight.recipients, preflight.empty_fields) == (1, {"city": 1})


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("city = Leeds", "position 8: expected text in quotes"),
        ('ctiy != "Leeds"', "no contact has 'ctiy'; did you mean 'city'"),
    ],
)
def test_a_condition_that_cannot_be_evaluated_is_refused_before_anything_is_written(
    ledger: Engine, audience, spec: CampaignSpec, where: str, sentence: str
):
    audience("ada@example.org", city="Leeds")

    with pytest.raises(InputError, match=sentence):
        plan_campaign(ledger, spec.model_copy(update={"where": where}))

    with ledger.begin() as connection:
        assert campaigns.names(connection) == []


ADA, BO, CY, DI = (f"{name}@example.org" for name in ("ada", "bo", "cy", "di"))
PHONES = [f"+44770090000{n}" for n in range(10)]
TEMPLATE = {"name": "spring_offer", "body": {"1": "{{ name }}"}}
CLOUD, WEB = "whatsapp-cloud-account/shop", "whatsapp-web-account/phone"
LEGS = """
    SELECT b.number, b.leg, array_agg(a.address ORDER BY a.id)
    FROM attempts a JOIN batches b ON b.id = a.batch_id GROUP BY 1, 2 ORDER BY 1
"""


@pytest.fixture
def legs(ledger: Engine) -> Callable[[], list[tuple]]:
    """Read number, account's place and recipients of each batch."""

    def read() -> list[tuple]:
        with ledger.begin() as connection:
            return [tuple(row) for row in connection.execute(text(LEGS))]

    return read


def over(spec: CampaignSpec, *accounts: str, **values: object) -> CampaignSpec:
    """Send over these accounts, in this order."""
    account, *fallback = accounts
    channel = "email" if "smtp" in account else "whatsapp"
    values = {"account": account, "fallback": fallback, "channel": channel, **values}
    return CampaignSpec.model_validate(spec.model_dump() | values)


def suppress(ledger: Engine, channel: str, *keys: str) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                SELECT :channel, unnest(CAST(:keys AS text[])), 'manual', 'test'
            """),
            {"channel": channel, "keys": list(keys)},
        )


def test_each_is_written_to_over_the_first_account_that_can_reach_them(
    ledger: Engine, audience, spec: CampaignSpec, legs
):
    audience(ADA, BO, "", CY, "", DI, phones=["", PHONES[1], PHONES[2], PHONES[3], PHONES[4], PHONES[5]])
    suppress(ledger, "email", CY, DI)
    suppress(ledger, "whatsapp", PHONES[1], PHONES[4], PHONES[5])
    both = over(spec, "smtp-account/main", CLOUD, "smtp-account/relay", template=TEMPLATE)

    preflight = check_campaign(ledger, both)
    plan = plan_campaign(ledger, both)

    assert legs() == [(1, 0, [ADA, BO]), (2, 1, [PHONES[2], PHONES[3]])]
    assert plan.excluded == preflight.excluded == {"suppressed: manual": 2}
    assert (plan.accounts, plan.recipients) == (["smtp-account/main", CLOUD], preflight.recipients)


def test_with_whatsapp_first_email_is_for_those_without_a_number(
    ledger: Engine, audience, spec: CampaignSpec, legs
):
    audience(ADA, BO, "", phones=[PHONES[0], "", PHONES[2]])

    plan_campaign(ledger, over(spec, CLOUD, "smtp-account/main", template=TEMPLATE))

    assert legs() == [(1, 0, [PHONES[0], PHONES[2]]), (2, 1, [BO])]


def test_each_accounts_batches_have_the_size_asked_for(ledger: Engine, audience, spec: CampaignSpec, legs):
    audience(*(f"reader{n}@example.org" for n in range(5)))
    audience(*[""] * 5, phones=PHONES[:5])
    by_turns = over(spec, "smtp-account/main", CLOUD, template=TEMPLATE, batch_size=2)

    plan_campaign(ledger, by_turns)

    assert [(number, leg, len(found)) for number, leg, found in legs()] == [
        (1, 0, 2), (2, 0, 2), (3, 0, 1), (4, 1, 2), (5, 1, 2), (6, 1, 1)
    ]  # fmt: skip


def test_who_has_no_usable_number_is_left_out_with_the_reason(
    ledger: Engine, audience, spec: CampaignSpec, legs
):
    audience(ADA, BO, "", "", phones=["", "07700 900001", PHONES[2], PHONES[3]])
    audience("", consent=None, phones=[PHONES[4]])
    audience("", status="unsubscribed", phones=[PHONES[5]])
    suppress(ledger, "whatsapp", PHONES[3])

    plan = plan_campaign(ledger, over(spec, CLOUD, template=TEMPLATE))

    assert legs() == [(1, 0, [PHONES[2]])]
    assert plan.excluded == {
        "no consent": 1,
        "no phone number": 1,
        "phone number not in international form": 1,
        "suppressed: manual": 1,
        "unsubscribed": 1,
    }


def test_without_any_address_for_its_accounts_nobody_is_written_to(
    ledger: Engine, audience, spec: CampaignSpec
):
    audience(ADA)
    both = over(spec, CLOUD, "smtp-account/main", template=TEMPLATE)
    suppress(ledger, "email", ADA)

    assert plan_campaign(ledger, both).excluded == {"suppressed: manual": 1}
    with ledger.begin() as connection:
        assert plans.exclusions(connection, 1, plans.Legs()) == {"": 1}


def test_two_contacts_with_one_number_are_one_recipient(ledger: Engine, audience, spec: CampaignSpec, legs):
    audience(ADA, "", BO, CY, phones=[PHONES[0], PHONES[0], PHONES[1], PHONES[1]])

    plan = plan_campaign(ledger, over(spec, CLOUD, template=TEMPLATE))

    assert legs() == [(1, 0, [PHONES[0], PHONES[1]])]
    assert plan.excluded["same phone number as another contact"] == 2


def test_free_text_of_the_cloud_api_goes_only_to_who_wrote_to_that_account_lately(
    ledger: Engine, audience, spec: CampaignSpec, legs
):
    audience(*[""] * 4, phones=PHONES[:4])
    suppress(ledger, "whatsapp", PHONES[3])
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO service_windows (account, phone, closes_at) VALUES
                (:shop, :open, now() + interval '1 hour'), (:shop, :closed, now() - interval '1 hour'),
                (:other, :closed, now() + interval '1 hour')
            """),
            {"shop": CLOUD, "other": f"{CLOUD}-2", "open": PHONES[0], "closed": PHONES[1]},
        )

    preflight = check_campaign(ledger, over(spec, CLOUD, f"{CLOUD}-2"))
    plan = plan_campaign(ledger, over(spec, CLOUD))

    assert legs() == [(1, 0, [PHONES[0]])]
    assert plan.excluded == {"no open service window": 2, "suppressed: manual": 1}
    assert (preflight.recipients, preflight.excluded) == (
        2, {"no open service window": 1, "suppressed: manual": 1}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accounts", "pacing", "kept"),
    [
        ([WEB], {}, {"human": "10-25s"}),
        ([WEB], {"rate": "1/s"}, {"human": "10-25s"}),
        ([WEB], {"human": "1-5s", "warm_up": {"start": 20}}, {"human": "10-25s", "warm_up": {"start": 20}}),
        ([WEB], {"human": "20-40s"}, {"human": "20-40s"}),
        ([WEB], {"delay": "10s"}, {"delay": "10s"}),
        ([WEB], {"rate": "100/d"}, {"rate": "100/d"}),
        ([WEB, "whatsapp-web-account/other"], {}, {"human": "10-25s"}),
        ([WEB, "smtp-account/main"], {"rate": "5/s"}, {"rate": "5/s"}),
        (["smtp-account/main"], {}, {}),
    ],
    ids=str,
)
def test_over_whatsapp_web_alone_a_campaign_goes_as_slowly_as_a_person(
    ledger: Engine, audience, spec: CampaignSpec, accounts: list[str], pacing: dict, kept: dict
):
    audience(ADA, phones=PHONES[:1])
    paced = over(spec, *accounts, pacing=pacing)

    preflight = check_campaign(ledger, paced)
    plan = plan_campaign(ledger, paced)

    with ledger.begin() as connection:
        stored = campaigns.get(connection, plan.campaign_id).spec.pacing
    assert stored == Pacing.model_validate(kept)
    assert preflight.seconds_at_least == (pytest.approx(1 / stored.per_second) if kept else None)
    assert not plan_campaign(ledger, paced).created
