"""Rendering: whatever the values, each message is the one that was meant."""

import pickle
import re
import tracemalloc
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.campaign.email_rendering import EmailRenderer
from messaging.campaign.rendering import Letterhead, Recipient, RenderError
from messaging.campaign.skeleton import Attachment
from messaging.errors import InputError
from messaging.tokens import LinkKey, Purpose, read
from schemas.campaign import CampaignSpec

TOKEN = UUID("0190a3c4-5b6d-7e8f-9012-3456789abcde")
KEY = LinkKey(7, bytes(range(32)))
SHOP = Letterhead("news@example.org", KEY)


def spec(**changes: object) -> CampaignSpec:
    values = {"subject": 'S {{ name | default("x") }} {{ city | default("y") }}'}
    values["html"] = '<p>{{ city | default("y") }}</p>\n.\n{{ notes | default("z") }}{{ unsubscribe_url }}'
    values |= {"name": "spring", "account": "smtp-account/demo", "audience": "Our Customers"}
    return CampaignSpec(**(values | changes))


def recipient(**changes: object) -> Recipient:
    values = {"token": TOKEN, "address": "ada@example.org", "name": "Ada", "phone": None, "attributes": {}}
    return Recipient(**(values | changes))


def renderer(
    sender: str = "Shop <news@example.org>",
    url: str = "https://shop.example.org",
    return_path: str = "",
    **changes: object,
):
    return EmailRenderer(spec(**changes), 18, Letterhead(sender, KEY, return_path), url)


def parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.default)
    assert not message.defects
    return message


def lines(body: str) -> str:
    return body.replace("\r\n", "\n").rstrip("\n")


RENDERER = renderer()


@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_name_arrives_as_it_is(name: str):
    content = RENDERER.render(recipient(name=name)).content

    raw = message_from_bytes(content)["To"].removesuffix("<ada@example.org>").strip()
    read = str(make_header(decode_header(re.sub(r"\?=\s+=\?", "?==?", raw)))) if "=?" in raw else raw
    if read.startswith('"') and "=?" not in raw:
        read = re.sub(r"\\(.)", r"\1", read[1:-1])
    assert re.sub(r"\s+", " ", read) == re.sub(r"\s+", " ", name.strip()) or not name.strip()


@given(length=st.integers(20, 900))
@settings(max_examples=60, deadline=None)
def test_list_unsubscribe_and_message_id_are_plain_whatever_their_length(length: int):
    url = "https://shop.example.org/"[: length - 1].ljust(length, "x")

    rendered = renderer(url=url, sender=f"news@{'a' * 60}.{'b' * 60}.example.org").render(recipient())

    link = re.search(rb"\r\nList-Unsubscribe: <(.*)>\r\n", rendered.content)[1].decode()
    assert read({7: KEY.key}, Purpose.UNSUBSCRIBE, link.removeprefix(f"{url.rstrip('/')}/u/")) == TOKEN
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in rendered.content
    assert f"\r\nMessage-ID: {rendered.message_id}\r\n".encode() in rendered.content
    assert all(len(line) <= 998 for line in rendered.content.split(b"\r\n"))


def test_the_headers_say_who_writes_to_whom_about_what():
    rendered = renderer(reply_to="Help <help@example.org>", subject_tag=True).render(recipient())

    message = parsed(rendered.content)
    assert message["From"] == "Shop <news@example.org>"
    assert message["Reply-To"] == "Help <help@example.org>"
    assert message["To"] == "Ada <ada@example.org>"
    assert message["Subject"] == "S Ada y [CID:18]"
    assert message["List-Id"] == "<our-customers.example.org>"
    assert message["Message-ID"] == rendered.message_id
    assert re.fullmatch(r"<[0-9a-f]{32}\.18@example\.org>", rendered.message_id)
    assert parsedate_to_datetime(message["Date"]).utcoffset().total_seconds() == 0
    assert rendered.envelope_sender == "news@example.org"


def test_each_recipient_has_a_message_id_and_keeps_it_over_tries():
    ids = {RENDERER.render(recipient(token=uuid4())).message_id for _ in range(50)}

    assert len(ids) == 50
    assert RENDERER.render(recipient()).message_id == RENDERER.render(recipient()).message_id
    assert TOKEN.hex not in RENDERER.render(recipient()).message_id  # it travels on in replies


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("news@example.org", "", "news@example.org"),
        ("Café Zürich <news@example.org>", "Café Zürich", "news@example.org"),
        ('"Shop, Inc." <news@example.org>', "Shop, Inc.", "news@example.org"),
        ("Shop, Inc. <news@example.org>", "Shop, Inc.", "news@example.org"),
        ("News <news@bücher.example.org>", "News", "news@xn--bcher-kva.example.org"),
        ("news@intranet", "", "news@intranet"),
    ],
)
def test_the_sender_may_have_a_name(sender: str, name: str, address: str):
    content = renderer(sender).render(recipient()).content

    (mailbox,) = parsed(content)["From"].addresses
    assert (mailbox.display_name, mailbox.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "bad",
    ["", "Shop", "Shop <news>", "a@b@example.org", "a@example.org\r\nBcc: e@example.org", "jörg@example.org"],
)
def test_a_sender_or_reply_to_that_is_no_address_is_refused(bad: str):
    with pytest.raises(InputError, match="account's sender"):
        renderer(bad)
    if bad:
        with pytest.raises(InputError, match="reply_to"):
            renderer(reply_to=bad)


