"""A resolver on loopback with names of our own, over UDP and TCP, that can also misbehave.

A name's lines are records as in a zone file (`MX 10 mx.example.org.`) or faults: `SERVFAIL`, `REFUSED`,
`SILENT` (no answer), `NOISE` (no DNS message), each for all questions or with a number for the first so many;
and `TRUNCATED`: the records come over TCP only.
"""

import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_LONGEST_CHAIN = 24
_FAULTS = {"SERVFAIL", "REFUSED", "SILENT", "NOISE"}


def _servers(
    tcp_handler: type[socketserver.BaseRequestHandler], udp_handler: type[socketserver.BaseRequestHandler]
) -> tuple[socketserver.TCPServer, socketserver.UDPServer]:
    """Listen for both on one port, which others may have one half of."""
    while True:
        tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), tcp_handler)
        try:
            udp = socketserver.ThreadingUDPServer(tcp.server_address, udp_handler)
        except OSError:
            tcp.server_close()
            continue
        udp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return tcp, udp


@dataclass
class FakeDns:
    """What it knows, and what it was asked."""

    names: Mapping[str, Sequence[str]]
    port: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Questions by name and type; over TCP the type has `/tcp` behind it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def questions(self) -> Counter[str]:
        """Questions by name, those that only asked again over TCP apart."""
        found: Counter[str] = Counter()
        for (name, kind), n in self.asked.items():
            if not kind.endswith("/tcp"):
                found[name] += n
        return found

    @contextmanager
    def running(self) -> Iterator["FakeDns"]:
        """Answer, in threads, while the block lasts."""
        known = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire, here = self.request
                if (answer := known.answer(wire, tcp=False)) is not None:
                    here.sendto(answer, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                wire = self.rfile.read(int.from_bytes(self.rfile.read(2), "big"))
                if wire and (answer := known.answer(wire, tcp=True)) is not None:
                    self.wfile.write(len(answer).to_bytes(2, "big") + answer)

        tcp, udp = _servers(Tcp, Udp)
        with tcp, udp:
            self.port = udp.server_address[1]
            threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in (udp, tcp)]
            for thread in threads:
                thread.start()
            try:
                yield self
            finally:
                for server in (udp, tcp):
                    server.shutdown()
                for thread in threads:
                    thread.join(20)

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Answer one question."""
        query = dns.message.from_wire(wire)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        with self._lock:
            self.asked[name, kind + "/tcp" * tcp] += 1
            fault = self._fault(name)
        if fault == "SILENT":
            return None
        if fault == "NOISE":
            return b"\x00" * 7
        response = dns.message.make_response(query, recursion_available=True)
        if fault is not None:
            response.set_rcode(dns.rcode.from_text(fault))
        elif "TRUNCATED" in (self._lines(name) or ()) and not tcp:
            response.flags |= dns.flags.TC
        else:
            response.set_rcode(self._fill(response, name, kind))
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> dns.rcode.Rcode:
        """Add the records of a name, and of what it is an alias of."""
        for _ in range(_LONGEST_CHAIN):
            lines = self._lines(name)
            if lines is None:
                return dns.rcode.NXDOMAIN
            records = [line.split(" ", 1) for line in lines if line.split()[0] not in {*_FAULTS, "TRUNCATED"}]
            alias = next((value for type_, value in records if type_ == "CNAME"), None)
            values = [value for type_, value in records if type_ == kind] if alias is None else [alias]
            if values:
                response.answer.append(
                    dns.rrset.from_text(f"{name}.", 60, "IN", kind if alias is None else "CNAME", *values)
                )
            if alias is None:
                return dns.rcode.NOERROR
            name = alias.removesuffix(".")
        return dns.rcode.NOERROR  # in a circle

    def _fault(self, name: str) -> str | None:
        asked = sum(n for (other, _), n in self.asked.items() if other == name)
        for line in self._lines(name) or ():
            word, _, times = line.partition(" ")
            if word in _FAULTS and (not times or asked <= int(times)):
                return word
        return None

    def _lines(self, name: str) -> Sequence[str] | None:
        """Return a name's lines, or those of a wildcard above it; none of a name that has others below."""
        if name in self.names:
            return self.names[name]
        parent = name
        while "." in parent:
            parent = parent.partition(".")[2]
            if f"*.{parent}" in self.names:
                return self.names[f"*.{parent}"]
        return () if any(other.endswith(f".{name}") for other in self.names) else None
