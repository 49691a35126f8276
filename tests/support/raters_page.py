"""A rater at the page, in a real browser."""

import contextlib
import time

NAMES = ("plausibility", "alignment", "aesthetics", "overall")


@contextlib.contextmanager
def rating(browser, link, width=1280, height=800, *, options=None):
    """Yields a page that shows the first image; whatever goes wrong in it is an error.

    Args:
      browser: Playwright's.
      link: the rater's link.
      width, height: the window, in pixels.
      options: more options of Playwright's context.
    """
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, **options or {})
    page = context.new_page()
    wrong = watch(page)
    page.goto(link)
    page.get_by_role("button", name="Begin").click()
    shown(page)
    assert "token" not in page.url
    yield page
    assert not wrong
    context.close()


def watch(page) -> list[str]:
    """Returns the list of a page's errors and dialogs, which grows."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    return wrong


def shown(page) -> None:
    """Waits for an image, and for its own pixels: an image keeps those of the one
    before until it has loaded."""
    page.locator("#work:not([inert])").wait_for()
    until(page, "picture.complete && picture.naturalWidth > 0")


def at_rest(page) -> None:
    """Waits until the server has all that was done, and the page the next image, if
    there is one."""
    until(page, "!Object.keys(localStorage).some((key) => key.includes('outbox'))")
    page.locator("#work:not([inert])").wait_for(state="attached")


def becomes(page, read, right, what: str):
    """Waits until something is as wanted, and returns it; the page works meanwhile.

    Args:
      page: Playwright's.
      read: returns the thing, such as a row of the store.
      right: says of the thing whether it is as wanted.
      what: what is wanted, in words, for the error.
    """
    found = None
    for _ in range(300):
        if right(found := read()):
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {what}; at last {found!r}")


def until(page, expression: str) -> None:
    """Waits until an expression of JavaScript is true.

    Playwright's own wait needs eval, which the page's policy forbids.
    """
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def at(page, x, y):
    """Returns where a place of the image, in shares of its sides, is on the screen."""
    box = page.locator("#frame").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def score(page, *values):
    """Gives the four scores."""
    for name, value in zip(NAMES, values, strict=True):
        page.locator(f"label:has(input[name={name}][value='{value}'])").click()


def answer(page, *values):
    """Says that nothing is wrong, scores, and goes on."""
    page.get_by_text("Nothing is wrong", exact=True).click()
    score(page, *(values or (3, 3, 3, 3)))
    page.get_by_role("button", name="Save and next").click()


def saved(opened, count):
    """Returns the answers in a store, once there are as many.

    Only of answers that were not there before does this say anything: for those that
    change, see `becomes`.
    """
    answers: list = []
    for _ in range(150):
        answers = [one for one in opened.answers() if not one.skipped]
        if len(answers) >= count:
            return answers
        time.sleep(0.1)
    raise AssertionError(f"expected {count} answers, got {len(answers)}")
