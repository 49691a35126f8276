"""The rater's page in a real browser: what comes out is what was pressed.

Needs Chromium (`tests.support.chromium`); without one, the tests say so and are skipped.
"""

import contextlib
import time

import pytest

from tests.support import annotation_site, chromium

CHROMIUM = chromium.find()
PROMPT = 'a <b>yellow</b> cat, "well-known" <script>alert(1)</script>'
SIZES = {"a.png": (1200, 800), "b.png": (300, 900)}


GUESS = {
    "implausible_points": [[30.5, 20]],
    "misaligned_words": [2],
    "scores": {"plausibility": 2, "overall": 4},
}


@pytest.fixture
def site(tmp_path, request):
    """A running server with two images for two raters each."""
    guesses = getattr(request, "param", False)
    annotation_site.write_images(tmp_path / "pictures", SIZES)
    rows = [{"image": name, "prompt": PROMPT, "guess": GUESS} for name in SIZES]
    options = {"raters": 2, "show_guesses": guesses}
    with (
        annotation_site.opened(tmp_path, rows, **options) as opened,
        annotation_site.serving(opened) as served,
    ):
        yield served


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip(chromium.MISSING)
    with sync_playwright() as play:
        launched = play.chromium.launch(
            executable_path=CHROMIUM, args=list(chromium.FLAGS)
        )
        yield launched
        launched.close()


@contextlib.contextmanager
def _rater(browser, link, width=1280, height=800, **options):
    """A page that shows the first image, with the help closed."""
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, **options)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto(link)
    page.get_by_role("button", name="Begin").click()
    assert "token" not in page.url
    yield page
    assert not wrong
    context.close()


def _at(page, x, y):
    """Where a place of the image, in shares of its sides, is on the screen."""
    box = page.locator("#frame").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def _score(page, *values):
    names = ("plausibility", "alignment", "aesthetics", "overall")
    for name, value in zip(names, values, strict=True):
        page.locator(f"label:has(input[name={name}][value='{value}'])").click()


def _saved(opened, count):
    """The answers, once there are as many."""
    for _ in range(100):
        answers = [one for one in opened.answers() if not one.skipped]
        if len(answers) >= count:
            return answers
        time.sleep(0.1)
    raise AssertionError(f"expected {count} answers, got {len(answers)}")


def test_there_is_a_browser_where_tests_are_required():
    assert CHROMIUM or not chromium.is_required(), chromium.MISSING


def test_by_mouse(site, browser):
    with _rater(browser, site.link("r1")) as page:
        assert page.locator("#words").inner_text() == PROMPT
        fits = page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        assert fits and page.locator("#save").is_visible()
        page.mouse.click(*_at(page, 0.25, 0.5))
        page.get_by_text("Not as asked", exact=True).click()
        page.mouse.click(*_at(page, 0.7, 0.2))
        page.mouse.click(*_at(page, 0.5, 0.9))
        page.get_by_role("button", name="Undo").click()
        page.mouse.move(*_at(page, 0.7, 0.2))  # drag it
        page.mouse.down()
        page.mouse.move(*_at(page, 0.75, 0.3), steps=4)
        page.mouse.move(*_at(page, 0.8, 0.4), steps=4)
        page.mouse.up()
        page.get_by_role("button", name="yellow").click()
        _score(page, 2, 4, 3, 5)
        page.get_by_role("button", name="Save and next").click()
        [answer] = _saved(site.store, 1)
        page.get_by_text("1 done").wait_for()
        page.get_by_role("button", name="Back").click()
        page.locator("#forward:enabled").wait_for()
        assert page.locator("#count").inner_text() == "1 broken, 1 not as asked"
        page.get_by_label("Comment").type("odd", delay=20)
        page.get_by_role("button", name="Save and next").click()
        page.get_by_text("Saved", exact=True).wait_for()
        [again] = _saved(site.store, 1)
        assert again.label.comment == "odd"
        assert again.seconds > answer.seconds  # of both visits
    width, height = SIZES[answer.image]
    [[x, y]] = answer.label.implausible_points
    assert abs(x - 0.25 * width) <= 1.5 and abs(y - 0.5 * height) <= 1.5
    [[x, y]] = answer.label.misaligned_points
    assert abs(x - 0.8 * width) <= 1.5 and abs(y - 0.4 * height) <= 1.5
    assert list(answer.label.misaligned_words) == [1]
    assert answer.label.scores == {
        "plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 5
    }  # fmt: skip
    assert answer.seconds > 0


