"""What raters read before they begin, and after a practice image, in a real browser."""

import json

import pytest

from rahf.annotation import instructions, server
from tests.support import annotation_site
from tests.support.raters_page import answer, at, score, shown, watch

TEXT = """# The <b>task</b>

Look **closely**: <img src=x onerror=alert(1)>
at everything.

- one **thing**
- another

1. first
2. second
"""
SCORES = {"plausibility": 3, "alignment": 3, "aesthetics": 3, "overall": 3}
PROMPT = 'a "red" cat'


def _guide(folder, text=TEXT):
    annotation_site.write_images(folder / "told", {"cat.png": (60, 40)})
    (folder / "told/mine.md").write_text(text)
    label = {"implausible_points": [[30, 20]], "misaligned_words": [1]}
    note = "not <i>red</i>"
    row = {"image": "cat.png", "prompt": PROMPT, "label": label, "note": note}
    (folder / "told/mine.jsonl").write_text(json.dumps(row) + "\n")
    return instructions.read(
        str(folder / "told/mine.md"), str(folder / "told/mine.jsonl")
    )


@pytest.fixture
def site(tmp_path):
    """A running server with an image, and instructions of its own."""
    annotation_site.write_images(tmp_path / "pictures", {"a.png": (300, 200)})
    rows = [{"image": "a.png", "prompt": PROMPT}]
    with (
        annotation_site.opened(tmp_path, rows, guide=_guide(tmp_path)) as opened,
        annotation_site.serving(opened) as served,
    ):
        yield served


def test_instructions_come_before_the_first_image_and_on_demand(site, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    wrong, asked = watch(page), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.link("r1"))
    dialog = page.get_by_role("dialog", name="Instructions")
    dialog.wait_for()
    page.wait_for_load_state("networkidle")
    assert not [url for url in asked if "/api/next" in url], "no image yet"
    text = dialog.inner_text()
    assert "The <b>task</b>" in text and "<img src=x onerror=alert(1)>" in text
    assert "not <i>red</i>" in text
    told = page.locator("#instructions")
    assert told.locator("b").all_inner_texts() == ["closely", "thing"]
    assert told.locator("ul li").all_inner_texts() == ["one thing", "another"]
    assert told.locator("ol li").all_inner_texts() == ["first", "second"]
    assert told.locator("p").count() == 1 and not told.locator("img").count()
    example = page.locator("#examples figure")
    assert example.locator("del").all_inner_texts() == ["red"]
    circle = example.locator("circle.implausible_points")
    assert [circle.get_attribute(k) for k in ("cx", "cy", "r")] == ["30", "20", "2"]
    picture = example.locator("img").bounding_box()
    box = circle.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert middle[0] == pytest.approx(picture["x"] + picture["width"] / 2, abs=1)
    assert middle[1] == pytest.approx(picture["y"] + picture["height"] / 2, abs=1)
    assert example.locator("img").evaluate("image => image.naturalWidth") == 60
    rows = page.locator("#ends tr").all_inner_texts()
    assert rows[0].split("\t") == [
        "Plausibility", "1: badly broken", "5: nothing broken"
    ]  # fmt: skip
    page.get_by_role("button", name="Begin").click()
    shown(page)
    page.keyboard.press("?")
    assert dialog.is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Help").click()
    assert dialog.is_visible()
    assert not page.get_by_role("button", name="Begin").is_visible(), "long begun"
    page.get_by_role("button", name="Go on").click()
    page.reload()
    shown(page)
    assert not dialog.is_visible(), "they are known"
    assert not wrong
    context.close()


def test_instructions_that_changed_are_shown_again(tmp_path, browser):
    annotation_site.write_images(tmp_path / "pictures", {"a.png": (300, 200)})
    rows = [{"image": "a.png"}]
    with annotation_site.opened(tmp_path, rows) as site:
        context = browser.new_context()
        page, port = context.new_page(), 0
        for text, first in ((TEXT, True), ("Other rules.", False)):
            guide = _guide(tmp_path, text)
            site.app = server.make_app(site.api, ["127.0.0.1"], guide)
            with annotation_site.serving(site, port=port):
                port = int(site.address.rpartition(":")[2])
                page.goto(site.link("r1") if first else site.address)
                dialog = page.get_by_role("dialog", name="Instructions")
                dialog.wait_for()
                assert dialog.get_by_text("Other rules.").is_visible() != first
                page.get_by_role("button", name="Begin").click()
                shown(page)
        context.close()


@pytest.fixture
def practice(tmp_path):
    """A running server with two practice images, both of which must be met."""
    sizes = {name: (300, 200) for name in ("a.png", "b.png", "c.png")}
    annotation_site.write_images(tmp_path / "pictures", sizes)
    known = {"scores": SCORES, "implausible_points": [[150, 100]]}
    rows = [{"image": n, "prompt": PROMPT, "gold": known} for n in ("a.png", "b.png")]
    rows.append({"image": "c.png", "prompt": PROMPT})
    rules = {"qualification": 2, "gold_every": 10**9}
    with (
        annotation_site.opened(tmp_path, rows, rules=rules) as opened,
        annotation_site.serving(opened) as served,
    ):
        yield served


def _practise(page, right):
    """Answers a practice image, and reads what was expected."""
    shown(page)
    assert "A practice image" in page.locator("#practice").inner_text()
    if right:
        page.mouse.click(*at(page, 0.52, 0.5))
        score(page, 3, 3, 3, 3)
        page.get_by_role("button", name="Save and next").click()
    else:
        answer(page)
    dialog = page.get_by_role("dialog", name="Right" if right else "Not quite")
    dialog.wait_for()
    figures = dialog.locator("figure")
    marks = [figures.nth(n).locator("circle.implausible_points") for n in (0, 1)]
    assert [each.count() for each in marks] == [int(right), 1]
    assert marks[1].get_attribute("cx") == "150"
    page.get_by_role("button", name="Go on").click()


@pytest.mark.parametrize("passes", [True, False])
def test_practice_and_its_result(practice, browser, passes):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    wrong = watch(page)
    page.goto(practice.link("r1"))
    page.get_by_role("button", name="Begin").click()
    shown(page)
    assert "0 of 2 done, 0 met" in page.locator("#progress").inner_text()
    _practise(page, True)
    page.get_by_text("1 of 2 done, 1 met").wait_for()
    _practise(page, passes)
    if passes:
        page.locator("#practice").wait_for(state="hidden")
        shown(page)
        page.get_by_text("2 done").wait_for()
        page.get_by_role("button", name="Back").click()
        page.get_by_text("A practice image, met.").wait_for()
        assert page.locator("#controls").get_attribute("inert") is not None
        assert page.locator("#marks .guess").count() == 1
    else:
        page.get_by_text("1 of your answers to 2 practice images").wait_for()
        assert not page.locator("#work").is_visible()
        page.reload()
        page.get_by_text("1 of your answers to 2 practice images").wait_for()
        manager = browser.new_context().new_page()
        manager.goto(practice.link("boss", "manager"))
        row = manager.locator("tr", has_text="r1")
        row.get_by_text("paused: 1 of 2 practice images, below 60%").wait_for()
        row.get_by_role("button", name="Let go on").click()
        row.get_by_text("at work").wait_for()
        manager.context.close()
        page.reload()
        shown(page)
        assert not page.locator("#practice").is_visible()
    assert not wrong
    context.close()
