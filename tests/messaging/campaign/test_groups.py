"""Groups of WhatsApp are recipients beside an audience, or alone: each once, over WhatsApp Web, unnamed."""

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from messaging.audience.suppressing import Basis, suppress_addresses
from messaging.campaign.planning import check_campaign, plan_campaign
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead, Recipient
from messaging.campaign.testing import prepare
from messaging.errors import InputError
from messaging.storage import campaigns
from messaging.storage.link_keys import newest_key
from schemas.campaign import CampaignSpec
from schemas.states import CampaignState, SuppressionReason

WEB, OTHER_WEB = "whatsapp-web-account/shop", "whatsapp-web-account/other"
CLOUD = "whatsapp-cloud-account/main"
CHOIR, RUNNERS = "120363025246125486@g.us", "447400123456-1400000000@g.us"
PHONES = ("+447400123456", "+447400654321")
HELLO = 'Hello {{ name | default("everybody") }}'


@pytest.fixture
def spec() -> CampaignSpec:
    return campaign()


def campaign(**others: object) -> CampaignSpec:
    usual = {"channel": "whatsapp", "account": WEB, "audience": "customers", "text": HELLO}
    return CampaignSpec.model_validate({"name": "rehearsal", "groups": [CHOIR, RUNNERS]} | usual | others)


def planned(ledger: Engine) -> list[tuple]:
    with ledger.begin() as connection:
        statement = """
            SELECT a.address, a.address_key, a.contact_id, b.leg, a.state
            FROM attempts a JOIN batches b ON b.id = a.batch_id ORDER BY a.contact_id, a.address
        """
        return [tuple(row) for row in connection.execute(text(statement))]


def test_they_are_planned_once_beside_the_audience(ledger: Engine, audience, spec: CampaignSpec):
    audience("", "", phones=PHONES)
    preflight = check_campaign(ledger, spec)
    assert (preflight.contacts, preflight.groups, preflight.recipients) == (2, 2, 4)

    for _ in range(2):
        assert plan_campaign(ledger, spec).recipients == 4

    assert planned(ledger) == [
        *((phone, phone, n, 0, "queued") for n, phone in enumerate(PHONES, 1)),
        (CHOIR, CHOIR, None, 0, "queued"),
        (RUNNERS, RUNNERS, None, 0, "queued"),
    ]


def test_they_need_no_audience(ledger: Engine):
    spec = campaign(audience="")
    preflight = check_campaign(ledger, spec)
    plan = plan_campaign(ledger, spec)

    assert (preflight.contacts, preflight.recipients, plan.recipients) == (0, 2, 2)
    assert [address for address, *_ in planned(ledger)] == [CHOIR, RUNNERS]
    assert plan_campaign(ledger, spec).created is False
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
        assert campaigns.finish(connection, plan.campaign_id) == []
        assert campaigns.get(connection, plan.campaign_id).state is CampaignState.FINISHED


def test_the_first_account_of_whatsapp_web_writes_to_them_and_no_other_does(ledger: Engine, audience):
    audience("", phones=PHONES[:1])
    spec = campaign(
        account=CLOUD, fallback=[WEB, OTHER_WEB], template={"name": "rehearsal", "language": "en_GB"}
    )
    plan = plan_campaign(ledger, spec)
    assert [(address, leg) for address, _, _, leg, _ in planned(ledger)] == [
        (PHONES[0], 0),
        (CHOIR, 1),
        (RUNNERS, 1),
    ]

    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'rejected', unreachable = true"))
        campaigns.finish(connection, plan.campaign_id)
    assert [(address, leg, state) for address, _, _, leg, state in planned(ledger)] == [
        (PHONES[0], 1, "queued"),
        (CHOIR, 1, "rejected"),
        (RUNNERS, 1, "rejected"),
    ]


def test_whoever_is_suppressed_is_left_out(ledger: Engine, audience, spec: CampaignSpec):
    audience("", "", phones=PHONES)
    done = suppress_addresses(ledger, [RUNNERS, PHONES[0]], Basis(SuppressionReason.MANUAL, "ada"))
    assert (done.added, done.refused) == (2, [])

    assert check_campaign(ledger, spec).excluded == {"suppressed: manual": 2}
    assert plan_campaign(ledger, spec).excluded == {"suppressed: manual": 2}
    assert [address for address, *_ in planned(ledger)] == [PHONES[1], CHOIR]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("Hello {{ name }}", "name"),
        ("Hello {{ city }}", "city"),
        ('{{ contact["City"] }}', "City"),
        ("No more: {{ unsubscribe_url }}", "unsubscribe_url"),
        ("{% if name %}Hello{% endif %}", "is empty"),
    ],
)
def test_a_text_that_asks_for_somebodys_data_is_refused(ledger: Engine, audience, words: str, field: str):
    audience("", phones=PHONES[:1], city="Leeds")

    with pytest.raises(InputError, match=f"{field}.*a group has no name"):
        check_campaign(ledger, campaign(text=words))
    check_campaign(ledger, campaign(text=words, groups=[]))


def test_a_group_is_written_to_in_nobodys_name(ledger: Engine, audience):
    audience("", phones=PHONES[:1])
    spec = campaign(text=HELLO + "{% if unsubscribe_url is defined %}: {{ unsubscribe_url }}{% endif %}")
    trial = prepare(ledger, spec, None, [CHOIR, PHONES[0]])
    with ledger.begin() as connection:
        letterhead = Letterhead("", newest_key(connection), "")
    renderer = renderer_for(WEB, spec, 1, letterhead, [])
    said = [renderer.render(reader.recipient).content.decode() for reader in trial.readers]

    assert '"Hello everybody"' in said[0]
    assert "Hello Reader: http" in said[1]
    alone = prepare(ledger, campaign(audience=""), None, [CHOIR])
    assert alone.readers[0].recipient == Recipient(
        token=alone.readers[0].recipient.token,
        address=CHOIR,
        name=None,
        phone=None,
        attributes={},
        email=None,
    )


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"groups": ["120363025246125486"]}, "groups.0"),
        ({"groups": ["+447700900001"]}, "groups.0"),
        ({"groups": [CHOIR, CHOIR]}, "names one twice"),
        ({"groups": [], "audience": ""}, "audience is missing"),
        ({"account": CLOUD}, "name a whatsapp-web-account"),
        ({"audience": "", "where": 'city = "Leeds"'}, "for the members of an audience"),
        ({"audience": "", "fallback": [OTHER_WEB]}, "for the members of an audience"),
    ],
)
def test_what_cannot_be_written_to_is_no_campaign(others: dict[str, object], sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        campaign(**others)