def test_with_a_return_path_each_message_has_a_bounce_address_of_its_own():
    made = renderer(return_path="bounces@shop.example.org")

    tokens = [uuid4() for _ in range(20)]
    senders = [made.render(recipient(token=token)).envelope_sender for token in tokens]
    assert senders == [f"bounces+{token.hex}@shop.example.org" for token in tokens]
    assert parsed(made.render(recipient()).content)["From"] == "Shop <news@example.org>"


@pytest.mark.parametrize(
    ("return_path", "problem"),
    [
        ("shop", "return_path must be an address"),
        ("Shop <bounces@example.org>", "an address alone"),
        ('"a b"@example.org', "must be an address"),
        ("jörg@example.org", "must be ASCII"),
        (f"{'b' * 32}@example.org", "at most 31 characters before the @"),
        (f"b@{'d.' * 115}org", "221 in all"),
        ("b@example.org\r\nRCPT TO:<eve@example.org>", "must be an address"),
    ],
)
def test_a_return_path_that_leaves_no_room_for_the_token_is_refused(return_path: str, problem: str):
    with pytest.raises(InputError, match=problem):
        renderer(return_path=return_path)


def test_the_longest_return_path_makes_a_local_part_of_64_characters():
    rendered = renderer(return_path=f"{'b' * 31}@example.org").render(recipient())

    assert len(rendered.envelope_sender.partition("@")[0]) == 64


@pytest.mark.parametrize(
    "url", ["shop.example.org", "https://x.example/>\r\n", "https://é.example", f"https://{'x' * 900}"]
)
def test_a_public_url_that_cannot_stand_in_a_header_is_refused(url: str):
    with pytest.raises(InputError, match="OUTFLOW_PUBLIC_URL"):
        renderer(url=url)


def test_a_local_part_beyond_ascii_makes_an_smtputf8_message():
    content = RENDERER.render(recipient(address="jörg@example.org", name="Jörg")).content

    assert "\r\n <jörg@example.org>\r\n".encode() in content
    assert parsed(content)["Subject"] == "S Jörg y"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "a b@example.org",
        "a@example.org\r\nBcc: e@x.org",
        "a@b>,<e@x.org",
        "a,e@x.org",
        "a@bücher.org",
        f"a@{'b.' * 130}org",
    ],
)
def test_an_address_that_cannot_stand_in_a_header_is_refused_alone(address: str):
    with pytest.raises(RenderError, match="address"):
        RENDERER.render(recipient(address=address))


@pytest.mark.parametrize(
    ("source", "field"),
    [("{{ city }}", "city"), ('{{ contact["My City"] }}', "My City"), ("{{ city|upper }}", "city")],
)
def test_a_missing_value_names_the_field(source: str, field: str):
    with pytest.raises(RenderError, match=f"^text: no value for merge field '{field}'$"):
        renderer(text=source).render(recipient())


def test_an_error_never_holds_a_value():
    with pytest.raises(RenderError) as refused:
        renderer(text="{{ notes < 3 }}").render(recipient(attributes={"Notes": "secret"}))

    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("condition", ["", "{% if notes %}{% endif %}"])
def test_a_part_that_grows_too_long_is_refused_before_it_takes_the_memory(condition: str):
    rendering = renderer(html=condition + "{{ notes }}" * 18_000, text="x")
    tracemalloc.start()

    with pytest.raises(RenderError, match=r"^html: is longer than 1,000,000 characters$"):
        rendering.render(recipient(attributes={"Notes": "&" * 32_000}))  # 2.9 GB when escaped

    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_an_empty_subject_is_refused():
    with pytest.raises(RenderError, match="subject is empty"):
        renderer(subject="{% if city %}x{% endif %}").render(recipient())


def test_html_in_a_value_is_escaped_in_html_and_raw_in_text():
    content = renderer(text="{{ city }}").render(recipient(attributes={"City": '<b>"R&D"</b>'})).content

    text, html = (lines(part.get_content()) for part in parsed(content).iter_parts())
    assert text == '<b>"R&D"</b>'
    assert "<p>&lt;b&gt;&#34;R&amp;D&#34;&lt;/b&gt;</p>" in html


def test_a_campaign_of_text_alone_is_one_plain_part():
    message = parsed(renderer(html=None, text="Hi\n.\nthere").render(recipient()).content)

    assert message.get_content_type() == "text/plain"
    assert message["Content-Transfer-Encoding"] == "7bit"
    assert message.get_content() == "Hi\r\n.\r\nthere\r\n"


