"""A Chromium for the browser tests: skipped where there is none, failed where one is required."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.jlab import CHROMIUM_ARGUMENTS

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _chromium() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and os.environ.get("GGLIB_NB_REQUIRE_BROWSER"):
        pytest.fail("there is no Chromium, and this run requires one. On Debian: apt install chromium")
    if found is None:
        pytest.skip("there is no Chromium. On Debian: apt install chromium")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all browser tests of a run."""
    executable = _chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))
        yield chromium
        chromium.close()
