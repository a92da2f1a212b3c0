"""The installed WhatsApp library, copied with one constant replaced: whose signature it trusts.

All 32 bytes of WhatsApp's root key stand once in the shared object. With ours in their place the library
believes the stand-in; nothing else of it is touched, and it runs in a process of its own.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.fakes.whatsapp_web import World

_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")


def copy_library(world: World, folder: Path) -> None:
    """Write to `folder` the library that trusts this world, and the authority of its TLS certificate."""
    [installed] = importlib.util.find_spec("neonize").submodule_search_locations
    package = folder / "neonize"
    package.mkdir()
    for entry in Path(installed).iterdir():
        if entry.suffix in {".so", ".dll", ".dylib"}:
            code = entry.read_bytes()
            assert code.count(_ROOT) == 1
            (package / entry.name).write_bytes(code.replace(_ROOT, world.root.public))
        else:
            (package / entry.name).symlink_to(entry)
    world.authority.cert_pem.write_to_path(folder / "authority.pem")


@contextlib.contextmanager
def used(folder: Path) -> Iterator[None]:
    """Let processes that start now use that library."""
    with patch.dict(os.environ, {"PYTHONPATH": str(folder), "SSL_CERT_FILE": str(folder / "authority.pem")}):
        yield