def test_long_plain_subjects_fold_at_spaces():
    subject = "  ".join(["spring"] * 60)

    content = renderer(subject=subject).render(recipient()).content

    (raw,) = re.findall(rb"Subject: .*?(?=\r\n\S)", content, re.DOTALL)
    assert b"=?" not in raw
    assert all(len(line) <= 78 for line in raw.split(b"\r\n"))
    assert parsed(content)["Subject"] == subject


@pytest.mark.parametrize(
    ("audience", "label"),
    [
        ("Our Customers", "our-customers"),
        ("Größe", "grosse"),
        ("!", "list"),
        ("x" * 200, "x" * 63),
        ("客户", r"[0-9a-f]{8}"),
        ("客户 VIP", r"vip-[0-9a-f]{8}"),
    ],
)
def test_the_list_has_a_name_of_its_own_in_ascii(audience: str, label: str):
    message = parsed(renderer(audience=audience).render(recipient()).content)

    assert re.fullmatch(rf"<{label}\.example\.org>", message["List-Id"])


@pytest.mark.parametrize("name", ["word " * 20, "a.b " * 25, 'a "b" ' * 16, "x" * 100])
def test_a_long_name_is_folded_where_it_has_spaces(name: str):
    content = RENDERER.render(recipient(name=name)).content

    lines_of_to = content.partition(b"\r\nSubject")[0].split(b"\r\n")
    assert all(len(line) <= 78 for line in lines_of_to) == (" " in name)
    assert parsed(content)["To"].addresses[0].display_name == name.strip()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Hi {{ city|d('') }}", "7bit"),
        ("x" * 76, "7bit"),
        ("x" * 77, "quoted-printable"),
        ("x" * 70 + "{{ name }}{{ name }}{{ name }}", "quoted-printable"),
        ("Grüße", "quoted-printable"),
        ("--=_alternative", "quoted-printable"),
        ("a = b", "7bit"),
    ],
)
def test_short_plain_lines_stay_as_they_are(text: str, encoding: str):
    message = parsed(renderer(html=None, text=text).render(recipient()).content)

    assert message["Content-Transfer-Encoding"] == encoding


def test_no_value_can_end_a_part():
    end = "\r\n--=_alternative--\r\n--=_mixed--\r\n"
    files = (Attachment("a.txt", "text/plain", end.encode()),)
    rendering = EmailRenderer(spec(text="{{ city }}"), 18, SHOP, "https://shop.example.org", files)

    content = rendering.render(recipient(attributes={"City": end})).content

    assert re.findall(rb"(?m)^--=_.*$", content) == [
        *(b"--=_mixed\r", b"--=_alternative\r", b"--=_alternative\r", b"--=_alternative--\r"),
        *(b"--=_mixed\r", b"--=_mixed--\r"),
    ]


def test_a_message_that_conditions_make_is_the_one_of_the_same_pieces_without():
    html = "<p>{{ name }}</p>\n" + "<td style='x'>" * 50 + "{{ city }}\n<p>\n{{ unsubscribe_url }}\n"
    other = html.replace("<p>{{", "{% if name %}<p>{{ ") + "{% endif %}"
    to = recipient(attributes={"City": "Zürich"})

    contents = [renderer(text="x", html=source).render(to).content for source in (html, other)]

    one, two = ([part.get_content() for part in parsed(content).iter_parts()] for content in contents)
    assert one == two


@given(
    name=st.text(min_size=1, max_size=255).map(str.strip).filter(lambda name: name.strip(".")),
    content=st.binary(max_size=300),
)
@settings(max_examples=100, deadline=None)
def test_a_file_arrives_under_its_name_or_is_refused(name: str, content: bytes):
    file = Attachment(name, "application/octet-stream", content)
    if re.search(
        "[/\\\\\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", name
    ):
        with pytest.raises(InputError, match="no file name"):
            EmailRenderer(spec(), 18, SHOP, "https://shop.example.org", [file])
        return

    made = EmailRenderer(spec(), 18, SHOP, "https://shop.example.org", [file]).render(recipient())

    (attached,) = parsed(made.content).iter_attachments()
    assert attached.get_filename() == name
    assert attached.get_content() == content
    assert all(len(line) <= 78 or line[0] != 32 for line in attached.as_bytes().split(b"\r\n"))


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (Attachment("", "text/plain", b""), "no file name"),
        (Attachment("..", "text/plain", b""), "no file name"),
        (Attachment("x" * 256, "text/plain", b""), "no file name"),
        (Attachment("../../etc/passwd", "text/plain", b""), "no file name"),
        (Attachment("x\r\nBcc: eve@example.org", "text/plain", b""), "no file name"),
        (Attachment("x.eml", "message/rfc822", b""), "its type"),
        (Attachment("x", "multipart/mixed", b""), "its type"),
        (Attachment("x", "text", b""), "its type"),
        (Attachment("x", "text/plain\r\nBcc: eve@example.org", b""), "its type"),
        (Attachment("x", "text/plain", bytes(20_000_001)), "20,000,001 bytes"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_before_anything_is(file: Attachment, problem: str):
    with pytest.raises(InputError, match=problem):
        EmailRenderer(spec(), 18, SHOP, "https://shop.example.org", [file])
