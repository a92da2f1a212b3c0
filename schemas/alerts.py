"""Alert targets as they are shown: what leads there stays secret."""

from schemas.base import Schema
from schemas.states import AlertKind


class AlertTargetShown(Schema):
    """Where alerts go, without addresses."""

    name: str
    service: str
    """As in mailtos or jsons; empty: they are mailed over an account."""
    account: str
    """As in smtp-account/main; empty: they go to a service."""
    kinds: list[AlertKind]

    @property
    def sentence(self) -> str:
        """All of it in a line."""
        every = set(self.kinds) == set(AlertKind)
        kinds = "every alert" if every else f"alerts of kind {', '.join(self.kinds)}"
        return f"{self.name}: {kinds}, by {self.service or f'mail over {self.account}'}"
