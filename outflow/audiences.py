"""Audiences: lists of contacts, and filters over them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, answer, validated

if TYPE_CHECKING:
    from schemas.audience import Changed

audience_app = typer.Typer(help="Audiences: lists of contacts, and filters over them.", no_args_is_help=True)

AudienceName = Annotated[str, typer.Argument(metavar="AUDIENCE", help="The audience's name.")]
AudienceNames = Annotated[list[str], typer.Argument(metavar="AUDIENCE…", help="Lists or filters.")]
NewList = Annotated[
    str, typer.Argument(metavar="NEW", help="The list they join; made when it does not exist.")
]
Addresses = Annotated[
    list[str],
    typer.Argument(metavar="ADDRESS…", help="E-mail addresses, or phone numbers such as +447400000001."),
]


@audience_app.command("list")
def audience_list(*, as_json: AsJson = False) -> None:
    """List the audiences with their sizes."""
    from messaging.audience.lists import list_audiences
    from messaging.reports.audiences import show_audiences
    from messaging.storage.engine import engine

    lines = list_audiences(engine())
    if as_json:
        console.show_json({"audiences": [line.model_dump(mode="json") for line in lines]})
    elif lines:
        show_audiences(lines)
    else:
        console.show("there is no audience yet: outflow import FILE --audience NAME")


@audience_app.command("show")
def audience_show(audience: AudienceName, *, as_json: AsJson = False) -> None:
    """Show an audience's definition, its figures, its columns and its last imports."""
    from messaging.audience.lists import show_audience
    from messaging.reports.audiences import show_details
    from messaging.storage.engine import engine

    answer(show_audience(engine(), audience), show_details, as_json=as_json)


@audience_app.command("count")
def audience_count(
    audience: AudienceName,
    where: Annotated[
        str,
        typer.Option(help='Only members for whom this holds: country = "DE" and plan in ("pro", "team").'),
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Count an audience's members, to try a filter before it is used."""
    from messaging.audience.lists import count_members
    from messaging.reports.audiences import show_count
    from messaging.storage.engine import engine

    answer(count_members(engine(), audience, where), show_count, as_json=as_json)


@audience_app.command("save")
def audience_save(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The audience's definition.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Store an audience's definition: a filter, or a list's description and contract."""
    from messaging.audience.lists import load_audience, save_audience
    from messaging.reports.audiences import show_saved
    from messaging.storage.engine import engine

    spec = load_audience(file)
    answer(save_audience(engine(), spec), show_saved, as_json=as_json)


@audience_app.command("add")
def audience_add(audience: AudienceName, addresses: Addresses, *, as_json: AsJson = False) -> None:
    """Put known contacts into a list; addresses of nobody are named, and the exit code is then 1."""
    from messaging.audience.lists import add_to_list
    from messaging.storage.engine import engine

    _answer_change(add_to_list(engine(), audience, addresses), "joined", as_json=as_json)


@audience_app.command("remove")
def audience_remove(audience: AudienceName, addresses: Addresses, *, as_json: AsJson = False) -> None:
    """Take contacts out of a list; they stay in the ledger."""
    from messaging.audience.lists import remove_from_list
    from messaging.storage.engine import engine

    _answer_change(remove_from_list(engine(), audience, addresses), "left", as_json=as_json)


@audience_app.command("union")
def audience_union(new: NewList, audiences: AudienceNames, *, as_json: AsJson = False) -> None:
    """Put everybody who is now in any of these audiences into a list."""
    from messaging.audience.lists import unite
    from messaging.storage.engine import engine

    _answer_change(unite(engine(), _list_name(new), audiences), "joined", as_json=as_json)


@audience_app.command("difference")
def audience_difference(
    new: NewList, audience: AudienceName, others: AudienceNames, *, as_json: AsJson = False
) -> None:
    """Put everybody who is now in the first audience and in none of the others into a list."""
    from messaging.audience.lists import subtract
    from messaging.storage.engine import engine

    _answer_change(subtract(engine(), _list_name(new), audience, others), "joined", as_json=as_json)


@audience_app.command("delete")
def audience_delete(audience: AudienceName, *, as_json: AsJson = False) -> None:
    """Delete an audience and the record of its imports; its contacts stay in the ledger."""
    from messaging.audience.lists import delete_audience
    from messaging.storage.engine import engine

    delete_audience(engine(), audience)
    if as_json:
        console.show_json({"deleted": audience})
    else:
        console.show(f"{audience!r} is deleted; its contacts stay in the ledger")


def _list_name(name: str) -> str:
    from schemas.audience import AudienceSpec

    return validated(AudienceSpec, {"name": name}).name


def _answer_change(changed: "Changed", verb: str, *, as_json: bool) -> None:
    from messaging.reports.audiences import show_changed

    answer(changed, lambda changed: show_changed(changed, verb), as_json=as_json)
    if changed.unknown:
        sys.exit(1)
