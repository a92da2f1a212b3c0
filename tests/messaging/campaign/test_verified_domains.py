"""Campaigns that leave out addresses whose domain takes no mail."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from messaging.audience.verifying_domains import Resolving
from messaging.campaign.planning import check_campaign, keep_campaign, plan_campaign, start_campaign
from messaging.storage import mail_domains
from schemas.campaign import CampaignSpec
from schemas.states import DomainVerdict
from tests.fakes.dns import FakeDns

NAMES = {
    "com": ["NS ns.example."],
    "good.example": ["MX 10 mail.good.example."],
    "null.example": ["MX 0 ."],
    "text.example": ["TXT hello"],
    "broken.example": ["SERVFAIL"],
}
LEFT_OUT = {"domain takes no mail": 3}


@pytest.fixture
def customers(audience) -> None:
    audience(
        *(f"ada@{domain}" for domain in ("good.example", "null.example", "text.example", "gone.example"))
    )
    audience("bo@broken.example")


@pytest.fixture
def verifying(spec: CampaignSpec) -> CampaignSpec:
    return spec.model_copy(update={"verify_domains": True})


def by(dns: FakeDns) -> Resolving:
    return Resolving(("127.0.0.1",), dns.port, timeout=2)


@pytest.mark.usefixtures("customers")
def test_planning_asks_about_domains_and_leaves_out_those_that_take_no_mail(
    ledger: Engine, verifying: CampaignSpec, states
):
    with FakeDns(NAMES).running() as dns:
        checked = check_campaign(ledger, verifying, by(dns))
        asked = dns.questions.copy()
        plan = plan_campaign(ledger, verifying, resolving=by(dns))
        again = plan_campaign(ledger, verifying, resolving=by(dns))

    assert (checked.recipients, checked.excluded) == (2, LEFT_OUT)
    assert (plan.recipients, plan.excluded, again.excluded) == (2, LEFT_OUT, LEFT_OUT)
    assert states() == {"ada@good.example": "queued", "bo@broken.example": "queued"}
    assert dns.questions == asked  # what the check has learnt is believed


def test_a_campaign_that_was_kept_asks_about_those_who_are_there_when_it_starts(
    ledger: Engine, audience, verifying: CampaignSpec
):
    audience("ada@good.example")
    with FakeDns(NAMES).running() as dns:
        kept = keep_campaign(ledger, verifying, datetime.now(UTC), resolving=by(dns))
        audience("bo@null.example")  # joins before it starts
        plan = start_campaign(ledger, kept.id, resolving=by(dns))

    assert (plan.recipients, plan.excluded) == (1, {"domain takes no mail": 1})


@pytest.mark.usefixtures("customers")
def test_unless_asked_to_a_campaign_neither_asks_nor_leaves_out(ledger: Engine, spec: CampaignSpec):
    with ledger.begin() as connection:
        mail_domains.remember(connection, {"null.example": DomainVerdict.TAKES_NO_MAIL})

    with FakeDns(NAMES).running() as dns:
        plan = plan_campaign(ledger, spec, resolving=by(dns))

    assert (plan.recipients, plan.excluded) == (5, {})
    assert not dns.asked


@pytest.mark.usefixtures("customers")
def test_without_dns_nobody_is_left_out_not_even_for_what_was_known_once(
    ledger: Engine, verifying: CampaignSpec
):
    with ledger.begin() as connection:
        mail_domains.remember(connection, {"null.example": DomainVerdict.TAKES_NO_MAIL})
        connection.execute(text("UPDATE mail_domains SET checked_at = now() - interval '2 days'"))

    with FakeDns({"com": ["REFUSED"], "*.example": ["REFUSED"]}).running() as dns:
        plan = plan_campaign(ledger, verifying, resolving=by(dns))

    assert (plan.recipients, plan.excluded) == (5, {})


@pytest.mark.usefixtures("customers")
def test_a_wish_comes_before_what_dns_says(ledger: Engine, verifying: CampaignSpec):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('email', 'ada@null.example', 'complained', 'test')
            """)
        )

    with FakeDns(NAMES).running() as dns:
        plan = plan_campaign(ledger, verifying, resolving=by(dns))

    assert plan.excluded == {"domain takes no mail": 2, "suppressed: complained": 1}


def test_whose_domain_takes_no_mail_is_written_to_by_phone(ledger: Engine, audience, verifying: CampaignSpec):
    audience("ada@null.example", "bo@good.example", "cy@gone.example")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET phone = '+447400000001' WHERE email LIKE 'ada@%'"))
    both = verifying.model_copy(update={"fallback": ["whatsapp-web-account/main"]})

    with FakeDns(NAMES).running() as dns:
        plan = plan_campaign(ledger, both, resolving=by(dns))

    assert (plan.recipients, plan.excluded) == (2, {"domain takes no mail": 1})
    with ledger.begin() as connection:
        assert set(connection.execute(text("SELECT address FROM attempts")).scalars()) == {
            "+447400000001",
            "bo@good.example",
        }
