"""The base of every model that crosses a wall of the house."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen model that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
