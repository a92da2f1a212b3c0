"""What a contract said of a file, as a page to keep or to pass on: it loads nothing and names nobody."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from schemas.contacts import ImportReport

_MOST_DOMAINS = 12
_OTHERS = "all others"
_FEWEST_ROWS = 5  # a domain that fewer rows share may stand for one person


def contract_html(
    report: ImportReport, summary: Mapping[str, Any], last: Mapping[str, Any] | None = None
) -> str:
    """Return the page; `summary` and `last` are `Summary.as_dict()` of this import and of the one before."""
    return _template().render(
        report=report,
        contract=report.contract,
        domains=_domains(summary, last or {}),
        compared=bool(last and last["with_email"]),
    )


def _domains(summary: Mapping[str, Any], last: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """Return the most frequent domains and all others, each with its share now and at the last import."""
    if not summary["with_email"]:
        return []
    common = [domain for domain, rows in summary["domains"].items() if rows >= _FEWEST_ROWS][:_MOST_DOMAINS]
    now, before = _shares(summary, common), _shares(last, common)
    return [(name, now[name], before.get(name)) for name in [*common, _OTHERS] if now.get(name)]


def _shares(summary: Mapping[str, Any], domains: list[str]) -> dict[str, float]:
    """Return percentages; a domain that is not listed is among the others."""
    if not summary.get("with_email"):
        return {}
    rows = {domain: summary["domains"][domain] for domain in domains if domain in summary["domains"]}
    rows[_OTHERS] = summary["with_email"] - sum(rows.values())
    return {name: 100 * number / summary["with_email"] for name, number in rows.items()}


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("contract_page.html")
