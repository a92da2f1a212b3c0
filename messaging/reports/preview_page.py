"""Messages on a page to look at: complete in itself, and nothing in a message can run or reach the page."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jinja2

from messaging.campaign.previewing import Shown
from messaging.reports.preflight import SIGNS
from schemas.preflight import Line, worst_first

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "preview_page.css").read_text(encoding="utf-8")

# A message's own styles stand in it, and its pictures are elsewhere; its frame has the rules of the page.
CONTENT_SECURITY: Final = (
    "default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline'; font-src https: data:; "
    "form-action 'none'; base-uri 'none'"
)
"""No script runs, nothing is sent; pictures and fonts of messages are loaded."""


def preview_page(
    campaign: str, messages: Sequence[Shown], lines: Sequence[Line] = (), *, hidden: bool = False
) -> str:
    """Return the page; unless the messages were made with hidden values, it holds names and addresses."""
    return _template().render(
        campaign=campaign,
        messages=messages,
        hidden=hidden,
        lines=[(SIGNS[line.verdict], line) for line in worst_first(lines)],
        style=_STYLE,
        content_security=CONTENT_SECURITY,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("preview_page.html")
