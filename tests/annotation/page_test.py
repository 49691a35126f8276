"""The rater's page in a real browser: what comes out is what was pressed.

Needs Chromium (`tests.support.chromium`); without one, the tests say so and are skipped.
"""

import pytest

from tests.support import annotation_site
from tests.support.raters_page import (
    answer,
    at,
    becomes,
    rating,
    saved,
    score,
    shown,
)

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


def test_by_mouse(site, browser):
    with rating(browser, site.link("r1")) as page:
        assert page.locator("#words").inner_text() == PROMPT
        fits = page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        assert fits and page.locator("#save").is_visible()
        page.mouse.click(*at(page, 0.25, 0.5))
        page.get_by_text("Not as asked", exact=True).click()
        page.mouse.click(*at(page, 0.7, 0.2))
        page.mouse.click(*at(page, 0.5, 0.9))
        page.get_by_role("button", name="Undo").click()
        page.mouse.move(*at(page, 0.7, 0.2))  # drag it
        page.mouse.down()
        page.mouse.move(*at(page, 0.75, 0.3), steps=4)
        page.mouse.move(*at(page, 0.8, 0.4), steps=4)
        page.mouse.up()
        page.get_by_role("button", name="yellow").click()
        score(page, 2, 4, 3, 5)
        page.get_by_role("button", name="Save and next").click()
        [given] = saved(site.store, 1)
        shown(page)
        page.get_by_role("button", name="Back").click()
        page.locator("#forward:enabled").wait_for()
        assert page.locator("#count").inner_text() == "1 broken, 1 not as asked"
        page.get_by_label("Comment").type("odd", delay=20)
        page.get_by_role("button", name="Save and next").click()
        [again] = becomes(
            page,
            lambda: list(site.store.answers()),
            lambda found: found[0].label.comment == "odd",
            "one answer with the comment 'odd'",
        )
        assert again.seconds > given.seconds  # of both visits
    width, height = SIZES[given.image]
    [[x, y]] = given.label.implausible_points
    assert abs(x - 0.25 * width) <= 1.5 and abs(y - 0.5 * height) <= 1.5
    [[x, y]] = given.label.misaligned_points
    assert abs(x - 0.8 * width) <= 1.5 and abs(y - 0.4 * height) <= 1.5
    assert list(given.label.misaligned_words) == [1]
    assert given.label.scores == {
        "plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 5
    }  # fmt: skip
    assert given.seconds > 0


def test_a_comment_is_in_the_answer_however_it_is_sent(site, browser):
    """Not every way to press a button takes the focus out of the comment: a finger on
    an iPad and a screen reader do not. The server is slow besides."""
    with rating(browser, site.link("r1")) as page:
        held, slow = [], True

        def hold(route):
            held.append(route) if slow else route.continue_()

        page.route("**/events", hold)
        page.get_by_text("Nothing is wrong", exact=True).click()
        score(page, 3, 3, 3, 3)
        page.get_by_label("Comment").press_sequentially("odd")
        page.evaluate("document.getElementById('save').click()")  # at once
        shown(page)
        assert page.get_by_label("Comment").input_value() == "", "it is the next one"
        page.get_by_label("Comment").press_sequentially("and this of the second")
        page.evaluate("document.getElementById('back').click()")
        page.locator("#forward:enabled").wait_for()
        assert page.get_by_label("Comment").input_value() == "odd"
        slow = False
        for route in held:
            route.continue_()
        [given] = becomes(page, lambda: list(site.store.answers()), len, "an answer")
        query = "SELECT label FROM events WHERE kind = 'draft' ORDER BY number"
        drafts = becomes(
            page,
            lambda: [row["label"] for row in site.store.read(query)],
            lambda found: any("and this of the second" in label for label in found),
            "a draft with the second comment",
        )
    assert given.label.comment == "odd"
    assert not any("odd" in one and "second" in one for one in drafts)


def test_a_comment_that_is_being_typed_survives_the_page(site, browser):
    with rating(browser, site.link("r1")) as page:
        page.get_by_label("Comment").press_sequentially("half a sen")
        page.reload()
        shown(page)
        assert page.get_by_label("Comment").input_value() == "half a sen"


def test_by_keyboard_alone(site, browser):
    with rating(browser, site.link("r1")) as page:
        press = page.keyboard.press
        for key in ("ArrowRight", "ArrowRight", "i", "ArrowDown", "m", "n", "Delete"):
            press(key)
        page.get_by_role("button", name="cat").press("Enter")
        for name in ("plausibility", "alignment", "aesthetics", "overall"):
            page.locator(f"input[name={name}]").first.press("Space")
            press("ArrowRight")
        press("Control+Enter")
        [given] = saved(site.store, 1)
    assert not given.label.implausible_points and given.label.misaligned_points
    assert list(given.label.misaligned_words) == [2]
    assert set(given.label.scores.values()) == {2}


def test_by_touch_on_a_phone(site, browser):
    phone = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with rating(browser, site.link("r1"), 390, 844, options=phone) as page:
        page.touchscreen.tap(*at(page, 0.4, 0.6))
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        score(page, 1, 2, 3, 4)
        page.get_by_role("button", name="Save and next").click()
        [given] = saved(site.store, 1)
    width, height = SIZES[given.image]
    [[x, y]] = given.label.implausible_points
    pixel = max(width, height) / 300  # a pixel of the phone's screen
    assert abs(x - 0.4 * width) <= 1 + pixel and abs(y - 0.6 * height) <= 1 + pixel
    assert wide


def test_connection_lost_and_back(site, browser):
    with rating(browser, site.link("r1")) as page:
        page.context.set_offline(True)
        page.mouse.click(*at(page, 0.5, 0.5))
        score(page, 2, 2, 2, 2)
        lost = page.locator("#connection.lost")
        lost.wait_for()
        assert "kept in this browser" in lost.inner_text()
        page.get_by_role("button", name="Save and next").click()
        assert not list(site.store.answers())
        page.context.set_offline(False)
        [given] = saved(site.store, 1)
        page.locator("#connection:not(.lost)").wait_for()
    assert len(given.label.implausible_points) == 1


def test_two_raters_and_their_manager(site, browser):
    with (
        rating(browser, site.link("r1")) as first,
        rating(browser, site.link("r2")) as second,
    ):
        for page in (first, second):
            for done in (1, 2):
                shown(page)
                answer(page, 3, 3, 3, 3 + done % 2)
            page.get_by_text("That was the last image").wait_for()
    assert len(saved(site.store, 4)) == 4
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
    with rating(browser, site.link("r1")) as page:
        take = page.get_by_role("button", name="Start from the model's guess")
        assert take.is_visible() == shown
        assert page.locator("#marks .guess").count() == shown
        assert page.locator("#words .guessed").count() == shown
        assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
        assert not page.locator("#scores input:checked").count()
        if not shown:
            page.get_by_text("Nothing is wrong", exact=True).click()
            score(page, 1, 1, 1, 1)
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
        [given] = saved(site.store, 1)
    assert given.guess_shown == shown
    assert given.label.implausible_points == (((30.5, 20),) if shown else ())
    if shown:
        assert given.label.scores == {
            "plausibility": 2, "alignment": 5, "aesthetics": 1, "overall": 4
        }  # fmt: skip
