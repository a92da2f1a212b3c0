"""Where people are told what happens."""

from typing import Annotated, Self

from prefect.blocks.core import Block
from pydantic import BeforeValidator, Field, SecretStr, model_validator

from blocks.account import Mailbox
from schemas.accounts import CHANNELS
from schemas.base import OptionalText
from schemas.states import AlertKind, Channel


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _kinds(value: object) -> object:
    listed = _listed(value)
    if not isinstance(listed, list):
        return listed
    return [kind.replace("-", " ") if isinstance(kind, str) else kind for kind in listed] or list(AlertKind)


class AlertTarget(Block):
    """Somewhere that alerts go: an address of Apprise, or mailboxes written to over an account."""

    _block_type_name = "Alert Target"
    _block_type_slug = "alert-target"
    _description = (
        "Where Outflow tells people that a campaign is finished, paused, late or waits for approval, or that "
        "an account cannot go on: a mailbox, a webhook or a chat."
    )

    url: SecretStr = Field(
        default=SecretStr(""),
        title="URL",
        description="Where alerts go, as Apprise writes it: jsons://example.org/hook posts JSON to a "
        "webhook, mailtos://user:password@example.org?to=ops@example.org sends mail, slack://, msteams:// "
        "and a hundred others reach chats. Empty: they are mailed over an account.",
        examples=["jsons://example.org/hook", "mailtos://user:password@example.org?to=ops@example.org"],
    )
    account: OptionalText = Field(
        default="",
        description="Instead of a URL: the account that alerts are mailed over, as type/name of its block.",
        examples=["smtp-account/main"],
    )
    to: Annotated[list[Mailbox], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="With an account: who reads them.",
        examples=[["ops@example.org"]],
    )
    kinds: Annotated[list[AlertKind], BeforeValidator(_kinds)] = Field(
        default_factory=lambda: list(AlertKind), description="Which alerts go here; none chosen: all."
    )

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if bool(self.url.get_secret_value()) == bool(self.account):
            raise ValueError("name a url, or an account and to, not both and not neither")
        if self.account:
            if CHANNELS.get(self.account.partition("/")[0]) is not Channel.EMAIL:
                raise ValueError(f"{self.account!r} is no account that mails, as in smtp-account/main")
            if not self.to:
                raise ValueError("to is missing: name who reads what is mailed over the account")
        return self
