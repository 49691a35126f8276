"""Zooming by keys, and buttons that say why they do nothing, in a real browser."""

import pytest

from tests.support import annotation_site
from tests.support.raters_page import at, becomes, rating, shown


@pytest.fixture
def site(tmp_path):
    """A running server with two images for a rater each."""
    sizes = {"a.png": (1200, 800), "b.png": (310, 200)}
    annotation_site.write_images(tmp_path / "pictures", sizes)
    rows = [{"image": name, "prompt": "a cat"} for name in sizes]
    with (
        annotation_site.opened(tmp_path, rows) as opened,
        annotation_site.serving(opened) as served,
    ):
        yield served


def _box(page):
    return page.locator("#frame").bounding_box()


def test_keys_zoom_at_the_cross_and_the_arrows_keep_it_in_view(site, browser):
    with rating(browser, site.link("r1")) as page:
        press, whole = page.keyboard.press, _box(page)
        for _ in range(5):
            press("ArrowLeft")
        cross = at(page, 0.4, 0.5)  # five steps of a fiftieth from the middle
        press("+")
        press("+")
        large = _box(page)
        assert large["width"] / whole["width"] == pytest.approx(2.25, rel=1e-3)
        assert at(page, 0.4, 0.5) == pytest.approx(cross, abs=1)
        press("-")
        assert _box(page)["width"] / whole["width"] == pytest.approx(1.5, rel=1e-3)
        assert at(page, 0.4, 0.5) == pytest.approx(cross, abs=1)
        for _ in range(4):
            press("+")
        for _ in range(25):
            press("ArrowLeft")
        stage = page.locator("#stage").bounding_box()
        left, middle = at(page, 0, 0.5)
        assert stage["x"] <= left < stage["x"] + 60, "the left edge is in view"
        assert stage["y"] < middle < stage["y"] + stage["height"]
        press("i")
        press("0")
        assert _box(page) == whole
        page.locator("input[name=overall]").first.focus()
        press("+")  # wherever the focus is
        assert _box(page)["width"] / whole["width"] == pytest.approx(1.5, rel=1e-3)
        page.get_by_label("Comment").press_sequentially("1+1-0")  # but not in text
        assert page.get_by_label("Comment").input_value() == "1+1-0"
        assert _box(page)["width"] / whole["width"] == pytest.approx(1.5, rel=1e-3)
        for _ in range(9):
            page.locator("#frame").press("-")
        assert _box(page) == whole, "never smaller than the stage"
        query = "SELECT label FROM events ORDER BY number DESC LIMIT 1"
        becomes(
            page,
            lambda: [row["label"] for row in site.store.read(query)],
            lambda found: found and '"implausible_points": [[0.0, 400.0]]' in found[0],
            "a mark at the left edge",
        )


def test_a_mark_can_be_deleted_while_one_is_chosen(site, browser):
    with rating(browser, site.link("r1")) as page:
        delete = page.get_by_role("button", name="Delete mark")
        assert delete.is_disabled()
        page.mouse.click(*at(page, 0.5, 0.5))
        assert delete.is_enabled()
        page.keyboard.press("Escape")
        assert delete.is_disabled()
        page.keyboard.press("n")
        delete.click()
        assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
        assert delete.is_disabled()
        page.keyboard.press("i")  # the image has the keys again
        assert page.locator("#count").inner_text() == "1 broken, 0 not as asked"


def test_a_skip_without_a_reason_says_why_nothing_happens(site, browser):
    with rating(browser, site.link("r1")) as page:
        dialog = page.get_by_role("dialog", name="Skip this image")
        page.get_by_role("button", name="Skip…").click()
        page.get_by_role("button", name="Skip it").click()
        assert "Please say why" in dialog.inner_text()
        page.get_by_label("Why can it not be rated?").press_sequentially("  ")
        page.keyboard.press("Enter")
        assert dialog.is_visible() and "Please say why" in dialog.inner_text()
        page.get_by_role("button", name="Go back").click()
        assert not dialog.is_visible()
        page.get_by_role("button", name="Skip…").click()
        assert "Please say why" not in dialog.inner_text()
        page.get_by_label("Why can it not be rated?").fill("too dark")
        page.keyboard.press("Enter")
        shown(page)
        assert page.evaluate("picture.naturalWidth") == 310
        page.get_by_role("button", name="Skip…").click()
        page.get_by_label("Why can it not be rated?").fill("or not")
        page.keyboard.press("Escape")  # after one that was skipped, too
        assert page.locator("#work").is_visible()
        [one] = becomes(
            page, lambda: list(site.store.answers()), len, "one image skipped"
        )
    assert (one.image, one.skipped) == ("a.png", "too dark")


def test_what_was_done_in_another_browser_is_shown(site, browser):
    link = site.link("r1")
    with rating(browser, link) as one, rating(browser, link) as other:
        other.mouse.click(*at(other, 0.5, 0.5))
        other.get_by_label("Comment").fill("from the sofa")
        query = "SELECT label FROM events ORDER BY number DESC LIMIT 1"
        becomes(
            other,
            lambda: [row["label"] for row in site.store.read(query)],
            lambda found: found and "sofa" in found[0],
            "a draft with the comment",
        )
        looked = (
            "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))"
        )
        one.evaluate(looked)
        one.get_by_text("You went on with this image in another browser").wait_for()
        assert one.locator("#count").inner_text() == "1 broken, 0 not as asked"
        assert one.get_by_label("Comment").input_value() == "from the sofa"
        one.get_by_label("Comment").fill("and from the desk")
        one.evaluate(looked)  # what is here is newer, and stays
        becomes(
            one,
            lambda: [row["label"] for row in site.store.read(query)],
            lambda found: "desk" in found[0],
            "a draft with the later comment",
        )
        assert one.get_by_label("Comment").input_value() == "and from the desk"
