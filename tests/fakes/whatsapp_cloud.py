"""Meta's WhatsApp Cloud API on loopback: checks what it documents, counts what it took, tells by webhook.

    python tests/fakes/whatsapp_cloud.py PHONE_NUMBER_ID

runs one in a process of its own: it prints how to reach it, and at the end of its input what it took.

Written from Meta's pages (Send messages, Template messages, Error codes, Status messages webhook), without
anything of the channel that it tests.
"""

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

HOST = "127.0.0.1"
TOKEN = "EAAGm0PX4ZCpsBAKZCfake"
APP_SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
OWN_PHONE = "15550783881"
LONGEST_TEXT = 4096
LONGEST_CALLBACK = 512
LONGEST_PARAMETER = 32768

_KEYS = {"messaging_product", "recipient_type", "to", "type", "context", "biz_opaque_callback_data"}
_NUMBERS = itertools.count(106540352242922)


@dataclass(frozen=True)
class Fault:
    """What is answered instead of taking a message."""

    http: int
    code: int
    message: str = ""
    subcode: int | None = None
    details: str = ""
    transient: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "OAuthException"

    def response(self) -> web.Response:
        error: dict[str, Any] = {"message": self.message or f"(#{self.code}) Refused", "type": self.kind}
        error |= {"code": self.code, "fbtrace_id": "AXfu0NKfYelIG2VlOmIfK3C"}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.transient:
            error["is_transient"] = True
        return web.json_response({"error": error}, status=self.http, headers=self.headers)


@dataclass(frozen=True)
class Words:
    """An answer that is not Meta's: a proxy's page, half an answer."""

    http: int
    body: str = "<html>Bad Gateway</html>"
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        return web.Response(status=self.http, text=self.body, headers=self.headers, content_type="text/html")


@dataclass(frozen=True)
class Manner:
    """How a message is taken."""

    after_seconds: float = 0.0
    silent: bool = False
    hangs_up: bool = False
    """Without an answer."""
    hangs_up_after: bool = False
    """Right after its answer, which does not say so."""
    message_status: str = ""


@dataclass(frozen=True)
class Template:
    """An approved template: how many parameters each part takes."""

    body: int = 0
    header: str = ""
    """Empty: none; text, image, video or document: its one parameter."""
    buttons: int = 0
    """With a parameter each."""


