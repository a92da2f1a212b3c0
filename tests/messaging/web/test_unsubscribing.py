"""Unsubscribing: nothing happens by looking, and what was answered with 200 is in the ledger."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from messaging.storage import plans
from messaging.tokens import Purpose, sign
from tests.messaging.web.site import Links, Site, events, rows, sent, sent_again

EVERYTHING = "from=everything"
SCANNERS = [
    "Mozilla/5.0",
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0",
]


def wishes(ledger: Engine) -> tuple[list[str], list[str], list[str]]:
    """Return who left the audience, who is suppressed, and whose contact says so."""
    return (
        [key for (key,) in rows(ledger, "SELECT address_key FROM audience_opt_outs ORDER BY 1")],
        [
            key
            for (key,) in rows(
                ledger,
                "SELECT address_key FROM suppressions WHERE expires_at IS NULL OR expires_at > now() "
                "ORDER BY 1",
            )
        ],
        [e for (e,) in rows(ledger, "SELECT email FROM contacts WHERE status <> 'subscribed' ORDER BY 1")],
    )


def reachable(ledger: Engine) -> int:
    """Return how many the next campaign would be sent to."""
    with ledger.begin() as connection:
        return plans.exclusions(connection, 1, plans.BY_EMAIL).get(None, 0)


def test_looking_at_every_link_of_a_thousand_messages_unsubscribes_nobody(ledger: Engine, site: Site):
    links = sent(ledger, 1000)

    def look(first: int) -> None:
        visitor = Site(site.port, site.home)
        try:
            for n in range(first, 1000, 4):
                agent = {"User-Agent": SCANNERS[n % len(SCANNERS)]}
                for method in ("GET", "HEAD"):
                    for path in (
                        links.unsubscribe(n),
                        links.pixel(n),
                        links.click("https://example.org/", n),
                    ):
                        assert visitor.ask(method, path, headers=agent).status in {200, 302}
                assert visitor.ask("GET", links.preferences(n), headers=agent).status == 200
        finally:
            visitor.close()

    with ThreadPoolExecutor(4) as visitors:
        list(visitors.map(look, range(4)))
    assert wishes(ledger) == ([], [], [])
    assert rows(ledger, "SELECT count(*) FROM events WHERE kind = 'unsubscribed'") == [(0,)]
    assert reachable(ledger) == 1000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click"),
        (
            "multipart/form-data; boundary=XyZ",
            (
                b'--XyZ\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n'
                b"--XyZ--\r\n"
            ),
        ),
        (
            'multipart/form-data; charset=utf-8; boundary="----a b"',
            (
                b'------a b\r\ncontent-disposition: form-data; name="List-Unsubscribe"\r\n'
                b"content-type: text/plain\r\n\r\nOne-Click\r\n------a b--\r\n"
            ),
        ),
    ],
)
def test_one_click_is_in_the_ledger_when_it_is_answered(
    ledger: Engine, site: Site, content_type: str, body: bytes
):
    links = sent(ledger, 2)
    done = site.post(links.unsubscribe(), body, content_type)
    # At once, and without waiting for a second.
    assert wishes(ledger) == (["reader1@example.org"], [], [])
    assert done.status == 200
    assert not {"set-cookie", "location"} & done.headers.keys()
    assert reachable(ledger) == 1


def test_the_first_button_leaves_this_audience(ledger: Engine, site: Site):
    links = sent(ledger, 2)
    done = site.post(links.unsubscribe(), "from=audience")
    assert done.status == 200
    assert "crowd" in done.text
    assert wishes(ledger) == (["reader1@example.org"], [], [])
    assert [event["how"] for event in events(ledger, "unsubscribed")] == ["page"]


def test_a_second_click_is_answered_as_the_first_and_changes_nothing(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    first, second = site.one_click(links.unsubscribe()), site.one_click(links.unsubscribe())
    assert (first.status, second.status) == (200, 200)
    assert first.body == second.body
    [event] = events(ledger, "unsubscribed")
    assert event["how"] == "one-click"


def test_the_page_offers_this_audience_or_everything_and_shows_no_address(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    page = site.get(links.unsubscribe())
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Unsubscribe</title>" in page.text
    assert '<form method="post">' in page.text
    assert "crowd" in page.text
    assert "reader1@" not in page.text
    assert "r…\N{WORD JOINER}@example.org" in page.text
    for remote in ("http:", "https:", "src=", "<script", "<link", "@import", "url("):
        assert remote not in page.text


def test_from_everything_is_a_suppression_of_all_addresses(ledger: Engine, site: Site):
    links = sent(ledger, 2)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET phone = '+447400000001' WHERE id = 1"))
    done = site.post(links.unsubscribe(), EVERYTHING)
    assert done.status == 200
    assert "anything we send" in done.text
    assert wishes(ledger) == ([], ["+447400000001", "reader1@example.org"], ["reader1@example.org"])
    assert reachable(ledger) == 1


@pytest.mark.parametrize("body", ["", "from=nowhere", "from=audience&from=everything", "List-Unsubscribe=1"])
def test_a_post_that_says_nothing_is_refused(ledger: Engine, site: Site, body: str):
    links = sent(ledger, 1)
    assert site.post(links.unsubscribe(), body).status == 400
    assert site.post(links.preferences(), body).status == 400
    assert site.post(links.unsubscribe(), "List-Unsubscribe=One-Click", "application/json").status == 400
    assert wishes(ledger) == ([], [], [])


def test_a_link_of_a_test_message_says_so(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    nobody = sign(links.key, Purpose.UNSUBSCRIBE, b"0123456789abcdef")
    for page in ("u", "p"):
        looked = site.get(f"/{page}/{nobody}")
        assert looked.status == 200
        assert "test message" in looked.text
    refused = site.one_click(f"/u/{nobody}")
    assert refused.status == 404  # nobody is unsubscribed, so nobody is told so
    assert "test message" in refused.text
    assert site.post(f"/p/{nobody}", "do=save").status == 404
    assert wishes(ledger) == ([], [], [])


def other_audience(ledger: Engine, name: str) -> int:
    """Put everybody into another list and return its number."""
    return rows(
        ledger,
        """
        WITH made AS (INSERT INTO audiences (name) VALUES (:name) RETURNING id)
        INSERT INTO audience_members (audience_id, contact_id) SELECT made.id, c.id FROM made, contacts c
        RETURNING audience_id
        """,
        name=name,
    )[0][0]


WAS_NOTHING = '<input type="hidden" name="was" value="nothing">'


def save(
    site: Site, links: Links, shown: list[int], keep: list[int], *, nothing: bool = False, stale: bool = False
) -> str:
    """Save the page as it is now, or as it was in a tab that was open before anything was said."""
    was_nothing = not stale and WAS_NOTHING in site.get(links.preferences()).text
    fields = [f"shown={n}" for n in shown] + [f"keep={n}" for n in keep] + ["nothing=yes"] * nothing
    fields += ["was=nothing"] * was_nothing
    saved = site.post(links.preferences(), "&".join([*fields, "do=save"]))
    assert saved.status == 200
    assert "saved" in saved.text
    return saved.text


def test_each_audience_can_be_left_and_come_back_to(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    other = other_audience(ledger, "<b>fans</b> & “friends”")
    page = site.get(links.preferences())
    assert page.text.count(" checked") == 2
    assert "&lt;b&gt;fans&lt;/b&gt; &amp; “friends”" in page.text
    save(site, links, [1, other], [1])
    assert rows(ledger, "SELECT audience_id, address_key FROM audience_opt_outs") == [
        (other, "reader1@example.org")
    ]
    save(site, links, [1, other], [other])
    assert rows(ledger, "SELECT audience_id FROM audience_opt_outs") == [(1,)]
    assert [event["how"] for event in events(ledger, "unsubscribed")] == ["preferences"]
    save(site, links, [1, other], [1, other])
    assert rows(ledger, "SELECT audience_id FROM audience_opt_outs") == []
    assert "taken_back_at" in events(ledger, "unsubscribed")[0]


def test_audiences_that_were_not_on_the_page_stay_as_they_are(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    other_audience(ledger, "new")
    save(site, links, [1], [1])
    assert rows(ledger, "SELECT audience_id FROM audience_opt_outs") == []
    # Nor can one be left that has nothing to do with this person.
    ledger_of_others = rows(ledger, "INSERT INTO audiences (name) VALUES ('others') RETURNING id")[0][0]
    save(site, links, [1, ledger_of_others], [1])
    assert rows(ledger, "SELECT audience_id FROM audience_opt_outs") == []


def test_who_takes_it_back_is_written_to_again_and_may_leave_again_by_any_link(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    later = sent_again(ledger, "second")
    for leave, comes_back in ((links, later), (later, links), (links, links)):
        assert site.post(leave.unsubscribe(), EVERYTHING).status == 200
        assert wishes(ledger) == ([], ["reader1@example.org"], ["reader1@example.org"])
        save(site, comes_back, [1], [1])
        assert wishes(ledger) == ([], [], [])
        assert reachable(ledger) == 1
        # An open from before and one from after change nothing of that.
        site.get(links.pixel(), User_Agent="Thunderbird")
    for leave, comes_back in ((links, later), (links, links)):
        assert site.one_click(leave.unsubscribe()).status == 200
        assert wishes(ledger)[0] == ["reader1@example.org"]
        save(site, comes_back, [1], [1])
        assert wishes(ledger)[0] == []
    assert rows(ledger, "SELECT lifted_by FROM suppressions") == [("the recipient",)]


@pytest.mark.parametrize("reason", ["complained", "bounced", "manual"])
def test_only_the_person_s_own_wish_can_be_taken_back(ledger: Engine, site: Site, reason: str):
    links = sent(ledger, 1)
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('email', 'reader1@example.org', :reason, 'somebody')
            """),
            {"reason": reason},
        )
    page = site.get(links.preferences()).text
    assert "This page cannot change that" in page
    assert "cannot change that" in save(site, links, [1], [1])
    assert wishes(ledger)[1] == ["reader1@example.org"]


