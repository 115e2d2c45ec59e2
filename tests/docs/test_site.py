"""The built site: no warning, no page wider than a phone, colours that can be read, nothing from a network."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from docs.pages import DOCS, ROOT

LOOKED_AT = (
    "index.html",
    "tutorial/first-blend/index.html",
    "how-to/write-a-method/index.html",
    "reference/methods/ties/index.html",
    "reference/commands/merge/index.html",
    "benchmarks/index.html",
)
AXE_LOOKS_AT = ("index.html", "how-to/write-a-method/index.html", "reference/methods/ties/index.html")
"""It takes seconds for a page."""

TALLEST = 10_000
"""Pixels of a page of methods or commands at 1280 pixels of width. All methods on one page were 21,000."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly in a folder of its own."""
    pytest.importorskip("zensical", reason="zensical, of the dev extra, is not installed")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390)], ids=str)
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    scheme, width = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()


def test_every_page_is_built_and_no_program_is_among_them(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix("") for page in DOCS.rglob("*.md")}
    built = {page.parent.relative_to(site) for page in site.rglob("index.html")}
    assert {page.parent if page.name == "index" else page for page in pages} == built
    assert list(site.rglob("*.py")) == []


def test_the_site_asks_no_other_host_for_anything(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:link|script|img)[^>]*(?:href|src)=\"?(https?://[^\" >]+)", page.read_text())
        assert [address for address in loaded if "canonical" not in address] == [], page


def test_pages_fit_their_window(site: Path, tab: Any) -> None:
    for page in LOOKED_AT:
        tab.goto((site / page).as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{page} is too wide"
        if "/methods/" in page or "/commands/" in page:
            assert tab.evaluate("document.documentElement.scrollHeight") < TALLEST, page


def test_pages_can_be_read(site: Path, tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe, of the dev extra, is not installed")
    rules = {"runOnly": {"type": "rule", "values": ["color-contrast", "image-alt", "heading-order"]}}
    for page in AXE_LOOKS_AT:
        tab.goto((site / page).as_uri())
        violations = axe.Axe().run(tab, options=rules).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations] == [], page
