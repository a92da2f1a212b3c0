"""Kinds of accounts, by the slug of their block: those that send, and those that tell what became of it."""

from typing import Final

from schemas.states import Channel

CHANNELS: Final = {
    "smtp-account": Channel.EMAIL,
    "gmail-account": Channel.EMAIL,
    "ses-account": Channel.EMAIL,
    "whatsapp-cloud-account": Channel.WHATSAPP,
    "whatsapp-web-account": Channel.WHATSAPP,
}

SOURCES: Final = ("imap-mailbox", "ses-queue")
"""Where bounces and events are read."""

KINDS: Final = tuple(slug.removesuffix("-account") for slug in (*CHANNELS, *SOURCES))
"""As people write them: smtp, gmail, imap-mailbox."""

SECRETS: Final = frozenset(
    {
        "access_token",
        "app_secret",
        "client_secret",
        "password",
        "proxy",
        "refresh_token",
        "secret_access_key",
        "service_account",
        "session_token",
        "token",
        "verify_token",
    }
)
"""Settings of accounts that nobody else may see, as the blocks' own fields say."""


def channel_of(account: str) -> Channel:
    """Return the channel of an account such as smtp-account/main.

    Raises:
        ValueError: There is no such kind of account; the text names those there are.
    """
    kind = account.partition("/")[0]
    if kind not in CHANNELS:
        raise ValueError(f"{kind!r} is no kind of account: {', '.join(CHANNELS)} are")
    return CHANNELS[kind]
