"""Which mailbox provider counts a message: providers with many domains limit them together."""

import tomllib
from importlib import resources


def _by_domain() -> dict[str, str]:
    text = resources.files(__package__).joinpath("provider_groups.toml").read_text("utf-8")
    groups: dict[str, list[str]] = tomllib.loads(text)["groups"]
    return {domain: group for group, domains in groups.items() for domain in (group, *domains)}


_GROUPS = _by_domain()


def provider_group(address: str) -> str:
    """Return the group of an address or a domain: `gmail.com` for googlemail.com, else the domain itself."""
    domain = address[address.rfind("@") + 1 :].lower()
    return _GROUPS.get(domain, domain)
