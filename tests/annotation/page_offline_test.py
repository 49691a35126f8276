"""Work without a connection, and in two tabs, in a real browser."""

import contextlib

import pytest

from tests.support import annotation_site
from tests.support.raters_page import (
    answer,
    at,
    at_rest,
    becomes,
    rating,
    saved,
    score,
    shown,
    until,
    watch,
)

SIZES = {f"{name}.png": (300 + 10 * n, 200) for n, name in enumerate("abcde")}


@pytest.fixture
def site(tmp_path):
    """A running server with five images for a rater each."""
    annotation_site.write_images(tmp_path / "pictures", SIZES)
    rows = [{"image": name, "prompt": "a cat"} for name in SIZES]
    with (
        annotation_site.opened(tmp_path, rows) as opened,
        annotation_site.serving(opened) as served,
    ):
        yield served


def _ahead(page, site, count):
    """Waits until the page has so many images ahead, whole."""
    query = (
        "SELECT i.id FROM assignments a JOIN images i ON i.id = a.image "
        "WHERE a.state = 'open'"
    )
    held = becomes(
        page,
        lambda: [row["id"] for row in site.store.read(query)],
        lambda found: len(found) == count + 1,
        f"{count + 1} open assignments",
    )
    entries = (
        "performance.getEntriesByType('resource').filter((one) => one.responseEnd)"
    )
    for id_ in held:
        until(page, f"{entries}.some((one) => one.name.includes('{id_}'))")


def test_work_goes_on_through_two_more_images(site, browser):
    with rating(browser, site.link("r1")) as page:
        _ahead(page, site, 2)
        page.context.set_offline(True)
        sizes = []
        for done in range(3):
            shown(page)
            if done:  # another image is there, whole, and its own
                sizes.append(page.evaluate("picture.naturalWidth"))
            page.mouse.click(*at(page, 0.5, 0.25 * (done + 1)))
            score(page, done + 1, 2, 2, 2)
            page.get_by_role("button", name="Save and next").click()
        page.get_by_text("The next image comes when it is back").wait_for()
        assert sizes == [310, 320]
        assert not list(site.store.answers())
        page.context.set_offline(False)
        given = saved(site.store, 3)
        shown(page)
        assert page.evaluate("picture.naturalWidth") == 330
        page.get_by_text("3 done").wait_for()
        for _ in range(2):
            answer(page)
            page.locator("#work:not([inert])").wait_for(state="attached")
        page.get_by_text("That was the last image").wait_for()
    assert [one.image for one in given] == ["a.png", "b.png", "c.png"]
    for done, one in enumerate(given):
        [[x, y]] = one.label.implausible_points
        width, height = SIZES[one.image]
        assert abs(x - width / 2) <= 1 and abs(y - height * (done + 1) / 4) <= 1
        assert one.label.scores["plausibility"] == done + 1
    assert len(saved(site.store, 5)) == 5
    [[doubles]] = site.store.read(
        "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE kind = 'answer' "
        "GROUP BY assignment HAVING COUNT(*) > 1)"
    )
    assert doubles == 0


def test_what_a_server_refused_for_now_is_sent_again_by_itself(site, browser):
    with rating(browser, site.link("r1")) as page:
        busy = {"error": "disk_full", "message": "The server's disk is full."}
        page.route("**/events", lambda route: route.fulfill(status=507, json=busy))
        page.mouse.click(*at(page, 0.5, 0.5))
        page.locator("#connection.lost").wait_for()
        assert "disk is full" in page.locator("#connection").inner_text()
        assert not site.store.read("SELECT 1 FROM events")
        page.unroute("**/events")  # and without a further action
        becomes(
            page,
            lambda: len(site.store.read("SELECT 1 FROM events")),
            lambda count: count == 1,
            "one event",
        )
        page.locator("#connection:not(.lost)").wait_for()


def test_back_and_forth_needs_no_connection_for_what_is_near(site, browser):
    with rating(browser, site.link("r1")) as page:
        page.mouse.click(*at(page, 0.5, 0.5))
        score(page, 1, 2, 3, 4)
        page.get_by_role("button", name="Save and next").click()
        shown(page)
        page.mouse.click(*at(page, 0.2, 0.2))  # begun, not finished
        saved(site.store, 1)
        _ahead(page, site, 2)
        page.context.set_offline(True)
        page.get_by_role("button", name="Back").click()
        page.locator("#forward:enabled").wait_for()
        assert page.locator("#scores input:checked").count() == 4
        page.get_by_label("Comment").fill("seen again")
        page.get_by_role("button", name="Save and next").click()
        shown(page)
        assert page.evaluate("picture.naturalWidth") == 310, "the unfinished one"
        assert page.locator("#count").inner_text() == "1 broken, 0 not as asked"
        page.context.set_offline(False)
        [one] = becomes(
            page,
            lambda: list(site.store.answers()),
            lambda found: found[0].label.comment == "seen again",
            "one answer with the comment 'seen again'",
        )
    assert one.image == "a.png"


