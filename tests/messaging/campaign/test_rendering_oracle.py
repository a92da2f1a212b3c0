"""Rendering, against the plain way: Jinja2 as it comes, and a message that `email` builds each time."""

import re
from collections.abc import Mapping
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import ChainableUndefined
from jinja2.sandbox import SandboxedEnvironment

from messaging.campaign.email_rendering import EmailRenderer
from messaging.campaign.rendering import Letterhead, Recipient, RenderError
from messaging.campaign.skeleton import Attachment
from messaging.fields import field_name
from messaging.tokens import LinkKey, Purpose, sign
from schemas.campaign import CampaignSpec

TOKEN = UUID("0190a3c4-5b6d-7e8f-9012-3456789abcde")
KEY = LinkKey(1, b"k" * 32)
LINK = f"https://shop.example.org/u/{sign(KEY, Purpose.UNSUBSCRIBE, TOKEN.bytes)}"
SUBJECT = 'S {{ name | default("x") }} {{ city | default("y") }}'
TEXT = """Dear {{ name | default("friend") }},

.
{{ city | default("y") }} {{ notes|d("z") }}
{{ unsubscribe_url }}"""
LONG_LINE = '<td style="x=y">cell</td>' * 40
HTML = f"""<!DOCTYPE html>
<p>Grüße, {{{{ name | default('<you>') }}}}</p>
{LONG_LINE}\x20
.
<a title="{{{{ city|d("y") }}}}" href="{{{{ unsubscribe_url }}}}">{{{{ contact["My notes"]|d("z") }}}}</a>
{{{{ notes | default('z') }}}}{{{{ city | default('') }}}}{LONG_LINE}{{{{ notes|d('') }}}}{LONG_LINE}
<p>\t
{{{{ notes|d('') }}}}"""
CONDITION = """
{% if city and notes != "x" %}<p>{{ city | upper }}</p>
<b>=</b>
{% else %}none{% endif %}
"""
FILES = (
    Attachment("price list.pdf", "application/pdf", bytes(range(256)) * 50),
    Attachment("Übersicht 客户 \U0001f600.csv", "text/csv", b"a,b\n--=_mixed\n.\n"),
    Attachment("x" * 200 + ".tar.gz", "application/gzip", b""),
)


class Campaign:
    """A campaign, and the renderer that is tried."""

    def __init__(self, sender: str, *files: Attachment, **parts: object) -> None:
        values = {"name": "x", "account": "smtp-account/x", "audience": "Our Customers", "subject": SUBJECT}
        self.spec = CampaignSpec(**(values | parts))
        self.files = files
        letterhead = Letterhead(sender, KEY)
        self.renderer = EmailRenderer(self.spec, 18, letterhead, "https://shop.example.org", files)
        shown, _, address = sender.rpartition(" ")
        self.sender = Address(shown.strip('"'), addr_spec=address.strip("<>"))

    def __repr__(self) -> str:
        return repr(self.spec)


NOTES, SHOP = "{{ notes|d('') }}", "Shop <news@example.org>"
CAMPAIGNS = [
    Campaign("news@example.org", text=TEXT),
    Campaign("Café Zürich <news@example.org>", text=TEXT, html=HTML),
    Campaign('"Shop, Inc." <news@example.org>', text=TEXT, html=HTML + CONDITION, subject_tag=True),
    Campaign(SHOP, *FILES, text="Hi {{ city|d('') }}", reply_to="Hélène <help@example.org>"),
    Campaign(SHOP, *FILES[:1], text=NOTES, html=NOTES),
    Campaign(SHOP, text="{% if notes %}{{ notes }}{% endif %}", html="x", subject=f"=?x?= {NOTES}"),
]

PIECES = st.one_of(
    st.text(st.characters(), max_size=300),  # lone surrogates too
    st.text(st.characters(max_codepoint=0x2F), max_size=40),  # control characters
    st.text(st.sampled_from(" \t\n\r=._-ax"), max_size=400),
    st.integers(60, 160).map("x".__mul__),
    st.integers(60, 160).map(lambda length: "x" * length + " "),
    st.integers(20, 90).map("é".__mul__),
    st.sampled_from(
        [
            "x\r\nBcc: eve@example.org",
            "x\n\nBody",
            "\x85\u2028\u2029\x0b\x0c",
            ".",
            "..\n.\r\n.",
            "\r",
            "\n",
            "\u202egro.elpmaxe",
            "</script><script>alert(1)</script>",
            "=?utf-8?q?hidden?=",
            "=?utf-8?b?",
            "\r\n--=_alternative--\r\n",
            "\n--=_mixed\nContent-Type: text/html\n\n<p>",
            'Doe, Jané (Q), "x" <eve@example.org>',
            'a\\"b',
            "a  b",
            "👩‍👩‍👧‍👦" * 50,
            "x" * 998,
            "x" * 5000,
            "word " * 300,
            "From here",
            "\ufeff",
            "NUL\x00",
            "{{ name }}{% if x %}",
        ]
    ),
)
VALUES = st.one_of(PIECES, st.lists(PIECES, max_size=4).map("".join))


def plainly_rendered(spec: CampaignSpec, recipient: Recipient) -> dict[str, str]:
    """Render with Jinja2 as it comes and all of the contact's values."""
    columns = {column: value for column, value in recipient.attributes.items() if value.strip()}
    values: dict[str, object] = {field_name(column): value for column, value in columns.items()}
    standard = {"name": recipient.name, "email": recipient.address, "unsubscribe_url": LINK}
    values |= {field: value for field, value in standard.items() if value and value.strip()}
    values["contact"] = columns
    rendered = {}
    for part in ("subject", "text", "html"):
        environment = SandboxedEnvironment(autoescape=part == "html", undefined=ChainableUndefined)
        rendered[part] = environment.from_string(getattr(spec, part)).render(values)
    return rendered


