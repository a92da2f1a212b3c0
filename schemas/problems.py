"""The first thing that is wrong with a person's values, in a sentence."""

import difflib

from pydantic import BaseModel, ValidationError


def first_problem(model: type[BaseModel], error: ValidationError) -> str:
    """Say the first thing that is wrong with values for `model`, and how many more there are."""
    # A misspelt field comes first: it explains the field reported missing.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    places = {".".join(_place(model, problem["loc"])) for problem in problems}  # a union reports every branch
    first = problems[0]
    place = _place(model, first["loc"])
    if first["type"] == "extra_forbidden":
        text = f"unknown field {'.'.join(place)!r}{_suggestion(model, place)}"
    elif first["type"] == "missing":
        text = f"{'.'.join(place)}: is missing"
    elif first["type"] == "string_pattern_mismatch" and place[0] in model.model_fields:
        # A pattern is for machines; the field's description says the same to people.
        text = (
            f"{'.'.join(place)}: {first['input']!r} does not fit. {model.model_fields[place[0]].description}"
        )
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"{'.'.join(place)}: {message}" if place else message
    more = len(places) - 1
    return f"{text} (and {more} more)" if more else text


def _place(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Name the field, without the branch of a union that pydantic appends."""
    depth = 2 if loc and _fields_within(model, str(loc[0])) else 1
    return [str(part) for part in loc[:depth]]


def _suggestion(model: type[BaseModel], place: list[str]) -> str:
    known = _fields_within(model, place[0]) if len(place) > 1 else list(model.model_fields)
    matches = difflib.get_close_matches(place[-1], known, n=1)
    if not matches:
        return f"; known fields: {', '.join(known)}"
    return f"; did you mean {'.'.join([*place[:-1], matches[0]])!r}?"


def _fields_within(model: type[BaseModel], name: str) -> list[str]:
    """List the fields of a nested model such as pacing; empty for a plain field."""
    field = model.model_fields.get(name)
    nested = field.annotation if field else None
    return list(nested.model_fields) if isinstance(nested, type) and issubclass(nested, BaseModel) else []
