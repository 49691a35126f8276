"""Finds the Chromium in which pages are tested.

    python -m tests.support.chromium

downloads Playwright's own if there is none, and says so if that fails.
"""

import os
import pathlib
import shutil
import subprocess
import sys

#: Chromium's names on the PATH.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "the annotation pages were NOT tested: found neither Chromium nor Chrome (Debian: "
    "apt-get install chromium; else: python -m playwright install chromium)"
)
#: --no-sandbox: containers often lack the namespaces that the sandbox needs.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def find() -> str | None:
    """Returns the path of Chromium: one of the PATH, else Playwright's own, or None."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or _find_own()


def is_required() -> bool:
    """Whether a test must fail if there is no browser: where CI is set."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def _find_own() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    with sync_playwright() as play:
        path = play.chromium.executable_path
    return path if pathlib.Path(path).is_file() else None


def main() -> int:
    """Installs Chromium if needed; returns 1 if a required one is absent."""
    path = find()
    if path is None:
        print("No Chromium on the PATH; downloading Playwright's", flush=True)
        words = (sys.executable, "-m", "playwright", "install", "chromium")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        path = find() if done.returncode == 0 else None
        if path is None:
            said = (done.stderr or done.stdout).strip().splitlines()
            errors = [line for line in said if "rror" in line] or said[-1:]
            print(errors[0] if errors else "no reason given", file=sys.stderr)
    if path is None:
        level = "error" if is_required() else "warning"
        print(f"{level}: {MISSING}", file=sys.stderr)
        return int(is_required())
    print(f"Pages are tested in {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
