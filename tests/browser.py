"""A headless Chromium for tests of pages: the machine's own, driven by playwright; no network is asked for.

`.ci/run` installs Debian's `chromium` where there is none. CUVEE_CHROMIUM names another browser.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, of the dev extra, is not installed")
    place = os.environ.get("CUVEE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if place is None:
        pytest.skip("there is no Chromium; install Debian's package `chromium`, or set CUVEE_CHROMIUM to one")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
