"""Fingers on the image: the loupe, and two of them that zoom."""

import numpy as np
import pytest
from PIL import Image

from tests.support import annotation_site
from tests.support.raters_page import at, rating, saved, score, until

WIDTH, HEIGHT = 1200, 800
# Squares of 40 pixels, each of its own colour.
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3))
DEVICES = {
    "phone": (390, 844, {"has_touch": True, "is_mobile": True}),
    "tablet": (820, 1180, {"has_touch": True, "is_mobile": True}),
}


@pytest.fixture(params=DEVICES)
def page(request, tmp_path, browser):
    """A rater's page on a phone and on a tablet, its fingers, and the database."""
    pixels = COLOURS.repeat(40, 0).repeat(40, 1).astype(np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    width, height, options = DEVICES[request.param]
    with (
        annotation_site.opened(tmp_path, [{"image": "a.png"}]) as opened,
        annotation_site.serving(opened) as site,
        rating(browser, site.link("r1"), width, height, options=options) as shown,
    ):
        session = shown.context.new_cdp_session(shown)

        def touch(kind, *fingers):
            points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(fingers)]
            event = {"type": f"touch{kind}", "touchPoints": points}
            session.send("Input.dispatchTouchEvent", event)

        yield shown, touch, site.store


# The colour in the middle of the loupe.
LOUPE = "[...loupe.getContext('2d').getImageData(72, 72, 1, 1).data.slice(0, 3)]"


def test_a_loupe_shows_what_the_finger_hides(page):
    page, touch, _ = page
    loupe = page.locator("#loupe")
    assert not loupe.is_visible()
    for kind, x, y in (
        ("Start", 0.51, 0.71),
        ("Move", 0.31, 0.41),
        ("Move", 0.117, 0.125),
    ):
        finger = at(page, x, y)
        touch(kind, finger)
        red, green, blue = COLOURS[int(y * HEIGHT / 40), int(x * WIDTH / 40)]
        until(page, f"String({LOUPE}) === '{red},{green},{blue}'")
        assert loupe.is_visible()
        box = loupe.bounding_box()
        inside = box["y"] - 20 < finger[1] < box["y"] + box["height"] + 20
        assert not inside, "the finger is on the loupe"
    touch("End")
    assert not loupe.is_visible()
    assert page.locator("#count").inner_text() == "1 broken, 0 not as asked"


def test_a_mouse_needs_no_loupe(page):
    page, _, _ = page
    page.mouse.move(*at(page, 0.5, 0.5))
    page.mouse.down()
    assert page.locator("#count").is_visible()
    assert not page.locator("#loupe").is_visible()
    page.mouse.up()


def test_two_fingers_zoom_and_mark_nothing(page):
    page, touch, opened = page
    before = page.locator("#frame").bounding_box()
    x, y = at(page, 0.4, 0.6)
    touch("Start", (x - 30, y))
    touch("Start", (x - 30, y), (x + 30, y))
    for apart in range(35, 95, 5):
        touch("Move", (x - apart, y), (x + apart, y))
    touch("End", (x - 90, y))
    touch("End")
    after = page.locator("#frame").bounding_box()
    assert after["width"] / before["width"] == pytest.approx(3, rel=0.05)
    kept = at(page, 0.4, 0.6)
    assert np.hypot(kept[0] - x, kept[1] - y) < 8, "what was between the fingers stays"
    assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
    assert not page.locator("#loupe").is_visible()
    # A mark on the enlarged image lies where it was put.
    page.touchscreen.tap(x + 20, y + 10)
    score(page, 2, 2, 2, 2)
    page.get_by_role("button", name="Save and next").click()
    [answer] = saved(opened, 1)
    [[mark_x, mark_y]] = answer.label.implausible_points
    scale = WIDTH / after["width"]
    assert mark_x == pytest.approx((x + 20 - after["x"]) * scale, abs=1)
    assert mark_y == pytest.approx((y + 10 - after["y"]) * scale, abs=1)


def test_two_fingers_move_the_enlarged_image_and_shrink_it(page):
    page, touch, _ = page
    whole = page.locator("#frame").bounding_box()
    x, y = at(page, 0.5, 0.5)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)  # the wheel does the same
    until(page, f"frame.getBoundingClientRect().width > {2.7 * whole['width']}")
    large = page.locator("#frame").bounding_box()
    assert large["width"] / whole["width"] == pytest.approx(np.e, rel=0.01)
    touch("Start", (x - 40, y))
    touch("Start", (x - 40, y), (x + 40, y))
    for step in range(1, 11):
        touch("Move", (x - 40 + 3 * step, y), (x + 40 + 3 * step, y))
    moved = page.locator("#frame").bounding_box()
    assert moved["x"] - large["x"] == pytest.approx(30, abs=6)
    for step in range(1, 20):
        touch("Move", (x - 10 + 2 * step, y), (x + 70 - 2 * step, y))
    touch("End")
    assert page.locator("#frame").bounding_box() == whole, (
        "never smaller than the stage"
    )
    assert page.locator("#count").inner_text() == "0 broken, 0 not as asked"