@dataclass(frozen=True)
class Taken:
    """One message, as it would be delivered."""

    wamid: str
    to: str
    content: dict[str, Any]
    callback: str


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@dataclass
class CloudApi:
    """The stand-in's account, what it does with messages and what it has seen."""

    token: str = TOKEN
    app_secret: str = APP_SECRET
    templates: dict[tuple[str, str], Template] = field(
        default_factory=lambda: {("spring_offer", "en_GB"): Template(body=1)}
    )
    deed: Fault | Words | Manner = Manner()
    faults: list[Fault] = field(default_factory=list)
    """Answered to the next messages, one each, before `deed` counts."""
    pair_seconds: float = 0.0
    """Two messages to one number in less than this: 131056."""
    allowed: set[str] | None = None
    """Of a test number: the only numbers that it writes to."""
    knows_messaging_limit: bool = True
    webhook: str = ""
    """Where status reports go."""
    phone_number_id: str = field(default_factory=lambda: str(next(_NUMBERS)))
    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    """Code → how often."""
    requests: int = 0
    connections: int = 0
    bodies: list[bytes] = field(default_factory=list)
    keeps_bodies: bool = True
    _last: dict[str, float] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CloudApi"]:
        # A plain server: no routes, as Meta's paths hold a version and a number.
        server = web.Server(self._answer, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            self._closing.set()
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        transport = request.transport
        if transport is not None and id(transport) not in self._seen:
            self._seen.add(id(transport))
            self.connections += 1
        try:
            number = self._admitted(request)
            if request.method == "POST" and number == "messages":
                return await self._take(request)
            return web.json_response(self._facts(request))
        except _Refused as refused:
            self.refused[refused.fault.code] += 1
            return refused.fault.response()

    def _admitted(self, request: web.BaseRequest) -> str:
        """Check path and token; return what of the phone number is asked for."""
        match = re.fullmatch(r"/v\d+\.\d+/(\w+)(?:/(\w+))?", request.path)
        if match is None:
            raise _Refused(Fault(400, 2500, "Unknown path components", kind="OAuthException"))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise _Refused(Fault(401, 190, "Invalid OAuth access token - Cannot parse access token"))
        if match[1] != self.phone_number_id:
            said = f"Unsupported {request.method.lower()} request. Object with ID '{match[1]}' does not exist"
            raise _Refused(Fault(400, 100, said, 33, kind="GraphMethodException"))
        return match[2] or ""

    def _facts(self, request: web.BaseRequest) -> dict[str, Any]:
        if isinstance(self.deed, Fault):
            raise _Refused(self.deed)
        known: dict[str, Any] = {
            "verified_name": "Example Shop",
            "display_phone_number": "+1 555-078-3881",
            "quality_rating": "GREEN",
            "throughput": {"level": "STANDARD"},
            "code_verification_status": "VERIFIED",
            "name_status": "APPROVED",
        }
        if self.knows_messaging_limit:
            known["whatsapp_business_manager_messaging_limit"] = "TIER_2K"
        found = {}
        for name in request.query.get("fields", "").split(","):
            if name not in known:
                said = f"(#100) Tried accessing nonexistent field ({name}) on node type (WhatsAppPhoneNumber)"
                raise _Refused(Fault(400, 100, said))
            found[name] = known[name]
        return found | {"id": self.phone_number_id}

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if self.keeps_bodies:
            self.bodies.append(raw)
        if self.faults:
            raise _Refused(self.faults.pop(0))
        deed = self.deed
        if isinstance(deed, Fault):
            raise _Refused(deed)
        if isinstance(deed, Words):
            return deed.response()
        message = self._checked(request, raw)
        self.taken.append(message)
        await asyncio.sleep(deed.after_seconds)
        if deed.silent:
            await self._closing.wait()
        if deed.silent or deed.hangs_up:
            request.transport.abort()
            return web.Response()
        answer: dict[str, Any] = {"id": message.wamid}
        if deed.message_status:
            answer["message_status"] = deed.message_status
        body = {
            "messaging_product": "whatsapp",
            "contacts": [{"input": message.to, "wa_id": message.to}],
            "messages": [answer],
        }
        response = web.json_response(body)
        if deed.hangs_up_after:
            await response.prepare(request)
            await response.write_eof()
            request.transport.close()
        return response

    def _checked(self, request: web.BaseRequest, raw: bytes) -> Taken:
        body = self._read(request, raw)
        to = body.get("to")
        if not isinstance(to, str):
            raise _Refused(Fault(400, 100, "(#100) The parameter to is required."))
        if not re.fullmatch(r"[0-9]{7,15}", to):
            raise _Refused(Fault(400, 131009, "(#131009) Parameter value is not valid", details="to"))
        kind, content = self._content(body)
        self._check_recipient(to)
        wamid = f"wamid.HBgL{len(self.taken):08d}A=="
        return Taken(wamid, to, {"type": kind, kind: content}, body.get("biz_opaque_callback_data", ""))

    @staticmethod
    def _read(request: web.BaseRequest, raw: bytes) -> dict[str, Any]:
        try:
            body = json.loads(raw) if request.content_type == "application/json" else {}
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise _Refused(Fault(400, 100, "(#100) Invalid parameter", details="the body is not JSON"))
        if body.get("messaging_product") != "whatsapp":
            raise _Refused(Fault(400, 100, "(#100) The parameter messaging_product is required."))
        if body.get("recipient_type", "individual") != "individual":
            raise _Refused(Fault(400, 100, "(#100) Invalid parameter", details="recipient_type"))
        callback = body.get("biz_opaque_callback_data", "")
        if not isinstance(callback, str) or len(callback) > LONGEST_CALLBACK:
            raise _Refused(Fault(400, 100, "(#100) Invalid parameter", details="biz_opaque_callback_data"))
        return body

    def _content(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        kinds = {"text": self._check_text, "template": self._check_template}
        kind = body.get("type")
        if kind is None:
            raise _Refused(Fault(400, 131008, "(#131008) Required parameter is missing", details="type"))
        if kind not in kinds:
            raise _Refused(Fault(400, 131051, "(#131051) Unsupported message type"))
        content = body.get(kind)
        if not isinstance(content, dict):
            raise _Refused(Fault(400, 131008, "(#131008) Required parameter is missing", details=kind))
        if unknown := set(body) - _KEYS - {kind}:
            raise _Refused(Fault(400, 100, f"(#100) Unexpected key {min(unknown)!r}"))
        kinds[kind](content)
        return kind, content

    def _check_recipient(self, to: str) -> None:
        if to == OWN_PHONE:
            raise _Refused(Fault(400, 131021, "(#131021) Recipient cannot be the sender"))
        if self.allowed is not None and to not in self.allowed:
            raise _Refused(Fault(400, 131030, "(#131030) Recipient phone number not in allowed list"))
        now = time.monotonic()
        if self.pair_seconds and now - self._last.get(to, -self.pair_seconds) < self.pair_seconds:
            said = "(#131056) (Business Account, Consumer Account) pair rate limit hit"
            raise _Refused(Fault(429, 131056, said))
        self._last[to] = now

    @staticmethod
    def _check_text(text: dict[str, Any]) -> None:
        body = text.get("body")
        if not isinstance(body, str) or not body:
            raise _Refused(Fault(400, 131008, "(#131008) Required parameter is missing", details="text.body"))
        if len(body) > LONGEST_TEXT:
            raise _Refused(Fault(400, 100, "(#100) Param text['body'] must be at most 4096 characters long."))
        if not isinstance(text.get("preview_url", False), bool):
            raise _Refused(Fault(400, 100, "(#100) Invalid parameter", details="preview_url"))
        if set(text) - {"body", "preview_url"}:
            raise _Refused(Fault(400, 100, "(#100) Unexpected key on param text"))

    def _check_template(self, template: dict[str, Any]) -> None:
        language = template.get("language")
        if not isinstance(language, dict) or not isinstance(language.get("code"), str):
            raise _Refused(Fault(400, 100, "(#100) The parameter template['language'] is required."))
        name = template.get("name")
        approved = self.templates.get((name, language["code"]))
        if approved is None:
            raise _Refused(
                Fault(
                    404, 132001, "(#132001) Template name does not exist in the translation",
                    details=f"template name ({name}) does not exist in {language['code']}",
                )
            )  # fmt: skip
        given: dict[str, list[Any]] = {"header": [], "body": [], "button": []}
        components = template.get("components", [])
        if not isinstance(components, list):
            raise _Refused(Fault(400, 100, "(#100) Param template['components'] must be an array."))
        for component in components:
            kind = component.get("type") if isinstance(component, dict) else None
            parameters = component.get("parameters") if isinstance(component, dict) else None
            if kind not in given or not isinstance(parameters, list):
                raise _Refused(Fault(400, 100, "(#100) Invalid parameter", details="components"))
            given[kind] += parameters
        for part, wanted in (
            ("header", 1 if approved.header else 0),
            ("body", approved.body),
            ("button", approved.buttons),
        ):
            if len(given[part]) != wanted:
                details = (
                    f"{part}: number of localizable_params ({len(given[part])}) "
                    f"does not match the expected number of params ({wanted})"
                )
                said = "(#132000) Number of parameters does not match the expected number of params"
                raise _Refused(Fault(400, 132000, said, details=details))
            for parameter in given[part]:
                self._check_parameter(part, parameter, approved.header if part == "header" else "text")

    @staticmethod
    def _check_parameter(part: str, parameter: object, kind: str) -> None:
        details = f"{part}: parameter"
        if not isinstance(parameter, dict) or parameter.get("type") not in {kind, "payload", "coupon_code"}:
            raise _Refused(Fault(400, 132012, "(#132012) Parameter format does not match", details=details))
        value = parameter.get(parameter["type"])
        if parameter["type"] in {"image", "video", "document"}:
            value = value.get("link") if isinstance(value, dict) else None
        if not isinstance(value, str) or not value:
            raise _Refused(
                Fault(
                    400, 131008, "(#131008) Required parameter is missing", details=f"{details} of type text"
                )
            )
        if re.search(r"[\n\t]| {5}", value) or len(value) > LONGEST_PARAMETER:
            said = "(#100) Invalid parameter"
            raise _Refused(
                Fault(400, 100, said, details="Param text cannot have new-line/tab characters or 5 spaces")
            )

    def status(self, message: Taken, status: str, code: int | None = None, title: str = "") -> dict[str, Any]:
        """Make one report as Meta writes it."""
        report: dict[str, Any] = {
            "id": message.wamid,
            "status": status,
            "timestamp": str(int(time.time())),
            "recipient_id": message.to,
        }
        if message.callback:
            report["biz_opaque_callback_data"] = message.callback
        if code is not None:
            report["errors"] = [
                {"code": code, "title": title, "message": title, "error_data": {"details": f"{title}."}}
            ]
        elif status == "delivered":
            report["pricing"] = {"billable": True, "pricing_model": "PMP", "category": "marketing"}
        return report

    def inbound(self, phone: str, text: str = "Hello") -> dict[str, Any]:
        """Make one message from somebody, `phone` in digits."""
        message = {"from": phone, "id": "wamid.in", "timestamp": str(int(time.time()))}
        return message | {"type": "text", "text": {"body": text}}

    async def tell(self, *reports: dict[str, Any], inbound: tuple[dict[str, Any], ...] = ()) -> int:
        """Post reports in one signed request to `webhook`; return the HTTP status of the answer."""
        value: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": OWN_PHONE, "phone_number_id": self.phone_number_id},
        }
        if reports:
            value["statuses"] = list(reports)
        if inbound:
            value["contacts"] = [{"profile": {"name": "Ada"}, "wa_id": each["from"]} for each in inbound]
            value["messages"] = list(inbound)
        changes = [{"value": value, "field": "messages"}]
        payload = {
            "object": "whatsapp_business_account",
            "entry": [{"id": "102290129340398", "changes": changes}],
        }
        body = json.dumps(payload, ensure_ascii=True).encode()
        signature = hmac.new(self.app_secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.webhook, data=body, headers=headers) as response,
        ):
            return response.status


async def serve() -> None:
    async with CloudApi(keeps_bodies=False, phone_number_id=sys.argv[1]).running() as server:
        say({"url": server.url, "id": server.phone_number_id, "token": TOKEN})
        await asyncio.to_thread(sys.stdin.read)
        people = len({message.to for message in server.taken})
        say({"taken": len(server.taken), "people": people, "requests": server.requests})


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())
