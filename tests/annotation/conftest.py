"""The browser in which the annotation pages are tested."""

import pytest

from tests.support import chromium


# Not of the session: Playwright keeps an event loop running, which others start anew.
@pytest.fixture(scope="module")
def browser():
    path = chromium.find()
    if path is None:
        pytest.skip(chromium.MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=path, args=[*chromium.FLAGS])
        yield launched
        launched.close()
