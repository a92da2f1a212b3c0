"""A headless Chromium, driven over its DevTools protocol."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
)
START_SECONDS = 60


def found() -> str:
    """Return where Chromium is; without it the test is skipped, but fails in CI."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    if os.environ.get("CI") == "true":
        pytest.fail("there is no Chromium: apt-get install chromium")
    pytest.skip("there is no Chromium")


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(100)
        self.requested: list[str] = []
        """The addresses of all that was asked for."""

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, "sessionId": self._session}
        await self._socket.send(json.dumps(message))
        while True:
            told = json.loads(await asyncio.wait_for(self._socket.recv(), START_SECONDS))
            if told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])

    async def value(self, expression: str) -> Any:
        """Return what an expression is on the page."""
        result = await self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def open(self, url: str) -> None:
        await self.do("Page.navigate", url=url)
        await self.until("document.readyState == 'complete' && location.href != 'about:blank'")

    async def until(self, condition: str) -> None:
        for _ in range(START_SECONDS * 10):
            if await self.value(condition):
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"it did not come true: {condition}")

    async def press(self, key: str, code: int) -> None:
        """Press a key, as a person without a mouse does."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.do(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    async def click(self, selector: str) -> None:
        """Press the mouse's button in the middle of an element."""
        place = await self.value(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.do(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        taken = await self.do("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, b64decode(taken["data"]))


@contextlib.asynccontextmanager
async def page(program: str, *, scripts: bool) -> AsyncIterator[Page]:
    """Open a page in a Chromium of its own; without scripts as some people browse."""
    with tempfile.TemporaryDirectory(prefix="outflow-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
            [program, *QUIET, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with connect(await _address(Path(profile), process), max_size=None) as socket:
                target = (await _plain(socket, "Target.createTarget", url="about:blank"))["targetId"]
                session = await _plain(socket, "Target.attachToTarget", targetId=target, flatten=True)
                opened = Page(socket, session["sessionId"])
                for domain in ("Page", "Runtime", "Network"):
                    await opened.do(f"{domain}.enable")
                await opened.do("Emulation.setScriptExecutionDisabled", value=not scripts)
                yield opened
        finally:
            process.terminate()
            process.wait(START_SECONDS)


async def _plain(socket: ClientConnection, method: str, **parameters: Any) -> dict[str, Any]:
    await socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    while True:
        told = json.loads(await asyncio.wait_for(socket.recv(), START_SECONDS))
        if told.get("id") == 1:
            assert "error" not in told, told
            return dict(told["result"])


async def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    told = profile / "DevToolsActivePort"
    for _ in range(START_SECONDS * 10):
        assert process.poll() is None, "Chromium did not start"
        if told.exists() and len(lines := told.read_text().split()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.1)
    pytest.fail("Chromium did not say where it listens")