def test_what_expired_ahead_and_went_to_others_is_not_shown(site, browser):
    with rating(browser, site.link("r1")) as page:
        _ahead(page, site, 2)
        site.store.read("UPDATE assignments SET until = 0 WHERE number > 0")
        other = site.client("r2")
        held = []
        for _ in range(2):
            body = {"holding": held}
            held.append(other.post("/api/next", json=body).json()["assignment"]["id"])
        query = "SELECT image FROM assignments WHERE rater = 'r2'"
        taken = {row[0] for row in site.store.read(query)}
        # The server tells at the next request, which may be before b is shown or after.
        answer(page)
        for _ in range(3):
            at_rest(page)
            if page.locator("#work").is_visible():
                answer(page)
        page.get_by_text("Others are at work").wait_for()
    query = (
        "SELECT image, COUNT(*) FROM assignments WHERE state IN ('open', 'answered') "
        "GROUP BY image HAVING COUNT(*) > 1"
    )
    assert not site.store.read(query), "an image has more raters than wanted"
    assert len(taken) == 2 and len(saved(site.store, 3)) == 3


def test_a_closed_pages_work_is_sent_by_the_next(site, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(site.link("r1"))
    page.get_by_role("button", name="Begin").click()
    shown(page)
    context.set_offline(True)
    page.mouse.click(*at(page, 0.5, 0.5))
    score(page, 1, 2, 3, 4)
    page.get_by_role("button", name="Save and next").click()
    page.locator("#connection.lost").wait_for()
    page.close()
    context.set_offline(False)
    page = context.new_page()
    wrong = watch(page)
    page.goto(site.address)
    [one] = saved(site.store, 1)
    shown(page)
    assert not wrong and not page.get_by_role("button", name="Begin").is_visible()
    assert one.label.scores["overall"] == 4 and one.label.implausible_points
    assert page.evaluate("picture.naturalWidth") == 310
    context.close()


@contextlib.contextmanager
def _two_tabs(browser, site):
    with rating(browser, site.link("r1")) as first:
        second = first.context.new_page()
        wrong = watch(second)
        second.goto(site.address)
        second.get_by_text("Your work is open in another tab.").wait_for()
        yield first, second
        assert not wrong


def test_two_tabs_work_one_at_a_time(site, browser):
    with _two_tabs(browser, site) as (first, second):
        first.bring_to_front()
        answer(first)
        shown(first)
        second.bring_to_front()
        second.get_by_role("button", name="Continue here").click()
        shown(second)
        first.get_by_text("You went on in another tab.").wait_for()
        assert not first.locator("#work").is_visible()
        assert second.evaluate("picture.naturalWidth") == 310
        answer(second)
        shown(second)
        first.bring_to_front()
        first.get_by_role("button", name="Continue here").click()
        shown(first)
        second.get_by_text("You went on in another tab.").wait_for()
        # The second tab's, or one that it held ahead and has not given back yet.
        assert first.evaluate("picture.naturalWidth") in (320, 330, 340)
    assert len(saved(site.store, 2)) == 2


def test_two_tabs_lose_and_double_nothing(site, browser):
    with _two_tabs(browser, site) as (first, second):
        first.bring_to_front()
        _ahead(first, site, 2)
        first.context.set_offline(True)
        answer(first, 1, 1, 1, 1)
        first.locator("#connection.lost").wait_for()
        shown(first)
        first.mouse.click(*at(first, 0.5, 0.5))  # a draft of the next
        second.bring_to_front()
        second.get_by_role("button", name="Continue here").click()
        first.get_by_text("You went on in another tab.").wait_for()
        first.context.set_offline(False)
        [one] = saved(site.store, 1)
        shown(second)
        assert second.locator("#count").inner_text() == "1 broken, 0 not as asked"
        score(second, 2, 2, 2, 2)
        second.get_by_role("button", name="Save and next").click()
        saved(site.store, 2)
        for page in (first, second):
            keys = "Object.keys(localStorage).filter((key) => key.includes('outbox'))"
            until(page, f"!{keys}.length")
    events = site.store.read("SELECT assignment, id, kind FROM events")
    answers = [row["assignment"] for row in events if row["kind"] == "answer"]
    assert len(answers) == len(set(answers)) == 2
    assert one.label.scores["overall"] == 1


def test_another_raters_session_does_not_take_the_work(site, browser):
    with rating(browser, site.link("r1")) as page:
        page.context.set_offline(True)
        page.mouse.click(*at(page, 0.5, 0.5))
        page.locator("#connection.lost").wait_for()
        body = {"token": site.link("r2").partition("token=")[2]}
        assert page.context.request.post(f"{site.address}/api/session", data=body).ok
        page.context.set_offline(False)
        page.get_by_text("This browser now belongs to r2").wait_for()
        assert page.evaluate("Object.keys(localStorage).join().includes('outbox/r1')")
    assert not site.store.read("SELECT 1 FROM events")


def test_a_page_that_is_closed_gives_back_what_it_had_ahead(site, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(site.link("r1"))
    page.get_by_role("button", name="Begin").click()
    shown(page)
    _ahead(page, site, 2)
    page.close()
    query = "SELECT number FROM assignments WHERE state = 'open'"
    still = context.new_page()  # for the time that the answer takes
    becomes(
        still,
        lambda: [row["number"] for row in site.store.read(query)],
        lambda found: found == [0],
        "only the one in work is open",
    )
    context.close()
