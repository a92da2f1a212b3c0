"""Messages to be looked at are those that would be sent; nothing in them can run where they are shown."""

import re
from html import unescape

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.previewing import From, Previews, previews
from messaging.reports.preview_page import preview_page
from messaging.storage.campaigns import CampaignFile
from schemas.campaign import CampaignSpec
from schemas.whatsapp import WhatsAppTemplate

SHOP = From("smtp-account/main", "Shop <news@shop.example.org>")
CLOUD, WEB = From("whatsapp-cloud-account/main"), From("whatsapp-web-account/phone")


def made(
    ledger: Engine, spec: CampaignSpec, *senders: From, files: list[CampaignFile] | None = None
) -> Previews:
    with ledger.begin() as connection:
        return previews(connection, spec, senders, files or [])


def test_the_first_the_longest_and_the_emptiest_are_shown(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", "bob@example.org", "maximiliana@example.org", city="Leeds")
    audience("cy@example.org")
    audience("gone@example.org", "a.very.long.name.that.has.left@example.org", status="unsubscribed")

    found = made(ledger, spec.model_copy(update={"text": "Dear {{ name }} of {{ city | d('home') }}"}), SHOP)

    assert [(shown.why, shown.to, shown.text.strip()) for shown in found.people] == [
        ("the first of the audience", "ada@example.org", "Dear Ada of Leeds"),
        ("the longest name", "maximiliana@example.org", "Dear Maximiliana of Leeds"),
        ("most values missing", "cy@example.org", "Dear Cy of home"),
    ]
    assert found.people[0].subject == "Hello Ada"
    assert found.people[0].sender == "Shop <news@shop.example.org>"


def test_a_member_who_is_several_of_them_is_shown_once(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")

    assert [shown.why for shown in made(ledger, spec, SHOP).people] == ["the first of the audience"]


def test_only_those_for_whom_the_filter_holds_are_shown(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", city="York")
    audience("bob@example.org", city="Leeds")

    narrowed = spec.model_copy(update={"where": 'city = "Leeds"'})

    assert {shown.to for shown in made(ledger, narrowed, SHOP).people} == {"bob@example.org"}


def test_what_may_be_read_by_anybody_holds_the_names_of_fields(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", city="Leeds")
    spec = spec.model_copy(update={"text": "{{ name }} {{ city }} {{ email }} {{ contact['City'] }}"})

    [shown] = made(ledger, spec, SHOP).nobody

    assert shown.text.strip() == "«name» «city» name@example.org «city»"
    assert (shown.subject, shown.to) == ("Hello «name»", "name@example.org")


def test_hidden_values_show_which_there_are(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", phones=["+447400000001"], city="Leeds")
    changes = {"text": "{{ name }} {{ city }} {{ phone }}", "groups": ["447400000002-1600000000@g.us"]}
    spec = CampaignSpec.model_validate({**spec.model_dump(), **changes, "fallback": [WEB.account]})

    with ledger.begin() as connection:
        people = previews(connection, spec, [SHOP, WEB], hidden=True).people
        alone = spec.model_copy(update={"audience": "", "text": "Hi"})
        [group] = previews(connection, alone, [WEB], hidden=True).people

    assert {shown.text.strip() for shown in people} == {"«name» «city» +447700900000"}
    assert [shown.to for shown in (*people, group)] == ["name@example.org", "+447700900000", "«group»"]


def test_what_cannot_be_made_says_why(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET name = NULL"))

    [shown, *_] = made(ledger, spec, SHOP).people

    assert (shown.problem, shown.text) == ("text: no value for merge field 'name'", "") or (
        "no value for merge field 'name'" in shown.problem
    )


def test_files_are_named(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")

    [shown] = made(ledger, spec, SHOP, files=[CampaignFile("terms.pdf", "application/pdf", b"%PDF")]).people

    assert shown.attachments == ("terms.pdf",)


def test_each_kind_of_account_shows_what_it_would_send(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org", phones=["+447400000001"])
    both = spec.model_copy(
        update={
            "template": WhatsAppTemplate(name="spring", body={"1": "{{ name }}"}),
            "text": "Hi {{ name }}",
        }
    )

    found = made(ledger, both, SHOP, CLOUD, WEB, From("smtp-account/other"))

    assert [(shown.account, shown.to, shown.text.strip()) for shown in found.people] == [
        ("smtp-account/main", "ada@example.org", "Hi Ada"),
        ("whatsapp-cloud-account/main", "+447400000001", "Template spring (en)\nbody 1: Ada"),
        ("whatsapp-web-account/phone", "+447400000001", "Hi Ada"),
    ]


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "</iframe><b>", '"><img onerror=x>'])
def test_a_message_stays_in_its_frame(ledger: Engine, audience, spec: CampaignSpec, evil: str):
    audience("ada@example.org")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET name = :name"), {"name": evil})
    spec = spec.model_copy(update={"html": f"<p>{{{{ name }}}}</p>{evil}"})

    page = preview_page(spec.name, made(ledger, spec, SHOP).people)

    frames = re.findall(r'<iframe sandbox title="[^"]*" srcdoc="([^"]*)"></iframe>', page)
    assert len(frames) == 2
    assert evil in unescape(frames[0])
    assert evil not in re.sub(r'srcdoc="[^"]*"', "", page)
    assert page.count("<iframe") == 2
    assert "default-src &#39;none&#39;" in page