def test_by_keyboard_alone(site, browser):
    with _rater(browser, site.link("r1")) as page:
        press = page.keyboard.press
        for key in ("ArrowRight", "ArrowRight", "i", "ArrowDown", "m", "n", "Delete"):
            press(key)
        page.get_by_role("button", name="cat").press("Enter")
        for name in ("plausibility", "alignment", "aesthetics", "overall"):
            page.locator(f"input[name={name}]").first.press("Space")
            press("ArrowRight")
        press("Control+Enter")
        [answer] = _saved(site.store, 1)
    assert not answer.label.implausible_points and answer.label.misaligned_points
    assert list(answer.label.misaligned_words) == [2]
    assert set(answer.label.scores.values()) == {2}


def test_by_touch_on_a_phone(site, browser):
    phone = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with _rater(browser, site.link("r1"), 390, 844, **phone) as page:
        page.touchscreen.tap(*_at(page, 0.4, 0.6))
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        _score(page, 1, 2, 3, 4)
        page.get_by_role("button", name="Save and next").click()
        [answer] = _saved(site.store, 1)
    width, height = SIZES[answer.image]
    [[x, y]] = answer.label.implausible_points
    pixel = max(width, height) / 300  # a pixel of the phone's screen
    assert abs(x - 0.4 * width) <= 1 + pixel and abs(y - 0.6 * height) <= 1 + pixel
    assert wide


def test_connection_lost_and_back(site, browser):
    with _rater(browser, site.link("r1")) as page:
        page.context.set_offline(True)
        page.mouse.click(*_at(page, 0.5, 0.5))
        _score(page, 2, 2, 2, 2)
        lost = page.locator("#connection.lost")
        lost.wait_for()
        assert "kept in this browser" in lost.inner_text()
        page.get_by_role("button", name="Save and next").click()
        assert not list(site.store.answers())
        page.context.set_offline(False)
        [answer] = _saved(site.store, 1)
        page.get_by_text("Saved", exact=True).wait_for()
    assert len(answer.label.implausible_points) == 1


def test_two_raters_and_their_manager(site, browser):
    with (
        _rater(browser, site.link("r1")) as first,
        _rater(browser, site.link("r2")) as second,
    ):
        for page in (first, second):
            for done in (1, 2):
                page.get_by_text("Nothing is wrong", exact=True).click()
                _score(page, 3, 3, 3, 3 + done % 2)
                page.get_by_role("button", name="Save and next").click()
                if done == 1:
                    page.get_by_text("1 done").wait_for()
            page.locator("#work").wait_for(state="hidden")
    assert len(_saved(site.store, 4)) == 4
    page = browser.new_context().new_page()
    page.goto(site.link("boss", "manager"))
    page.get_by_text("2 of 2 images complete; 4 answers").wait_for()
    page.locator("tr", has_text="r1").get_by_role("button", name="Pause").click()
    page.get_by_text("paused: by the manager").wait_for()
    page.context.close()


@pytest.mark.parametrize("site", [False, True], indirect=True)
def test_a_guess_is_shown_apart_and_becomes_a_mark_only_on_demand(
    site, browser, request
):
    shown = request.node.callspec.params["site"]
    with _rater(browser, site.link("r1")) as page:
        take = page.get_by_role("button", name="Start from the model's guess")
        assert take.is_visible() == shown
        assert page.locator("#marks .guess").count() == shown
        assert page.locator("#words .guessed").count() == shown
        assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
        assert not page.locator("#scores input:checked").count()
        if not shown:
            page.get_by_text("Nothing is wrong", exact=True).click()
            _score(page, 1, 1, 1, 1)
            page.get_by_role("button", name="Save and next").click()
        else:
            assert (
                "1 broken, 0 not as asked; words: cat"
                in page.locator("#guess").inner_text()
            )
            take.click()
            assert page.locator("#count").inner_text() == "1 broken, 0 not as asked"
            page.get_by_role("button", name="Undo").click()
            assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
            take.click()
            for name, value in (("alignment", 5), ("aesthetics", 1)):
                page.locator(f"label:has(input[name={name}][value='{value}'])").click()
            page.get_by_role("button", name="Save and next").click()
        [answer] = _saved(site.store, 1)
    assert answer.guess_shown == shown
    assert answer.label.implausible_points == (((30.5, 20),) if shown else ())
    if shown:
        assert answer.label.scores == {
            "plausibility": 2, "alignment": 5, "aesthetics": 1, "overall": 4
        }  # fmt: skip
