"""The manager's page in a real browser: what raters said about an image, and asking on."""

import pytest

from rahf.annotation import store
from rahf.annotation.records import Feedback
from tests.support import annotation_site
from tests.support.raters_page import watch

PROMPT = 'a "red" <b>cat</b>'
LABELS = {
    "r1": Feedback(
        implausible_points=((150, 100),),
        misaligned_words=(1,),
        scores={"plausibility": 1, "overall": 2},
        comment="no <i>tail</i>",
    ),
    "r2": Feedback(
        misaligned_points=((60, 50), (200, 150)),
        misaligned_words=(1, 2),
        scores={"plausibility": 3, "overall": 2},
    ),
    "r3": None,
}


@pytest.fixture
def site(tmp_path):
    """A running server with an image on which two raters disagree; a third skipped."""
    annotation_site.write_images(tmp_path / "pictures", {"a.png": (300, 200)})
    rows = [{"image": "a.png", "prompt": PROMPT}]
    with (
        annotation_site.opened(tmp_path, rows, raters=3) as opened,
        annotation_site.serving(opened) as served,
    ):
        for name, label in LABELS.items():
            client = served.client(name)
            taken = client.post("/api/next", json={}).json()["assignment"]["id"]
            kind, reason = ("answer", None) if label else ("skip", "too dark")
            event = store.Event(id="12345678", kind=kind, label=label, reason=reason)
            served.store.save(taken, name, [event], lease=100)
        yield served


def test_an_image_is_shown_with_what_each_rater_said(site, browser):
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    wrong = watch(page)
    page.goto(site.link("boss", "manager"))
    page.get_by_role("button", name="a.png").click()
    dialog = page.get_by_role("dialog", name="a.png")
    dialog.wait_for()
    figures = dialog.locator("figure")
    titles = figures.locator("h3").all_inner_texts()
    assert titles == ["Everybody", "r1", "r2"]
    for kind, counts in (
        ("implausible_points", [1, 1, 0]),
        ("misaligned_points", [2, 0, 2]),
    ):
        circles = [figures.nth(n).locator(f"circle.{kind}") for n in range(3)]
        assert [one.count() for one in circles] == counts
    circle, picture = (
        figures.nth(1).locator(one).bounding_box()
        for one in ("circle.implausible_points", "img")
    )
    middle = [circle["x"] + circle["width"] / 2, circle["y"] + circle["height"] / 2]
    assert middle[0] == pytest.approx(picture["x"] + picture["width"] / 2, abs=1)
    assert middle[1] == pytest.approx(picture["y"] + picture["height"] / 2, abs=1)
    strokes = {
        kind: figures.nth(0)
        .locator(f"circle.{kind}")
        .first.evaluate("one => getComputedStyle(one).stroke")
        for kind in ("implausible_points", "misaligned_points")
    }
    assert len(set(strokes.values())) == 2, strokes
    struck = [figures.nth(n).locator("del").all_inner_texts() for n in range(3)]
    assert struck == [["red", "<b>cat</b>"], ["red"], ["red", "<b>cat</b>"]]
    assert "red: 2 of 2; <b>cat</b>: 1 of 2" in figures.nth(0).inner_text()
    assert "Scores: plausibility 1, overall 2" in figures.nth(1).inner_text()
    assert "no <i>tail</i>" in figures.nth(1).inner_text()
    assert "r3 skipped it: too dark" in dialog.inner_text()
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible() and not wrong
    page.context.close()


def test_a_phone_shows_the_managers_page_whole(site, browser):
    phone = {"has_touch": True, "is_mobile": True}
    size = {"width": 390, "height": 844}
    page = browser.new_context(viewport=size, **phone).new_page()
    page.goto(site.link("boss", "manager"))
    page.get_by_role("button", name="a.png").tap()
    page.get_by_role("dialog", name="a.png").wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "tables scroll by themselves"
    box = page.get_by_role("dialog", name="a.png").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.context.close()


def test_asking_one_more_shows_in_the_row(site, browser):
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(site.link("boss", "manager"))
    row = page.locator("#disputed tr")
    row.get_by_text("2, 1 to come").wait_for()
    row.get_by_role("button", name="Ask one more").click()
    row.get_by_text("2, 2 to come").wait_for()
    page.keyboard.press("Enter")  # the button still has the focus
    row.get_by_text("2, 3 to come").wait_for()
    assert site.client("r4").post("/api/next", json={}).json()["assignment"]
    page.reload()
    row.get_by_text("2, 1 at work, 2 to come").wait_for()
    page.context.close()
