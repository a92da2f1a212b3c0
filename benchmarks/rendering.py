"""Making one message: ours against Jinja2 and the `email` package, in one process.

    python benchmarks/rendering.py

A 4 KB message of HTML and text with merge fields in nine places, as a template of merge fields alone and as
one with if/else: ours takes the same time for both, and little more when its links and a picture tell of
clicks and opens. Every way makes the messages of the same made-up people
in turns; CPU time, medians of the turns. Before that, fifty messages of ours are parsed and held against the
other's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

from jinja2.sandbox import ImmutableSandboxedEnvironment

from messaging.campaign.email_rendering import EmailRenderer
from messaging.campaign.plain_text import text_of
from messaging.campaign.rendering import Letterhead, Recipient
from messaging.tokens import LinkKey, Purpose, sign
from schemas.campaign import CampaignSpec, Tracking

SENDER = ("Example Shop", "news@shop.example.org")
PUBLIC_URL = "https://links.shop.example.org"
KEY = LinkKey(1, bytes(range(32)))
TRACKED = Tracking(opens=True, clicks=True)
SUBJECT = '{{ name | default("Hello") }}, our spring offer'
WITH_CONDITION = (Path(__file__).parent.parent / "examples" / "campaign.html").read_text()
FIELDS_ALONE = WITH_CONDITION.replace('{% if plan == "Gold" %}', "").replace("{% endif %}", "")
NAMES = ["Ada Lovelace", "Zoë Müller", "Li Na", "Åsa Öberg-Lind", "John O'Neill", "Maria da Conceição", "Jan"]
CITIES = ["Leeds", "Zürich", "São Paulo", "Kraków", "York", "Newcastle upon Tyne", "Bath"]
PLANS = ["Gold", "Silver", "free"]


def main() -> None:
    """Compare, measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=300, help="made by each way in each turn")
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    people = [person(number) for number in range(arguments.messages)]
    print("| template | way | µs per message | times as fast |\n|---|---|---:|---:|")
    for kind, html in {"merge fields alone": FIELDS_ALONE, "with if/else": WITH_CONDITION}.items():
        spec = CampaignSpec(
            name="benchmark", account="smtp-account/x", audience="customers", subject=SUBJECT, html=html
        )
        ours, usual = our_way(spec), usual_way(spec)
        for recipient in people[:50]:
            compare(ours(recipient), usual(recipient))
        tracked = our_way(spec.model_copy(update={"tracking": TRACKED}))
        ways = {"Jinja2, EmailMessage, as_bytes": usual, "ours": ours, "ours, tracked": tracked}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.turns):
            for name, way in ways.items():
                spent[name].append(microseconds(way, people))
        for way, times in spent.items():
            ratios = [a / b for a, b in zip(spent["Jinja2, EmailMessage, as_bytes"], times, strict=True)]
            print(f"| {kind} | {way} | {statistics.median(times):,.0f} | {statistics.median(ratios):.1f} |")


def person(number: int) -> Recipient:
    """Make up a contact with ten columns."""
    attributes = {f"Column {place}": f"value {number}" for place in range(8)}
    attributes |= {"City": CITIES[number % len(CITIES)], "Plan": PLANS[number % len(PLANS)]}
    return Recipient(
        token=uuid5(UUID(int=0), str(number)),
        address=f"person{number}@example.org",
        name=NAMES[number % len(NAMES)],
        phone=None,
        attributes=attributes,
    )


def microseconds(way: Callable[[Recipient], bytes], people: list[Recipient]) -> float:
    """Return the CPU time of one message."""
    started = time.process_time()
    for recipient in people:
        way(recipient)
    return (time.process_time() - started) / len(people) * 1e6


def our_way(spec: CampaignSpec) -> Callable[[Recipient], bytes]:
    """Return what sending calls."""
    letterhead = Letterhead(f"{SENDER[0]} <{SENDER[1]}>", KEY)
    renderer = EmailRenderer(spec, 18, letterhead, PUBLIC_URL)
    return lambda recipient: renderer.render(recipient).content


def usual_way(spec: CampaignSpec) -> Callable[[Recipient], bytes]:
    """Return what one writes with the two libraries, the templates compiled once."""
    plain, escaping = ImmutableSandboxedEnvironment(), ImmutableSandboxedEnvironment(autoescape=True)
    subject, html = plain.from_string(spec.subject), escaping.from_string(spec.html)
    text = plain.from_string(text_of(escaping.lex(spec.html)))
    sender = Address(SENDER[0], addr_spec=SENDER[1])
    domain = SENDER[1].partition("@")[2]
    token = partial(sign, KEY, Purpose.UNSUBSCRIBE)

    def make(recipient: Recipient) -> bytes:
        link = f"{PUBLIC_URL}/u/{token(recipient.token.bytes)}"
        values = {column.lower(): value for column, value in recipient.attributes.items()}
        values |= {"name": recipient.name, "email": recipient.address, "unsubscribe_url": link}
        message = EmailMessage(policy.SMTP)
        message["To"] = Address(recipient.name or "", addr_spec=recipient.address)
        message["Subject"] = subject.render(values)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{recipient.token.hex}@{domain}>"
        message["List-Unsubscribe"] = f"<{link}>"
        message["From"] = sender
        message["List-Id"] = f"<customers.{domain}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(text.render(values))
        message.add_alternative(html.render(values), subtype="html")
        return message.as_bytes()

    return make


def compare(ours: bytes, usual: bytes) -> None:
    """Check that both messages say the same to the same person."""
    one, other = (message_from_bytes(content, policy=policy.default) for content in (ours, usual))
    for header in ("To", "Subject", "From", "List-Unsubscribe", "List-Id"):
        if one[header].strip() != other[header].strip():
            raise SystemExit(f"{header} differs: {one[header]!r}, {other[header]!r}")
    bodies = [[part.get_content().rstrip() for part in message.iter_parts()] for message in (one, other)]
    if bodies[0] != bodies[1]:
        raise SystemExit("the bodies differ")


if __name__ == "__main__":
    main()
