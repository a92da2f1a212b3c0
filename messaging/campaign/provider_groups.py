"""Which mailbox provider counts a message: providers with many domains limit them together."""

import tomllib
from importlib import resources
from typing import Final

WHATSAPP: Final = "whatsapp"
_JID_SERVERS: Final = ("s.whatsapp.net", "g.us")  # of people and groups; numbers in E.164 have none


def _by_domain() -> dict[str, str]:
    text = resources.files(__package__).joinpath("provider_groups.toml").read_text("utf-8")
    groups: dict[str, list[str]] = tomllib.loads(text)["groups"]
    by_domain = {domain: group for group, domains in groups.items() for domain in (group, *domains)}
    return by_domain | dict.fromkeys(_JID_SERVERS, WHATSAPP)


_GROUPS = _by_domain()


def provider_group(address: str) -> str:
    """Return the group of an address or a domain: `gmail.com` for googlemail.com, else the domain itself.

    All who are reached over WhatsApp are one group, by number or by JID.
    """
    domain = address[address.rfind("@") + 1 :].lower()
    if domain[:1] == "+":  # no domain begins so
        return WHATSAPP
    return _GROUPS.get(domain, domain)
