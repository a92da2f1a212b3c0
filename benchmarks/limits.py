"""Do limits hold? Four processes share an account's 200/s and 20/s to gmail.com.

    python benchmarks/limits.py                 # 60 seconds
    python benchmarks/limits.py --seconds 15

Every process has as much to send as it may, to gmail.com and to other domains, over 8 connections whose
server takes 5 ms. Counted in every window of one second, wherever it is laid: messages when their permit was
taken, by the machine's clock, and datagrams when the kernel received them on loopback. The first and last
two seconds, in which the processes do not all send, count for the most in a window, not for the use made of
the limit. Also measured: what `take` costs when nothing is limited, in CPU time. It ends with an error when a
window holds more than the limit and one, or less than 97 % of a limit was used.
"""

import argparse
import asyncio
import bisect
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ACCOUNT = "smtp-account/benchmark"
RATES = {"all": 200.0, "gmail.com": 20.0}
PROCESSES = 4
CONNECTIONS = 8
SERVER_SECONDS = 0.005
WARM_UP = 2.0
LEAST_USED = 0.97
SO_TIMESTAMPNS = 35  # Linux: the kernel's time of receipt comes with each datagram


def main() -> None:
    """Run the processes, count, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.port:
        print(json.dumps(asyncio.run(send(arguments.seconds, arguments.port))))
        return
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
        os.environ["OUTFLOW_HOME"] = folder
        os.environ.pop("OUTFLOW_DATABASE_URL", None)
        free = asyncio.run(cost_of_take())
        set_limits()
        taken, arrived = run(arguments.seconds)
    print(f"{PROCESSES} processes, {arguments.seconds:.0f} s; take without a limit: {free * 1e9:.0f} ns\n")
    print("| limit | per second | used | most in a second: taken | most in a second: arrived |")
    print("|---|---:|---:|---:|---:|")
    broken = []
    for name, rate in RATES.items():
        ours = [sorted(at for group, at in series if name in ("all", group)) for series in (taken, arrived)]
        start = ours[0][0] + WARM_UP
        end = start + arguments.seconds - 2 * WARM_UP
        used = sum(start <= at < end for at in ours[0]) / (end - start) / rate
        most = [most_in_a_second(series) for series in ours]
        print(f"| {name} | {rate:.0f} | {used:.1%} | {most[0]} | {most[1]} |")
        if used < LEAST_USED or max(most) > rate + 1:
            broken.append(name)
    if broken:
        raise SystemExit(f"not held, or not used: {', '.join(broken)}")


def set_limits() -> None:
    """Limit the account and one provider group."""
    from messaging.storage import limits
    from messaging.storage.engine import engine
    from messaging.storage.limits import Limit, account_key, domain_key

    with engine().begin() as connection:
        limits.set_limit(connection, account_key(ACCOUNT), Limit(rate=RATES["all"]))
        limits.set_limit(connection, domain_key(ACCOUNT, "gmail.com"), Limit(rate=RATES["gmail.com"]))


async def cost_of_take() -> float:
    """Return the seconds of one `take` when nothing is limited."""
    from messaging.campaign.throttle import Limits
    from messaging.storage.engine import engine

    async with Limits(engine(), 1, ACCOUNT) as limits:
        n = 200_000
        begun = time.thread_time()
        for _ in range(n):
            limits.take("example.org")
        return (time.thread_time() - begun) / n


def run(seconds: float) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Let the processes send; return what was taken and what arrived: group and time."""
    arrived: list[tuple[str, float]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.settimeout(0.5)
        done = threading.Event()
        thread = threading.Thread(target=receive, args=(receiver, arrived, done))
        thread.start()
        command = [
            sys.executable,
            __file__,
            "--seconds",
            str(seconds),
            "--port",
            str(receiver.getsockname()[1]),
        ]
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        try:
            for child in children:  # all begin, and end, together
                child.stdout.readline()
            for child in children:
                child.stdin.write("go\n")
                child.stdin.flush()
            said = [child.communicate(timeout=seconds + 60)[0] for child in children]
        finally:
            for child in children:
                child.kill()
            done.set()
            thread.join()
    taken = [(group, at) for lines in said for group, at in json.loads(lines.splitlines()[-1])]
    if len(taken) != len(arrived):
        raise SystemExit(f"{len(taken)} were sent, {len(arrived)} arrived")
    return taken, arrived


def receive(receiver: socket.socket, arrived: list[tuple[str, float]], done: threading.Event) -> None:
    """Note each datagram and when the kernel had it."""
    while True:
        try:
            data, ancillary, _, _ = receiver.recvmsg(64, 64)
        except TimeoutError:
            if done.is_set():
                return
            continue
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        arrived.append((data.decode(), seconds + nanoseconds / 1e9))


async def send(seconds: float, port: int) -> list[tuple[str, float]]:
    """Send as much as the limits let us; return group and time of each message."""
    from messaging.campaign.throttle import Limits
    from messaging.storage.engine import engine

    taken: list[tuple[str, float]] = []
    engine()
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds

    async def connection(sender: socket.socket) -> None:
        while time.monotonic() < end:
            wait = 1.0
            groups = ["gmail.com", "example.org"]
            random.shuffle(groups)
            for group in groups:
                if (due_in := limits.take(group)) == 0.0:
                    taken.append((group, time.monotonic()))
                    sender.send(group.encode())
                    await asyncio.sleep(SERVER_SECONDS)
                    break
                wait = min(wait, due_in)
            else:
                await asyncio.sleep(wait)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        async with Limits(engine(), 1, ACCOUNT) as limits:
            await asyncio.gather(*(connection(sender) for _ in range(CONNECTIONS)))
    return taken


def most_in_a_second(times: list[float]) -> int:
    """Return the most events that one second holds, wherever it begins."""
    times = sorted(times)
    return max(bisect.bisect_left(times, at + 1.0) - index for index, at in enumerate(times))


if __name__ == "__main__":
    main()
