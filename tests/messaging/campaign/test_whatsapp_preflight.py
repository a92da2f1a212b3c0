"""Checking a WhatsApp campaign before anything is sent."""

import pytest
from sqlalchemy import Engine

from messaging.campaign.planning import check_campaign
from messaging.errors import InputError
from schemas.campaign import CampaignSpec


def spec(**template: object) -> CampaignSpec:
    return CampaignSpec(
        name="spring-offer",
        channel="whatsapp",
        account="whatsapp-cloud-account/main",
        audience="customers",
        template={"name": "spring_offer", **template},
    )


def test_check_counts_who_lacks_a_value_for_each_parameter(ledger: Engine, audience):
    audience("ada@example.org", "bo@example.org", city="York")
    audience("cy@example.org")

    found = check_campaign(
        ledger,
        spec(header="{{ phone }}", body={"1": "{{ name }}"}, buttons=['x/{{ contact["City"] }}']),
    )

    assert found.empty_fields == {"City": 1, "phone": 3}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"body": {"1": "{{ citty }}"}}, "unknown merge field 'citty'"),
        ({"buttons": ["{{ city"]}, "template button 1: line 1"),
        ({"header": "https://x.example/{{ city }}"}, "template header: the link does not end in"),
    ],
)
def test_check_refuses_a_template_that_could_not_be_filled(
    ledger: Engine, audience, template: dict, expected: str
):
    audience("ada@example.org", city="York")

    with pytest.raises(InputError, match=expected):
        check_campaign(ledger, spec(**template))
