# ruff: noqa: S607 - programs are found where the machine has them
"""What the peers are made of, fetched once into a folder outside the project."""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Postfix:
    """Postfix's test programs, and the environment in which they find their libraries."""

    sink: Path
    source: Path
    environment: dict[str, str]


def postfix(tools: Path) -> Postfix:
    """Return Postfix's test programs: the installed ones, else Debian's package unpacked, nothing set up."""
    folder = tools / "postfix"
    if installed := shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Postfix(Path(installed), Path(installed).with_name("smtp-source"), dict(os.environ))
    if not (folder / "usr" / "sbin" / "smtp-sink").exists():
        if shutil.which("apt-get") is None:
            raise SystemExit("Install Postfix: it brings smtp-sink and smtp-source")
        _say(f"unpacking Debian's postfix into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        depends = _output("apt-cache", "depends", "postfix").split()
        libraries = [name for name in depends if name.startswith("lib") and name != "libc6"]
        subprocess.run(["apt-get", "--quiet", "download", "postfix", *libraries], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    libraries = {str(file.parent) for file in (folder / "usr" / "lib").rglob("*.so*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    return Postfix(folder / "usr/sbin/smtp-sink", folder / "usr/sbin/smtp-source", environment)


def nodemailer(tools: Path) -> dict[str, str]:
    """Return the environment in which Node.js finds nodemailer and nunjucks."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise SystemExit(
            "Install Node.js with npm for the comparison with nodemailer, or leave it out: --ways"
        )
    folder = tools / "nodemailer"
    if _changed(_HERE / "nodemailer" / "package.json", folder):
        _say(f"installing nodemailer and nunjucks into {folder}")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
        _settle(_HERE / "nodemailer" / "package.json", folder)
    return {**os.environ, "NODE_PATH": str(folder / "node_modules"), "NODE_ENV": "production"}


def post_office(tools: Path) -> Path:
    """Return the Python that has django-post-office."""
    folder = tools / "post_office"
    if _changed(_HERE / "post_office" / "requirements.txt", folder):
        _say(f"installing django-post-office into {folder}")
        venv.create(folder, clear=False, with_pip=True)
        wanted = folder / "requirements.txt"
        subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", wanted], check=True
        )
        _settle(_HERE / "post_office" / "requirements.txt", folder)
    return folder / "bin" / "python"


def _changed(wanted: Path, folder: Path) -> bool:
    """Copy a list of packages into a folder; tell whether it was not installed there before."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wanted, folder)
    done = folder / f"{wanted.name}.installed"
    return not done.exists() or done.read_bytes() != wanted.read_bytes()


def _settle(wanted: Path, folder: Path) -> None:
    shutil.copy(wanted, folder / f"{wanted.name}.installed")


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def _say(what: str) -> None:
    print(what, file=sys.stderr)
