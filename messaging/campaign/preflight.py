"""A campaign looked at before it is sent: all that refuses it, all that is worth a look, and its messages."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Engine

from messaging.campaign.definition import read_attachments
from messaging.campaign.planning import check_campaign
from messaging.campaign.preflight_audience import judge_audience
from messaging.campaign.preflight_content import judge_content
from messaging.campaign.preflight_time import judge_time
from messaging.campaign.previewing import From, Previews, previews
from messaging.campaign.rendering import mailbox
from messaging.campaign.templates import compile_templates
from messaging.errors import InputError, MessagingError
from messaging.storage import audiences, campaigns
from messaging.storage.campaigns import CampaignFile
from schemas.campaign import CampaignSpec
from schemas.preflight import Line, Verdict
from schemas.report import Preflight
from schemas.whatsapp import WhatsAppTemplate

NO_PREVIEWS = Previews((), ())


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found."""

    campaign: str
    lines: tuple[Line, ...]
    found: Preflight | None
    """None: the campaign cannot be launched as it is."""
    previews: Previews = NO_PREVIEWS
    error: MessagingError | None = None
    """What refuses it: of several, one that names them all; None: nothing."""
    accounts: Mapping[str, str] = field(default_factory=dict)
    """What was met at each account that could be verified."""

    def with_lines(self, lines: Sequence[Line]) -> "Examined":
        """Return it with more lines."""
        return replace(self, lines=(*self.lines, *lines))

    def refused(self, errors: Sequence[MessagingError], what: str) -> "Examined":
        """Return it with what else refuses it."""
        if not errors:
            return self
        every = [*([self.error] if self.error is not None else []), *errors]
        return replace(
            self, lines=(*self.lines, *(_refusal(what, error) for error in errors)), error=together(every)
        )


def check(engine: Engine, spec: CampaignSpec, files: Sequence[CampaignFile] | None = None) -> Examined:
    """Say what refuses a campaign: everything at once, as far as one mistake does not hide another.

    Args:
        engine: Of the ledger.
        spec: The campaign, with its templates' contents.
        files: What it attaches; None: as its paths say.

    Raises:
        DatabaseError: The ledger cannot be written to.
    """
    errors: dict[str, InputError] = {}
    found: Preflight | None = None
    for step in _steps(engine, spec, files):
        try:
            step()
        except InputError as error:
            errors.setdefault(str(error), error)
    try:
        found = check_campaign(engine, spec, files=files)
    except InputError as error:
        errors.setdefault(str(error), error)
    return Examined(spec.name, (), None if errors else found).refused(list(errors.values()), "campaign")


def examine(
    engine: Engine,
    spec: CampaignSpec,
    checked: Examined,
    senders: Sequence[From],
    files: Sequence[CampaignFile] | None = None,
) -> Examined:
    """Add to what was checked all that the ledger and the messages themselves show.

    Raises:
        DatabaseError: The ledger went away.
    """
    if checked.found is None:
        return checked
    made = NO_PREVIEWS
    with engine.begin() as connection:
        planned = campaigns.find(connection, spec.name)
        if planned is not None and planned.planned_at is None and files is None:
            planned = None  # kept before: launched again, it gets the time of this definition
        lines = judge_audience(spec, checked.found, compile_templates(spec))
        lines += judge_time(connection, spec, planned)
        with contextlib.suppress(InputError):  # an account's own values, which its line tells of
            made = previews(connection, spec, senders, read_attachments(spec) if files is None else files)
    lines += [_samples(made), *judge_content(spec, [*made.people, *made.nobody])]
    examined = replace(checked, previews=made).with_lines(
        [line for line in lines if line.verdict is not Verdict.REFUSE]
    )
    for line in lines:
        if line.verdict is Verdict.REFUSE:
            examined = examined.refused([InputError(f"{line.said}: {line.do}")], line.what)
    return examined


def together(errors: Sequence[MessagingError]) -> MessagingError:
    """Return the one error, or one that names them all."""
    if len(errors) == 1:
        return errors[0]
    numbered = "; ".join(f"({number}) {error}" for number, error in enumerate(errors, 1))
    return InputError(f"{len(errors)} things are in the way: {numbered}")


def _steps(
    engine: Engine, spec: CampaignSpec, files: Sequence[CampaignFile] | None
) -> Iterator[Callable[[], object]]:
    """Yield what can be looked at by itself, so that the first mistake does not hide the others."""
    if files is None:
        yield lambda: read_attachments(spec)
    for part in ("subject", "html", "text", "template"):
        alone = _alone(spec, part)
        yield lambda alone=alone: compile_templates(alone)  # type: ignore[misc]
    if spec.reply_to:
        yield lambda: mailbox("reply_to", spec.reply_to)
    if spec.audience:
        yield lambda: _audience(engine, spec)


def _alone(spec: CampaignSpec, part: str) -> CampaignSpec:
    """Return a campaign with one of its templates; with its HTML comes a text that is not made of it."""
    words = {name: "" for name in ("subject", "html", "text") if name != part}
    if part == "html" and spec.text:
        words["text"] = "-"
    template = spec.template if part == "template" else WhatsAppTemplate()
    return spec.model_copy(update={**words, "template": template})


def _audience(engine: Engine, spec: CampaignSpec) -> None:
    with engine.begin() as connection:
        audience_id = audiences.named(connection, spec.audience)
        audiences.members(connection, audience_id, spec.where)


def _refusal(what: str, error: MessagingError) -> Line:
    return Line(what=what, verdict=Verdict.REFUSE, said=str(error), do="change it, and check again")


def _samples(made: Previews) -> Line:
    every = made.people
    problems = [f"{shown.why}: {shown.problem}" for shown in every if shown.problem]
    if problems:
        do = "give the field a default, or leave these people out with where"
        said = f"{len(problems)} of {len(every)} messages tried cannot be made: {'; '.join(problems)}"
        return Line(what="samples", verdict=Verdict.WARN, said=said, do=do)
    if not every:
        return Line(what="samples", verdict=Verdict.UNKNOWN, said="there is nobody to make a message for")
    said = f"{len(every)} message{'s' * (len(every) != 1)} made: {', '.join(shown.why for shown in every)}"
    return Line(what="samples", verdict=Verdict.OK, said=said)
