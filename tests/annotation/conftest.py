"""The browser in which the annotation pages are tested."""

import pytest

from tests.support import chromium


# Not of the session: Playwright keeps an event loop running, which others start anew.
@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as found:
        yield found
