"""The base of every model that crosses a wall of the house."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Schema(BaseModel):
    """A frozen model that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _or_nothing(value: object) -> object:
    return {} if value is None else value


OptionalPart = BeforeValidator(_or_nothing)
"""Makes a nested model optional: an empty entry of a file or a form is one with its defaults."""

OptionalText = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""Text that may be left empty; the Prefect UI shows it as one box, not as a choice between str and None."""
