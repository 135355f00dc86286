"""What people see of a store, in a real browser: the report on a desk and on a phone, and the viewer.

`.ci/run` installs Chromium, and there a missing browser is a failure; elsewhere these tests wait for one.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from filled_store import filled_store
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from pwsseg.report import write_report
from pwsseg.report.viewer import layers_of, showing
from pwsseg.store import Store
from pwsseg.values import FLARE23

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--disable-quic", "--disable-background-networking")
ARGUMENTS = ("--no-sandbox", "--enable-unsafe-swiftshader", *QUIET)  # CI is root and has no GPU
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
CONTRAST = """
() => {
  const unit = s => s.startsWith('color') ? 1 : 255;  // of color(srgb 1 1 1), rgb(255, 255, 255)
  const rgb = s => s.match(/[0-9.]+/g).map((v, i) => i < 3 ? v / unit(s) : Number(v));
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.9) return c;
    }
    return [1, 1, 1];
  };
  return [...document.querySelectorAll('h1, h2, p, td, th, a, summary, figcaption')]
    .filter(e => e.textContent.trim() && e.checkVisibility())
    .map(e => {
      const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((m, n) => n - m);
      return [(a + 0.05) / (b + 0.05), e.tagName, e.textContent.trim().slice(0, 40)];
    });
}
"""
"""The contrast of every piece of text with what is behind it, as WCAG counts it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for n in NAMES if (found := shutil.which(n))), None)
    if program is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine (Debian, Ubuntu: apt install chromium)")
    assert program, "CI has no Chromium; .ci/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def report(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(store, path)
    return path


def open_report(browser: Browser, report: Path, **said: object) -> tuple[Page, list[str]]:
    """The report without a network, and what went wrong in it or was asked of others."""
    context = browser.new_context(offline=True, **said)  # type: ignore[arg-type]
    page, faults = context.new_page(), []
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(r.url))
    page.goto(report.as_uri())
    return page, faults


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_whole_and_readable(
    browser: Browser, report: Path, viewport: ViewportSize, scheme: str
) -> None:
    page, faults = open_report(browser, report, viewport=viewport, color_scheme=scheme)
    assert not faults
    broken = "() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
    assert page.evaluate(broken) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert [found for found in page.evaluate(CONTRAST) if found[0] < 4.5] == []
    shown = picture(page.screenshot())
    assert (shown.mean() < 0.5) == (scheme == "dark")
    assert shown.std() > 0.03


def test_report_is_walked_through_by_keyboard(browser: Browser, report: Path) -> None:
    page, _ = open_report(browser, report, viewport=DESK)
    stops = page.evaluate("document.querySelectorAll('a[href], summary, button, [tabindex=\"0\"]').length")
    assert stops > 3
    seen = set()
    for _ in range(stops):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        seen.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(seen) == stops


def test_viewer_shows_scan_and_labels_in_their_colours(browser: Browser, store: Store) -> None:
    with showing(store, "case-a", layers_of(store, "case-a", ["annotation", "os1"])) as address:
        page = browser.new_context(viewport=DESK).new_page()
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        page.goto(address)
        page.wait_for_function("window.viewer && window.viewer.isReady()", timeout=120_000)
        page.wait_for_timeout(500)
        shown = picture(page.screenshot())
        page.context.close()
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in asked)
    assert share_tinted(shown, FLARE23[1].rgb) > 0.01
    assert share_tinted(shown, FLARE23[3].rgb) == 0


def picture(png: bytes) -> NDArray[np.float32]:
    """(row, column, red green blue), 0 to 1."""
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def share_tinted(shown: NDArray[np.float32], rgb: tuple[int, int, int]) -> float:
    """The share of pixels that are a grey with a good part of this colour laid over it."""
    tint = np.array(rgb) / 255 - np.mean(rgb) / 255
    tints = shown - shown.mean(-1, keepdims=True)
    along = tints @ tint / np.linalg.norm(tint)
    strong = (along > 0.05) & (along < 0.3)  # lines and letters are pure colours
    return float((strong & (along > 0.98 * np.linalg.norm(tints, axis=-1))).mean())