def test_everything_includes_what_comes_later(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    save(site, links, [1], [1], nothing=True)
    assert wishes(ledger)[1] == ["reader1@example.org"]
    page = site.get(links.preferences()).text
    assert 'name="nothing" value="yes" checked' in page
    assert WAS_NOTHING in page


def suppress(ledger: Engine, channel: str, key: str, reason: str, ends: str | None = None) -> None:
    rows(
        ledger,
        """
        INSERT INTO suppressions (channel, address_key, reason, source, expires_at)
        VALUES (:channel, :key, :reason, 'somebody', now() + CAST(:ends AS interval))
        ON CONFLICT (channel, address_key) DO UPDATE SET reason = excluded.reason, source = excluded.source,
            expires_at = excluded.expires_at, lifted_by = NULL
        RETURNING id
        """,
        channel=channel,
        key=key,
        reason=reason,
        ends=ends,
    )


def test_a_suppression_that_ends_does_not_stand_for_the_wish_of_who_clicks_again(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    assert site.post(links.unsubscribe(), EVERYTHING).status == 200
    save(site, links, [1], [1])
    suppress(ledger, "email", "reader1@example.org", "bounced", ends="7 days")
    assert site.post(links.unsubscribe(), EVERYTHING).status == 200
    assert rows(ledger, "SELECT reason, expires_at FROM suppressions") == [("unsubscribed", None)]


def test_a_page_that_did_not_show_it_takes_nothing_back(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET phone = '+447400000001' WHERE id = 1"))
    suppress(ledger, "whatsapp", "+447400000001", "unsubscribed")
    save(site, links, [1], [1])
    assert wishes(ledger)[1] == ["+447400000001"]
    assert site.post(links.unsubscribe(), EVERYTHING).status == 200
    save(site, links, [1], [1], stale=True)
    assert wishes(ledger)[1] == ["+447400000001", "reader1@example.org"]
    save(site, links, [1], [1])
    assert wishes(ledger)[1] == ["+447400000001"]
    assert site.post(links.preferences(), "do=save&was=else").status == 400


def test_a_wish_that_was_taken_back_does_not_revive(ledger: Engine, site: Site):
    links = sent(ledger, 1)
    assert site.post(links.unsubscribe(), EVERYTHING).status == 200
    save(site, links, [1], [1])
    with ledger.begin() as connection:  # an address that nothing was ever said of
        connection.execute(text("UPDATE contacts SET phone = '+447400000001' WHERE id = 1"))
    assert site.one_click(links.unsubscribe()).status == 200
    assert wishes(ledger)[1:] == ([], [])
