"""Amazon SES, version 2 of its API: every request is held against the service's own description in botocore.

It answers what Outflow asks: SendEmail with raw content, GetAccount, GetEmailIdentity, configuration sets and
the account's suppression list. Signatures (SigV4) are computed anew with the secret of the key they name.
Its own answers are held against the description too.

    python tests/fakes/ses.py [PORT]
"""

import asyncio
import base64
import contextlib
import email.policy
import itertools
import json
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

HOST = "127.0.0.1"
REGION = "eu-west-1"
KEY_ID = "AKIAFAKEFAKEFAKE7EXA"
SECRET = "made-up/secret+of-forty-characters-000000"
SIMULATOR = "simulator.amazonses.com"

_MODEL = ServiceModel(Loader().load_service_model("sesv2", "service-2"), "sesv2")
_OPERATIONS = [_MODEL.operation_model(name) for name in _MODEL.operation_names]
_LONGEST_LINE = 1000  # RawMessage: "The length of any single line of text in the message can't exceed 1,000"
_TAG = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LONGEST_TAG = 256


class Refusal(Exception):
    """An error answer, as SES words it."""

    def __init__(
        self, code: str, message: str, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done with a request instead of the usual."""

    refusal: Refusal | None = None
    body: bytes | None = None
    """Sent as it is, with `status`, and nothing is done: what a load balancer says when SES does not."""
    status: int = 503
    after_seconds: float = 0.0
    silent: bool = False
    """The request is carried out and not answered."""
    hangs_up: bool = False
    """After the answer, or in its place when `silent`."""


@dataclass(slots=True)
class Sent:
    """A message that SES took."""

    message_id: str
    recipients: list[str]
    tags: dict[str, str]
    configuration_set: str | None
    feedback: str | None
    from_parameter: str | None
    content: bytes
    mime: EmailMessage

    @property
    def simulated(self) -> str | None:
        """What the mailbox simulator does with it: success, bounce, complaint, ooto, suppressionlist."""
        local, _, domain = self.recipients[0].lower().partition("@")
        return local.partition("+")[0] if domain == SIMULATOR else None


@dataclass
class FakeSes:
    """One account in one region; change what it holds while it runs."""

    keys: dict[str, str] = field(default_factory=lambda: {KEY_ID: SECRET})
    region: str = REGION
    production: bool = True
    sending_enabled: bool = True
    enforcement: str = "HEALTHY"
    rate: float = 14.0
    per_day: float = 50_000.0
    sent_before: int = 0
    identities: dict[str, bool] = field(
        default_factory=lambda: {"shop.example.org": True, "news@example.com": True}
    )
    """Addresses and domains, and whether they are verified."""
    configuration_sets: dict[str, bool] = field(default_factory=lambda: {"outflow": True})
    """And whether sending with them is enabled."""
    destinations: dict[str, bool] = field(default_factory=lambda: {"to-sns": True})
    """Where events of every configuration set go, and whether they do."""
    suppressed: dict[str, str] = field(default_factory=dict)
    """Address to reason; the list keeps letters as they came and compares them without case."""
    largest_page: int = 1000
    actions_per_second: float | None = None
    """All but SendEmail: more often is refused, as by SES, which takes one a second."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """By the name of the operation."""
    denied: set[str] = field(default_factory=set)
    """Operations that the key's policy does not allow."""
    on_sent: Callable[[Sent], None] = lambda _: None
    keeps: bool = True
    """Off: messages are counted only."""
    sent: list[Sent] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by the name of the operation, refused ones too."""
    connections: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "SendEmail": self._send_email,
            "GetAccount": self._get_account,
            "GetEmailIdentity": self._get_email_identity,
            "GetConfigurationSetEventDestinations": self._get_destinations,
            "GetConfigurationSet": self._get_configuration_set,
            "PutSuppressedDestination": self._put_suppressed,
            "GetSuppressedDestination": self._get_suppressed,
            "DeleteSuppressedDestination": self._delete_suppressed,
            "ListSuppressedDestinations": self._list_suppressed,
        }
        self._numbers = itertools.count(1)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._last_action = 0.0

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self.tls else ''}://{HOST}:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["FakeSes"]:
        """Listen; on exit all connections are cut."""
        server = await asyncio.start_server(self._serve, HOST, port, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            for handler in self._handlers:
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    # HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        self._handlers.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request = _Request.of(head)
                request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
                if not await self._handle(request, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client closed, or we are told to stop
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()
            self._writers.discard(writer)
            self._handlers.discard(task)

    async def _handle(self, request: "_Request", writer: asyncio.StreamWriter) -> bool:
        """Answer one request; say whether the connection stays open."""
        operation, labels = _operation(request)
        fault = Fault()
        headers: dict[str, str] = {}
        try:
            if operation is None or operation.name not in self._operations:
                _refuse("UnknownOperationException", "no such operation", HTTPStatus.NOT_FOUND)
            self.asked[operation.name] += 1
            fault = self.faults.get(operation.name, fault)
            self._admit(request, operation.name, fault)
            parameters = _parameters(operation, request, labels)
            status, body = (
                HTTPStatus.OK,
                b"" if fault.body is not None else self._answer(operation, parameters),
            )
        except Refusal as refusal:
            status, body = refusal.status, json.dumps({"message": refusal.message}).encode()
            headers = {"x-amzn-ErrorType": refusal.code, **refusal.headers}
        if fault.body is not None:
            status, body, headers = fault.status, fault.body, {}
        if fault.after_seconds:
            await asyncio.sleep(fault.after_seconds)
        if fault.silent and not fault.hangs_up:
            await asyncio.Event().wait()
        if not fault.silent:
            writer.write(_response(status, body, headers))
            await writer.drain()
        return not fault.hangs_up

    # Rules

    def _admit(self, request: "_Request", operation: str, fault: Fault) -> None:
        if fault.refusal is not None:
            raise fault.refusal
        self._authorise(request)
        if operation in self.denied:
            who = "arn:aws:iam::123456789012:user/news"
            _refuse(
                "AccessDeniedException", f"User: {who} is not authorized to perform: ses:{operation}", 403
            )
        now = asyncio.get_running_loop().time()
        if operation != "SendEmail" and self.actions_per_second is not None:
            if now - self._last_action < 1 / self.actions_per_second:
                _refuse("TooManyRequestsException", "Rate exceeded", HTTPStatus.TOO_MANY_REQUESTS)
            self._last_action = now

    def _authorise(self, request: "_Request") -> None:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        given = dict(part.split("=", 1) for part in rest.replace(" ", "").split(","))
        key_id, _, scope = given["Credential"].partition("/")
        if key_id not in self.keys:
            raise Refusal(
                "UnrecognizedClientException", "The security token included in the request is invalid.", 403
            )
        date, region, service, _ = scope.split("/")
        if (region, service) != (self.region, "ses"):
            raise Refusal(
                "SignatureDoesNotMatch",
                f"Credential should be scoped to a valid region, not {region!r}.",
                403,
            )
        signed = given["SignedHeaders"].split(";")
        again = AWSRequest(
            method=request.method,
            url=f"http://{request.headers['host']}{request.target}",
            headers={name: request.headers[name] for name in signed},
            data=request.body,
        )
        again.context["timestamp"] = request.headers["x-amz-date"]
        signer = SigV4Auth(Credentials(key_id, self.keys[key_id]), service, region)
        string = signer.string_to_sign(again, signer.canonical_request(again))
        if signer.signature(string, again) != given["Signature"] or not again.context["timestamp"].startswith(
            date
        ):
            raise Refusal(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method.",
                403,
            )

    def _verified(self, address: str) -> bool:
        domain = address.lower().rpartition("@")[2]
        labels = domain.split(".")
        domains = [".".join(labels[place:]) for place in range(len(labels) - 1)]
        return any(self.identities.get(name, False) for name in [address.lower(), *domains])

    # Operations

    def _answer(self, operation: Any, parameters: dict[str, Any]) -> bytes:
        answer = self._operations[operation.name](parameters)
        if operation.output_shape is not None:
            report = ParamValidator().validate(answer, operation.output_shape)
            if report.has_errors():
                raise AssertionError(report.generate_report())
        return json.dumps(answer, default=lambda when: when.timestamp()).encode()

    def _send_email(self, given: dict[str, Any]) -> dict[str, Any]:
        if not self.sending_enabled:
            raise Refusal("SendingPausedException", "Sending paused for account 123456789012.")
        recipients = [address for kind in given.get("Destination", {}).values() for address in kind]
        for address in recipients:
            _check_address(address)
        tags = {tag["Name"]: tag["Value"] for tag in given.get("EmailTags", [])}
        for word in itertools.chain(*tags.items()):
            if not word or not set(word) <= _TAG or len(word) > _LONGEST_TAG:
                raise Refusal("BadRequestException", f"Invalid tag <{word}>: only letters, digits, _ and -.")
        name = given.get("ConfigurationSetName")
        if name is not None and name not in self.configuration_sets:
            raise Refusal("NotFoundException", f"Configuration set <{name}> does not exist.", 404)
        content = given["Content"]["Raw"]["Data"]
        mime = _parsed(content)
        [(_, header_from)] = getaddresses(mime.get_all("From", []))
        sender = given.get("FromEmailAddress", header_from)
        named = [sender, given.get("FeedbackForwardingEmailAddress", sender)]
        if not self.production:
            named += [to for to in recipients if not to.lower().endswith(f"@{SIMULATOR}")]
        if failed := [address for address in dict.fromkeys(named) if not self._verified(address)]:
            raise Refusal(
                "MessageRejected",
                "Email address is not verified. The following identities failed the check in region "
                f"{self.region.upper()}: {', '.join(failed)}",
            )
        number = next(self._numbers)
        sent = Sent(
            message_id=f"0102019{number:09x}-3f1ab2cd-0000-4000-8000-{number:012x}-000000",
            recipients=recipients,
            tags=tags,
            configuration_set=name,
            feedback=given.get("FeedbackForwardingEmailAddress"),
            from_parameter=given.get("FromEmailAddress"),
            content=content,
            mime=mime,
        )
        if self.keeps:
            self.sent.append(sent)
        self.on_sent(sent)
        return {"MessageId": sent.message_id}

    def _get_account(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": self.enforcement,
            "ProductionAccessEnabled": self.production,
            "SendQuota": {
                "Max24HourSend": self.per_day,
                "MaxSendRate": self.rate,
                "SentLast24Hours": float(self.sent_before + self.asked["SendEmail"]),
            },
            "SendingEnabled": self.sending_enabled,
            "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
        }

    def _get_email_identity(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["EmailIdentity"].lower()
        if name not in self.identities:
            raise Refusal("NotFoundException", f"Email identity {name} does not exist.", 404)
        verified = self.identities[name]
        return {
            "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
            "FeedbackForwardingStatus": True,
            "VerifiedForSendingStatus": verified,
            "VerificationStatus": "SUCCESS" if verified else "PENDING",
        }

    def _get_configuration_set(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["ConfigurationSetName"]
        if name not in self.configuration_sets:
            raise Refusal("NotFoundException", f"Configuration set <{name}> does not exist.", 404)
        return {
            "ConfigurationSetName": name,
            "SendingOptions": {"SendingEnabled": self.configuration_sets[name]},
        }

    def _get_destinations(self, given: dict[str, Any]) -> dict[str, Any]:
        self._get_configuration_set(given)
        return {
            "EventDestinations": [
                {
                    "Name": name,
                    "Enabled": enabled,
                    "MatchingEventTypes": ["BOUNCE", "COMPLAINT", "DELIVERY"],
                    "SnsDestination": {"TopicArn": f"arn:aws:sns:{self.region}:123456789012:outflow"},
                }
                for name, enabled in self.destinations.items()
            ]
        }

    def _put_suppressed(self, given: dict[str, Any]) -> dict[str, Any]:
        address = given["EmailAddress"]
        _check_address(address)
        self.suppressed.pop(self._suppressed(address) or "", None)
        self.suppressed[address] = given["Reason"]
        return {}

    def _get_suppressed(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"SuppressedDestination": self._summary(self._known(given["EmailAddress"]))}

    def _delete_suppressed(self, given: dict[str, Any]) -> dict[str, Any]:
        del self.suppressed[self._known(given["EmailAddress"])]
        return {}

    def _list_suppressed(self, given: dict[str, Any]) -> dict[str, Any]:
        reasons = given.get("Reasons", ["BOUNCE", "COMPLAINT"])
        found = [address for address, reason in self.suppressed.items() if reason in reasons]
        begin = int(given.get("NextToken", "0"))
        end = begin + min(given.get("PageSize", self.largest_page), self.largest_page)
        page = [self._summary(address) for address in found[begin:end]]
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"SuppressedDestinationSummaries": page, **more}

    def _suppressed(self, address: str) -> str | None:
        return next((known for known in self.suppressed if known.lower() == address.lower()), None)

    def _known(self, address: str) -> str:
        if (known := self._suppressed(address)) is None:
            raise Refusal("NotFoundException", "Email address does not exist on your suppression list.", 404)
        return known

    def _summary(self, address: str) -> dict[str, Any]:
        when = datetime(2026, 11, 1, tzinfo=UTC)
        return {"EmailAddress": address, "Reason": self.suppressed[address], "LastUpdateTime": when}


@dataclass(slots=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @classmethod
    def of(cls, head: bytes) -> "_Request":
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines if line)
        return cls(method, target, {name.lower(): value.strip() for name, _, value in pairs})


def _refuse(code: str, message: str, status: int) -> NoReturn:
    raise Refusal(code, message, status)


def _response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}",
        "x-amzn-RequestId: 00000000-0000-4000-8000-000000000000",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _operation(request: _Request) -> tuple[Any, dict[str, str]]:
    """Return the operation that a request is for, and what stands in its path."""
    asked = urlsplit(request.target).path.split("/")
    for operation in _OPERATIONS:
        parts = operation.http["requestUri"].partition("?")[0].split("/")
        if operation.http["method"] != request.method or len(parts) != len(asked):
            continue
        pairs = list(zip(parts, asked, strict=True))
        if all(part == word or part.startswith("{") for part, word in pairs):
            return operation, {part[1:-1]: unquote(word) for part, word in pairs if part.startswith("{")}
    return None, {}


def _parameters(operation: Any, request: _Request, labels: dict[str, str]) -> dict[str, Any]:
    """Read a request as the service's description says, and refuse what does not fit it."""
    given: dict[str, Any] = json.loads(request.body or b"{}")
    members = operation.input_shape.members
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(urlsplit(request.target).query):
        query.setdefault(name, []).append(value)
    for name, shape in members.items():
        wire_name = shape.serialization.get("name", name)
        if shape.serialization.get("location") == "uri":
            given[name] = labels[wire_name]
        elif shape.serialization.get("location") == "querystring" and wire_name in query:
            values = query[wire_name]
            given[name] = values if shape.type_name == "list" else _number_or_text(shape, values[0])
    given = _unpacked(given, operation.input_shape)
    report = ParamValidator().validate(given, operation.input_shape)
    if report.has_errors():
        raise Refusal("BadRequestException", report.generate_report())
    return given


def _number_or_text(shape: Shape, value: str) -> int | str:
    return int(value) if shape.type_name in {"integer", "long"} else value


def _unpacked(value: Any, shape: Shape) -> Any:
    """Take blobs out of their base64 and look for members that the description does not know."""
    if shape.type_name == "structure":
        if unknown := value.keys() - shape.members.keys():
            raise Refusal("BadRequestException", f"unknown members {sorted(unknown)} in {shape.name}")
        return {name: _unpacked(part, shape.members[name]) for name, part in value.items()}
    if shape.type_name == "list":
        return [_unpacked(part, shape.member) for part in value]
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        raise Refusal("BadRequestException", f"{value!r} is none of {shape.enum}")
    return value


def _check_address(address: str) -> None:
    local, at, domain = address.rpartition("@")
    if not at:
        raise Refusal("BadRequestException", "Missing final '@domain'")
    if not local:
        raise Refusal("BadRequestException", "Missing local name")
    for part, name in ((local, "Local address"), (domain, "Domain")):
        if not part.isascii() or not part.isprintable() or " " in part:
            raise Refusal("BadRequestException", f"{name} contains control or whitespace")


def _parsed(content: bytes) -> EmailMessage:
    """Parse a raw message and hold it against what SES asks of one."""
    mime = email.message_from_bytes(content, policy=email.policy.SMTP)
    if not content.isascii():
        raise Refusal("BadRequestException", "the content is not 7-bit ASCII")
    if b"\r\n\r\n" not in content or max(map(len, content.split(b"\r\n"))) >= _LONGEST_LINE:
        raise Refusal("BadRequestException", "no empty line after the header, or a line that is too long")
    if len(mime.get_all("From", [])) != 1:
        raise Refusal("BadRequestException", "Missing required header 'From'.")
    return mime


async def main() -> None:
    """Serve until killed, counting messages and keeping none; the port is the first line printed."""
    fake = FakeSes(keeps=False)
    async with fake.running(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
        print(fake.port, flush=True)  # noqa: T201 - for whoever started us
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