def plainly_built(campaign: Campaign, recipient: Recipient, rendered: Mapping[str, str]) -> EmailMessage:
    """Build the message with the email package."""
    spec, sender = campaign.spec, campaign.sender
    message = EmailMessage(policy.SMTP)
    user, _, domain = recipient.address.rpartition("@")
    message["To"] = Address(words(recipient.name or "")[:100].strip(), user, domain)
    message["Subject"] = message["Date"] = message["Message-ID"] = ""
    message["List-Unsubscribe"] = f"<{LINK}>"
    message["From"] = sender
    if spec.reply_to:
        message["Reply-To"] = Address("Hélène", addr_spec="help@example.org")
    message["List-Id"] = f"<our-customers.{sender.domain}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(mailable(rendered["text"]), cte="quoted-printable")
    if spec.html:
        message.add_alternative(mailable(rendered["html"]), subtype="html", cte="quoted-printable")
    for file in campaign.files:
        main, _, sub = file.content_type.partition("/")
        message.add_attachment(file.content, main, sub, filename=file.name)
    return message


def words(header: str) -> str:
    return re.sub("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]+", " ", header).strip(" ")


def mailable(body: str) -> str:
    body = re.sub("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\ud800-\udfff]", " ", body)
    return body.replace("\r\n", "\n").replace("\r", "\n")


def plain_name(raw: str) -> str:
    """Read a display name by RFC 2047 and 5322; Python's own parser stumbles over some."""
    raw = re.sub(r"(^|\s)<?[^<>\s]*>?$", "", raw.replace("\r\n", ""))
    if raw.startswith("=?"):
        return str(make_header(decode_header(re.sub(r"\?=\s+=\?", "?==?", raw))))
    return re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw.startswith('"') else raw


def assert_wire_is_sound(content: bytes) -> None:
    """Check the limits of RFC 5322 2.1.1, 2047 2 and 2045 6.7, by looking at the bytes."""
    assert re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", content) is None
    assert content.endswith(b"\r\n")
    head, _, _ = content.partition(b"\r\n\r\n")
    for line in head.decode().split("\r\n"):
        folds = " " in re.sub(r"^ +|^[A-Za-z-]+: *", "", line)  # after what cannot be folded
        assert len(line) <= (78 if folds else 998), line
        assert not ("=?utf-8?" in line and len(line) > 76)
        assert all(len(word) <= 75 for word in re.findall(r"=\?utf-8\?b\?[^?]*\?=", line))
        assert line.strip()
    for line in content.split(b"\r\n"):
        assert len(line) <= 998
    for part in message_from_bytes(content).walk():
        if part.is_multipart():
            continue
        lines = part.get_payload().split("\r\n")
        assert max(map(len, lines)) <= 76
        assert part["Content-Transfer-Encoding"] in {"7bit", "quoted-printable", "base64"}
        if part["Content-Transfer-Encoding"] == "quoted-printable":
            assert not any(line.endswith((" ", "\t")) for line in lines)
            assert not any(re.search("=(?![0-9A-F]{2}|$)", line) for line in lines)
            assert all(
                32 <= ord(character) <= 126 or character == "\t" for line in lines for character in line
            )


@given(campaign=st.sampled_from(CAMPAIGNS), name=st.none() | VALUES, city=VALUES, notes=VALUES)
@example(campaign=CAMPAIGNS[0], name="x\r", city="\ny\r", notes="\n\r")
@settings(max_examples=200, deadline=None)
def test_whatever_the_values_each_message_is_the_one_that_the_plain_way_makes(
    campaign: Campaign, name: str | None, city: str, notes: str
):
    spec, renderer = campaign.spec, campaign.renderer
    attributes = {"City": city, "Notes": notes, "My notes": notes, "Other": "x"}
    recipient = Recipient(TOKEN, "ada@example.org", name, None, attributes)
    rendered = plainly_rendered(spec, recipient)
    if len(words(rendered["subject"])) > 1000:
        with pytest.raises(RenderError, match="subject is longer"):
            renderer.render(recipient)
        return

    content = renderer.render(recipient).content

    assert_wire_is_sound(content)
    usual = plainly_built(campaign, recipient, rendered)
    ours = message_from_bytes(content, policy=policy.default)
    assert sorted(map(str.lower, ours.keys())) == sorted(map(str.lower, usual.keys()))
    # Not the one of `usual`: there, text that looks like an encoded word is read as one.
    assert ours["Subject"] == words(rendered["subject"]) + " [CID:18]" * spec.subject_tag
    for header in ("From", "Reply-To", "List-Unsubscribe", "List-Id", "List-Unsubscribe-Post"):
        assert ours[header] == usual[header]
    raw = message_from_bytes(content)
    assert plain_name(raw["To"]) == usual["To"].addresses[0].display_name
    assert raw["To"].endswith("ada@example.org" if "<" not in raw["To"] else "<ada@example.org>")
    theirs = message_from_bytes(usual.as_bytes(), policy=policy.default)
    parts, expected = list(ours.walk()), list(theirs.walk())
    assert [p.get_content_type() for p in parts] == [p.get_content_type() for p in expected]
    assert [part.get_filename() for part in parts if part.get_filename()] == [
        file.name for file in campaign.files
    ]
    for part, same in zip(parts, expected, strict=True):
        assert not part.defects
        assert part.get_content_disposition() == same.get_content_disposition()
        if not part.is_multipart():
            assert part.get_content_charset() == same.get_content_charset()
            assert part.get_content() == same.get_content()
