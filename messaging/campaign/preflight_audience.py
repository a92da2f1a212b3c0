"""Who would be written to, who not and why, and whose data the templates ask for in vain."""

from collections.abc import Iterator, Mapping
from typing import Final

from messaging.campaign.merge_fields import Values
from messaging.campaign.pieces import Template
from messaging.campaign.rendering import MAX_RENDERED, RenderError, pieces_of
from messaging.campaign.templates import Templates
from schemas.campaign import CampaignSpec
from schemas.preflight import Line, Verdict
from schemas.report import Preflight, TrackingReport

_MOST_LEFT_OUT: Final = 0.5
"""Of an audience; more is seldom meant."""
_MANY: Final = 10
_SOMETHING: Final = "1"  # a value that numbers and words can be made of


def judge_audience(spec: CampaignSpec, found: Preflight, templates: Templates) -> list[Line]:
    """Return the lines on recipients, exclusions, merge fields, attachments and tracking."""
    return [
        _audience(spec, found),
        _left_out(found),
        _merge_fields(found.empty_fields, templates),
        *_attachments(found.attachments),
        *(_tracking(found.tracking) if found.tracking is not None else []),
    ]


def _audience(spec: CampaignSpec, found: Preflight) -> Line:
    if found.state is not None and found.recipients:
        left = "1 recipient is" if found.recipients == 1 else f"{found.recipients:,} recipients are"
        said = f"it was launched before and is {found.state}: {left} left"
        return Line(what="audience", verdict=Verdict.OK, said=said)
    members = f"{_counted(found.contacts, 'contact')} of {spec.audience!r}" if spec.audience else ""
    groups = _counted(found.groups, "group") if found.groups else ""
    whole = " and ".join(filter(None, (members, groups)))
    if found.recipients:
        said = f"{_counted(found.recipients, 'recipient')}, of {whole}"
        return Line(what="audience", verdict=Verdict.OK, said=said)
    if found.state is not None:
        said = f"it was launched before and is {found.state}: nobody is left to send to"
        return Line(what="audience", verdict=Verdict.OK, said=said)
    return Line(
        what="audience",
        verdict=Verdict.WARN,
        said=f"nobody would be written to, of {whole}",
        do="import contacts into the audience, or look at who is left out and why",
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _left_out(found: Preflight) -> Line:
    total = sum(found.excluded.values())
    if not total:
        return Line(what="left out", verdict=Verdict.OK, said="nobody")
    ordered = sorted(found.excluded.items(), key=lambda item: (-item[1], item[0]))
    said = f"{total:,}: {', '.join(f'{n:,} {reason}' for reason, n in ordered[:_MANY])}"
    if total <= _MOST_LEFT_OUT * (found.contacts + found.groups):
        return Line(what="left out", verdict=Verdict.OK, said=said)
    do = "look whether that is meant"
    if "no consent" in found.excluded:
        do += "; say where consent comes from when you import: outflow import FILE --consent …"
    return Line(what="left out", verdict=Verdict.WARN, said=f"more than half, {said}", do=do)


def _merge_fields(empty: Mapping[str, int], templates: Templates) -> Line:
    used = sorted(templates.fields | templates.columns)
    if not empty:
        said = f"all have a value: {', '.join(used[:_MANY])}" if used else "none is used"
        return Line(what="merge fields", verdict=Verdict.OK, said=said)
    needed = {field: n for field, n in empty.items() if _is_needed(templates, field)}
    spared = {field: n for field, n in empty.items() if field not in needed}
    others = [f"{n:,} without {field} get what stands in for it" for field, n in spared.items()]
    if not needed:
        return Line(what="merge fields", verdict=Verdict.OK, said="; ".join(others[:_MANY]))
    first = next(iter(needed))
    lost = [f"{n:,} without {field} get no message" for field, n in needed.items()]
    return Line(
        what="merge fields",
        verdict=Verdict.WARN,
        said="; ".join([*lost, *others][:_MANY]),
        do=f'say what stands in for it: {{{{ {first} | default("…") }}}}; or fill it in, and import again',
    )


def _is_needed(templates: Templates, field: str) -> bool:
    """Tell whether a message cannot be made without a field, when all others have a value."""
    fields = {name: _SOMETHING for name in templates.fields if name != field}
    columns = {name: _SOMETHING for name in templates.columns if name != field}
    found = templates.places.found(Values(fields, columns))
    return any(_lacks(part, template, found, field) for part, template in _parts(templates))


def _lacks(part: str, template: Template, found: list[object], field: str) -> bool:
    try:
        pieces_of(part, template, found, MAX_RENDERED)
    except RenderError as error:
        return str(error).endswith(f"no value for merge field {field!r}")
    return False


def _parts(templates: Templates) -> Iterator[tuple[str, Template]]:
    yield "subject", templates.subject
    yield "text", templates.text
    if templates.html is not None:
        yield "html", templates.html
    for parameter, template in templates.parameters:
        yield parameter.part, template


def _attachments(files: Mapping[str, int]) -> list[Line]:
    if not files:
        return []
    said = ", ".join(f"{name} ({size / 1024:,.0f} KB)" for name, size in files.items())
    return [Line(what="attachments", verdict=Verdict.OK, said=said)]


def _tracking(report: TrackingReport) -> list[Line]:
    tracked = ["opens"] * report.opens
    tracked += [f"clicks on {report.links:,} link{'s' * (report.links != 1)}"] if report.links else []
    said = f"{' and '.join(tracked) or 'nothing'} will be counted"
    if report.left:
        left = "; ".join(report.left[:_MANY])
        do = "change those links, or give them the attribute data-no-track"
        return [Line(what="tracking", verdict=Verdict.WARN, said=f"{said}; not: {left}", do=do)]
    return [Line(what="tracking", verdict=Verdict.OK, said=said)]
