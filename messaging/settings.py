"""Settings from the environment, all prefixed `OUTFLOW_`."""

import os
from functools import cache
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT_HOME = Path("/var/lib/outflow")


def default_home() -> Path:
    """Return the platform's user data folder, or `/var/lib/outflow` for root.

    As root the embedded PostgreSQL runs as another user, who must be able to reach its data.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return ROOT_HOME
    return Path(platformdirs.user_data_dir("outflow", appauthor=False))


class Settings(BaseSettings):
    """Where this installation keeps things and how the world reaches it."""

    model_config = SettingsConfigDict(env_prefix="OUTFLOW_", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=default_home, description="Folder of the embedded database and our files."
    )
    database_url: SecretStr | None = Field(
        default=None, description="A PostgreSQL of your own: postgresql://user:password@host/database."
    )
    public_url: str = Field(
        default="https://localhost:8422",
        description="Where recipients reach the unsubscribe page; must be https for one-click (RFC 8058).",
    )
    postal_address: str = Field(
        default="",
        description="The sender's, which messages must show (CAN-SPAM, 15 U.S.C. 7704(a)(5)): a preflight "
        "looks for it.",
    )
    spamassassin: str = Field(
        default="spamassassin",
        description="The program that scores a message in a preflight; empty: none is asked.",
    )


@cache
def settings() -> Settings:
    """Return the settings, read once per process."""
    return Settings()
