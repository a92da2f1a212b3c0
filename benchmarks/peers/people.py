"""Who is written to, and what: the same for every way of sending."""

from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

SENDER_NAME = "Example Shop"
SENDER_ADDRESS = "news@shop.example.org"
SENDER = f"{SENDER_NAME} <{SENDER_ADDRESS}>"
LIST_ID = "benchmark.shop.example.org"
PUBLIC_URL = "https://shop.example.org"

MESSAGE = Path(__file__).parent / "message"


def people(count: int) -> Iterator[dict[str, str]]:
    """Yield made-up contacts: every fourth has no city, names and addresses are their own."""
    for number in range(count):
        token = uuid5(NAMESPACE_URL, str(number))
        yield {
            "name": f"Réader {number}",
            "email": f"reader.{number}@example.org",
            "city": ("Leeds", "York", "Bath", "")[number % 4],
            "plan": ("free", "pro", "team")[number % 3],
            "unsubscribe_url": f"{PUBLIC_URL}/u/{token}",
        }


def templates() -> dict[str, str]:
    """Return the three templates; they read the same in Jinja2, nunjucks and Django."""
    return {
        "subject": (MESSAGE / "subject.txt").read_text(encoding="utf-8").strip(),
        "text": (MESSAGE / "message.txt").read_text(encoding="utf-8"),
        "html": (MESSAGE / "message.html").read_text(encoding="utf-8"),
    }
