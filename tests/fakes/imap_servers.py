"""IMAP servers of others on loopback, and a wire to them that breaks."""

import contextlib
import imaplib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from imapclient import IMAPClient

HOST = "127.0.0.1"
USER, PASSWORD = "bounces", "made-up-secret"
DOVECOT = shutil.which("dovecot") or "/usr/sbin/dovecot"
_PATIENCE = 30.0
_NOBODY = 65534  # Dovecot keeps no mail for root

needs_dovecot = pytest.mark.skipif(
    not Path(DOVECOT).exists() and not os.environ.get("CI"),
    reason="Dovecot is not installed: apt-get install dovecot-imapd",
)


@dataclass(frozen=True, slots=True)
class ImapServer:
    """A running server."""

    port: int
    tls_port: int = 0

    def client(self, user: str = USER, password: str = PASSWORD) -> IMAPClient:
        """Log in as a mail program does."""
        client = IMAPClient(HOST, self.port, ssl=False, timeout=_PATIENCE)
        client.login(user, password)
        return client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        assert server.poll() is None, f"{server.args[0]} ended with {server.returncode}"
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            imaplib.IMAP4(HOST, port, timeout=_PATIENCE).logout()
            return
        assert time.monotonic() < deadline, f"{server.args[0]} does not answer"
        time.sleep(0.1)


@contextlib.contextmanager
def pymap() -> Iterator[ImapServer]:
    """Run pymap, with one user whose folders are in memory."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("pymap")), "--host", HOST, "--port", str(port),
        "dict", "--demo-user", USER, "--demo-password", PASSWORD,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield ImapServer(port)
        finally:
            server.kill()


@contextlib.contextmanager
def dovecot(ca: trustme.CA) -> Iterator[ImapServer]:
    """Run Dovecot, where every user has the same password, with STARTTLS and TLS by certificates of `ca`."""
    folder = Path(tempfile.mkdtemp(prefix="outflow-dovecot-"))
    port, tls_port = free_port(), free_port()
    try:
        folder.chmod(0o755)
        for name in ("run", "log", "mail"):
            (folder / name).mkdir()
        certificate = ca.issue_cert(HOST, "localhost")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        for number, pem in enumerate(certificate.cert_chain_pems):
            pem.write_to_path(str(folder / "cert.pem"), append=number > 0)
        owner = os.geteuid() or _NOBODY
        group = os.getegid() or _NOBODY
        if os.geteuid() == 0:
            os.chown(folder / "mail", owner, group)
        (folder / "dovecot.conf").write_text(_dovecot_conf(folder, port, tls_port, owner, group))
        command = [DOVECOT, "-F", "-c", str(folder / "dovecot.conf")]
        with subprocess.Popen(command, start_new_session=True) as server:
            try:
                _wait_for(port, server)
                yield ImapServer(port, tls_port)
            finally:
                server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(_PATIENCE)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dovecot_conf(folder: Path, port: int, tls_port: int, owner: int, group: int) -> str:
    text = f"""
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log/dovecot.log
protocols = imap
listen = {HOST}
mail_location = maildir:{folder}/mail/%u
first_valid_uid = {owner}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={folder}/mail/%u
}}
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
auth_failure_delay = 0
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
"""
    if os.geteuid() == 0:
        return text
    login = (
        f"default_internal_user = {owner}\ndefault_internal_group = {group}\ndefault_login_user = {owner}\n"
    )
    return (
        text
        + login
        + "".join(f"service {name} {{\n  chroot =\n}}\n" for name in ("imap-login", "anvil", "stats"))
    )


@dataclass
class CuttingWire:
    """A TCP proxy that breaks connections once so many bytes of answers have passed."""

    target: int
    cuts: list[int] = field(default_factory=list)
    """For one connection after the other, after how many bytes; those that follow are not cut."""
    port: int = 0
    opened: int = 0
    cut: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator["CuttingWire"]:
        with socket.create_server((HOST, 0)) as listener:
            self.port = listener.getsockname()[1]
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield self
            finally:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                for thread in (accepting, *self._threads):
                    thread.join(_PATIENCE)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            limit = self.cuts[self.opened] if self.opened < len(self.cuts) else None
            self.opened += 1
            try:
                far = socket.create_connection((HOST, self.target), _PATIENCE)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            thread = threading.Thread(target=self._carry, args=(near, far, limit))
            thread.start()
            self._threads.append(thread)

    def _carry(self, near: socket.socket, far: socket.socket, limit: int | None) -> None:
        up = threading.Thread(target=_pump, args=(near, far))
        up.start()
        with near, far:
            if _pump(far, near, limit):
                self.cut += 1
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            up.join(_PATIENCE)


def _pump(source: socket.socket, sink: socket.socket, limit: int | None = None) -> bool:
    """Carry bytes until an end closes, or the limit is reached, which is said."""
    passed = 0
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            if limit is not None and passed + len(data) > limit:
                sink.sendall(data[: limit - passed])
                return True
            passed += len(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    return False
