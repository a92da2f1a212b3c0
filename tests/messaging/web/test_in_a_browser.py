"""The pages as people use them: in a browser, with a mouse or a keyboard, without scripts."""

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.messaging.web import chromium
from tests.messaging.web.site import Site, rows, sent, until

PICTURES = Path(os.environ.get("OUTFLOW_PICTURES", ""))
"""Where to keep how the pages look; unset: nowhere."""


@pytest.fixture(scope="module")
def program() -> str:
    return chromium.found()


def left(ledger: Engine) -> list[tuple[str]]:
    return rows(ledger, "SELECT address_key FROM audience_opt_outs ORDER BY 1")


def suppressed(ledger: Engine) -> list[tuple[str]]:
    return rows(
        ledger,
        "SELECT address_key FROM suppressions WHERE expires_at IS NULL OR expires_at > now() ORDER BY 1",
    )


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_person_unsubscribes_with_the_mouse(
    ledger: Engine, site: Site, program: str, tmp_path: Path, *, scripts: bool
):
    links = sent(ledger, 2)
    async with chromium.page(program, scripts=scripts) as page:
        await page.size(1280, 800)
        await page.open(site.url + links.unsubscribe())
        assert await page.value("document.title") == "Unsubscribe"
        assert left(ledger) == []
        await page.picture((PICTURES if PICTURES.name else tmp_path) / "unsubscribe.png")
        await page.click("button[value=audience]")
        await page.until("document.title == 'You are unsubscribed'")
        assert left(ledger) == [("reader1@example.org",)]
        # Everything there is to the page is in the page, and its style is allowed to act.
        own = {site.url + links.unsubscribe(), f"{site.url}/favicon.ico"}
        assert set(page.requested) <= own
        assert await page.value("getComputedStyle(document.querySelector('main')).borderRadius") == "12px"
        await page.click(".aside a")
        await page.until("document.title == 'Choose what you receive'")
        assert page.requested[-1] == site.url + links.preferences() or page.requested[-1].endswith(".ico")


async def test_a_person_chooses_with_the_keyboard_on_a_telephone(
    ledger: Engine, site: Site, program: str, tmp_path: Path
):
    links = sent(ledger, 2)
    async with chromium.page(program, scripts=True) as page:
        await page.size(360, 640, dark=True)
        await page.open(site.url + links.preferences())
        assert await page.value("document.documentElement.scrollWidth <= innerWidth")
        await page.picture((PICTURES if PICTURES.name else tmp_path) / "preferences-dark.png")
        seen = []
        for _ in range(2):
            await page.press("Tab", 9)
            seen.append(await page.value("document.activeElement.name"))
        assert seen == ["keep", "nothing"]
        assert await page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.press(" ", 32)
        assert await page.value("document.activeElement.checked")
        await page.press("Tab", 9)
        await page.press("Enter", 13)
        await page.until("document.body.innerText.includes('Your choice is saved')")
        assert suppressed(ledger) == [("reader1@example.org",)]
        await page.click("input[name=nothing]")
        await page.click("button")
        await asyncio.to_thread(until, lambda: not suppressed(ledger))


LUMINANCE = """
(() => {
  const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(n => n / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = element => {
    const color = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(color) || color == 'transparent' ? ground(element.parentElement) : color;
  };
  return [...document.querySelectorAll('h1, p, a, button, legend, label')].map(element => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    return [element.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
})()
"""


@pytest.mark.parametrize("dark", [False, True])
async def test_everybody_can_read_and_name_what_is_there(
    ledger: Engine, site: Site, program: str, *, dark: bool
):
    links = sent(ledger, 1)
    async with chromium.page(program, scripts=True) as page:
        await page.size(360, 640, dark=dark)
        for path in (links.unsubscribe(), links.preferences(), "/u/nobody"):
            await page.open(site.url + path)
            for element, contrast in await page.value(LUMINANCE):
                assert contrast >= 4.5, (path, element, contrast)  # WCAG 2.2, 1.4.3
            assert await page.value("document.documentElement.lang") == "en"
            assert await page.value("document.querySelectorAll('h1').length") == 1
            assert await page.value("[...document.querySelectorAll('input[type=checkbox]')]"
                                    ".every(box => box.labels.length == 1)")  # fmt: skip
            assert await page.value("[...document.querySelectorAll('button')]"
                                    ".every(b => b.getBoundingClientRect().height >= 44)")  # fmt: skip
