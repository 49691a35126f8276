"""Finds the Chromium in which pages are tested.

    python -m tests.support.chromium

installs one if there is none, Debian's where that may be done or else Playwright's own,
and says so if that fails; the tests of pages are then skipped.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

#: Chromium's names on the PATH.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "pages were NOT tested: found neither Chromium nor Chrome (Debian: "
    "apt-get install chromium; else: python -m playwright install chromium)"
)
#: --no-sandbox: containers often lack the namespaces that the sandbox needs.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def find() -> str | None:
    """Returns the path of Chromium: one of the PATH, else Playwright's own, or None."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or _find_own()


@contextlib.contextmanager
def launched():
    """Yields Playwright's browser; skips the test, saying so, where there is none."""
    import pytest

    path = find()
    if path is None:
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        browser.close()


def _find_own() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    with sync_playwright() as play:
        path = play.chromium.executable_path
    return path if pathlib.Path(path).is_file() else None


def _install() -> list[str]:
    """Tries to install a browser; returns what was said where it failed."""
    debian = "apt-get"
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which(debian) and os.geteuid() == 0:
        options = ("install", "-qq", "-y", "--no-install-recommends", "chromium")
        ways.insert(0, [debian, *options])
        ways.insert(0, [debian, "update", "-qq"])
    said = []
    for words in ways:
        print("No Chromium yet:", " ".join(words), flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
                env=environment,
            )
            lines = (done.stderr or done.stdout).strip().splitlines()
        except subprocess.TimeoutExpired:
            lines = [f"{words[0]}: no end after 300 s"]
        if find():
            return []
        said += [line for line in lines if "rror" in line][:1] or lines[-1:]
    return said


def main() -> int:
    """Installs Chromium if needed; returns 1 if there is none then."""
    said = [] if find() else _install()
    if path := find():
        print(f"Pages are tested in {path}")
        return 0
    print("\n".join([*said, f"warning: {MISSING}"]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
