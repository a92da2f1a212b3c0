"""Machines without containers: what compose.yaml starts, each part in a network namespace of its own."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.faults.cluster import _PROGRAMS, _USER, Cluster

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]
_IP = (
    shutil.which("ip", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/sbin", "/usr/sbin"]))
    or "ip"
)
_NETWORK = "10.213.7"  # within the namespaces only
SERVER = f"{_NETWORK}.1"
SECRETS = {
    "POSTGRES_PASSWORD": "a-password-of-the-database",
    "PREFECT_AUTH": "admin:a-password-of-prefect",
    "PREFECT_ENCRYPTION_KEY": "x" * 43 + "=",
    "OUTFLOW_PUBLIC_URL": "https://mail.example.org",
}
START_SECONDS = 600  # of a server, a command or a worker, on a machine that has other work


class Machine:
    """A network namespace with an address and a host name."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        """Nothing is made yet."""
        self.name = name
        self.address = address
        self.namespace = f"outflow-{os.getpid()}-{name}"
        self._folder = folder / name
        self._folder.mkdir()
        self._started: list[subprocess.Popen[bytes]] = []

    def within(self, *command: str) -> list[str]:
        """Return a command that runs another one on this machine."""
        named = 'hostname "$0" && exec "$@"'
        return [
            _IP,
            "netns",
            "exec",
            self.namespace,
            "unshare",
            "--uts",
            "sh",
            "-c",
            named,
            self.name,
            *command,
        ]

    def environment(self, service: str) -> dict[str, str]:
        """Return what compose.yaml has in the environment of a service, and the image besides."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OUTFLOW_"))
        }
        given = COMPOSE[service].get("environment", {})
        return (
            kept
            | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
            | {"OUTFLOW_HOME": str(self._folder), "PREFECT_HOME": str(self._folder / "prefect")}
            | {name: _filled_in(str(value)) for name, value in given.items()}
        )

    def start(self, service: str) -> "subprocess.Popen[bytes]":
        """Start a service as its container does: the image's entrypoint, the command, the environment."""
        with (self._folder / f"{service}.log").open("wb") as log:
            started = subprocess.Popen(
                self.within(
                    "python", "-m", "deployments.within", *map(_filled_in, COMPOSE[service]["command"])
                ),
                env=self.environment(service),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(started)
        return started

    def remove(self) -> None:
        """End what was started here, and whatever else runs here, and remove the namespace."""
        _remove(self.namespace)
        for process in self._started:
            process.wait(60)

    def said(self, service: str) -> str:
        return (self._folder / f"{service}.log").read_text(errors="replace")

    def run(self, service: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end in the surroundings of a service."""
        return subprocess.run(
            self.within("python", "-m", "deployments.within", *command),
            env=self.environment(service),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )

    def wait_until_healthy(self, service: str, process: "subprocess.Popen[bytes]") -> None:
        """Ask as compose.yaml does."""
        [_, *check] = COMPOSE[service]["healthcheck"]["test"]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(
            self.within(*check), env=self.environment(service), capture_output=True, check=False
        ).returncode:
            assert process.poll() is None, self.said(service)
            assert time.monotonic() < deadline, self.said(service)
            time.sleep(1)


def _filled_in(text: str) -> str:
    """Put values in for variables, as docker compose does, and addresses for the names of services."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        return SECRETS[name] if how == ":?" else SECRETS.get(name, rest)

    filled_in = re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)
    return filled_in.replace("@postgres/", f"@{SERVER}/").replace("http://server:", f"http://{SERVER}:")


class NetworkedCluster(Cluster):
    """A PostgreSQL that machines reach over TCP, with a password; we by its socket."""

    def prepare(self, machine: Machine) -> None:
        """Start it on a machine, and make what the image of PostgreSQL makes."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"{rules.read_text()}\nhost all outflow {_NETWORK}.0/24 scram-sha-256\n")
        user = pwd.getpwnam(_USER)
        options = " ".join(COMPOSE["postgres"]["command"][1:])
        start = [_PROGRAMS / "pg_ctl", "-D", self._data, "start", "-w", "-l", self._data / "log"]
        with (self.folder / "start.log").open("w") as log:
            subprocess.run(
                [
                    *["nsenter", f"--net=/run/netns/{machine.namespace}"],
                    *["--setuid", str(user.pw_uid), "--setgid", str(user.pw_gid)],
                    *[*start, "-o", f"-k {self.folder} -h {SERVER} {options}"],
                ],
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
            )
        made = (ROOT / "deployments" / "databases.sql").read_text()
        self._psql(f"CREATE ROLE outflow LOGIN SUPERUSER PASSWORD '{SECRETS['POSTGRES_PASSWORD']}'")
        self._psql("CREATE DATABASE outflow OWNER outflow")
        self._psql(made)

    def _psql(self, sql: str) -> None:
        command = [
            _PROGRAMS / "psql",
            "-h",
            self.folder,
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ]
        subprocess.run(command, check=True, timeout=60, capture_output=True)

    @property
    def ledger_url(self) -> str:
        return f"postgresql://postgres:@/outflow?host={self.folder}"


@contextlib.contextmanager
def network(folder: Path, *names: str) -> Iterator[list[Machine]]:
    """Make machines on one network, the first of them in its middle; where that is not permitted, skip."""
    _skip_unless_permitted()
    machines = [
        Machine(name, SERVER if place == 0 else f"{_NETWORK}.{10 + place}", folder)
        for place, name in enumerate(names)
    ]
    middle, *others = machines
    try:
        for machine in machines:
            _ip("netns", "add", machine.namespace)
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
        _ip("-n", middle.namespace, "link", "add", "bridge", "type", "bridge")
        _ip("-n", middle.namespace, "address", "add", f"{SERVER}/24", "dev", "bridge")
        _ip("-n", middle.namespace, "link", "set", "bridge", "up")
        for place, machine in enumerate(others):
            peer = ["peer", "name", "eth0", "netns", machine.namespace]
            _ip("-n", middle.namespace, "link", "add", f"to{place}", "type", "veth", *peer)
            _ip("-n", middle.namespace, "link", "set", f"to{place}", "master", "bridge", "up")
            _ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.namespace, "link", "set", "eth0", "up")
        yield machines
    finally:
        for machine in machines:
            machine.remove()


def _skip_unless_permitted() -> None:
    if shutil.which(_IP) is None or shutil.which("nsenter") is None:
        pytest.skip("there is no iproute2, or no util-linux, on this machine")
    name = f"outflow-{os.getpid()}-may-we"
    if subprocess.run([_IP, "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make network namespaces here")
    _remove(name)


def _ip(*arguments: str) -> None:
    subprocess.run([_IP, *arguments], check=True, capture_output=True, timeout=30)


def _remove(namespace: str) -> None:
    """End whatever runs in a namespace of ours, and remove it."""
    listed = subprocess.run([_IP, "netns", "pids", namespace], capture_output=True, text=True, check=False)
    left = []
    for pid in listed.stdout.split():
        with contextlib.suppress(psutil.Error):
            left.append(psutil.Process(int(pid)))
            left[-1].send_signal(signal.SIGKILL)
    psutil.wait_procs(left, timeout=10)
    subprocess.run([_IP, "netns", "delete", namespace], capture_output=True, check=False)
