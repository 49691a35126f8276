"""What the annotation server answers, and whom it refuses."""

import io
import json
import subprocess
import time
import types
import uuid

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.annotation import http_guard, page_images, rater_agreement, task_files, tokens
from tests.support import annotation_site
from tests.support.full_database import limit_pages

SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}
LABEL = {"scores": SCORES, "implausible_points": [[9000, 10.5]]}
MARKUP = "a <b>yellow</b> cat"


@pytest.fixture
def site(tmp_path):
    """Two images, for one rater each, and a picture that nobody lists."""
    sizes = {"a.png": (10_000, 40), "b.webp": (30, 40)}
    annotation_site.write_images(tmp_path / "pictures", sizes)
    annotation_site.write_images(tmp_path, {"secret.png": (30, 40)})
    guess = {"misaligned_words": [1]}
    rows = [{"image": name, "prompt": MARKUP, "guess": guess} for name in sizes]
    with annotation_site.opened(tmp_path, rows) as opened:
        yield opened


def _event(kind="answer", **fields):
    label = None if kind == "skip" else LABEL
    return {"id": str(uuid.uuid4()), "kind": kind, "label": label} | fields


def _next(client):
    return client.post("/api/next", json={}).json()["assignment"]


def _send(client, id_, *events):
    path = f"/api/assignments/{id_}/events"
    return client.post(path, json={"events": list(events)})


def test_a_rater_labels_and_the_manager_exports(site):
    rater, manager = site.client("r1"), site.client("boss", "manager")
    task = _next(rater)
    assert task["prompt"] == MARKUP
    assert task["guess"] is None, "hidden unless asked for"
    assert [word["text"] for word in task["words"]] == ["a", "<b>yellow</b>", "cat"]
    assert (task["image"]["width"], task["image"]["height"]) == (10_000, 40)
    picture = rater.get(task["image"]["url"])
    assert Image.open(io.BytesIO(picture.content)).size == (2048, 8)
    event = _event(seconds=12.5)
    for _ in range(2):  # a resend is acknowledged and counts once
        sent = _send(rater, task["id"], event)
        assert sent.json()["saved"] == [event["id"]] and sent.status_code == 200
    [row] = map(json.loads, manager.get("/api/manager/export").text.splitlines())
    assert row["implausible_points"] == [[0.9, 10.5 / 40]] and row["rater"] == "r1"
    assert rater.get("/api/me").json()["progress"]["mine"] == 1
    again = rater.get(f"/api/assignments/{task['id']}").json()["assignment"]
    assert again["state"] == "answered" and again["draft"]["scores"] == SCORES
    assert _send(rater, _next(rater)["id"], _event("skip", reason="dark")).is_success
    states = rater.get("/api/assignments").json()["assignments"]
    assert [one["state"] for one in states] == ["answered", "skipped"]
    assert rater.post("/api/next", json={}).json()["reason"] == "done"


def test_nobody_without_a_token_sees_anything(site):
    rater, stranger = site.client("r1"), site.client("", login=False)
    url = _next(rater)["image"]["url"]
    for path in (url, "/api/me", "/api/assignments", "/api/manager/export"):
        assert stranger.get(path).json()["error"] == "no_session"
    assert rater.get("/api/manager/export").json()["error"] == "not_manager"
    other = site.client("r2")
    assert other.get(url).status_code == 404, "an image that is not theirs"
    assert other.get(f"/api/assignments/{_next(rater)['id']}").status_code == 404
    site.tokens.revoke("r1")
    assert rater.get("/api/me").status_code == 401
    wrong = stranger.post("/api/session", json={"token": "x" * 43})
    assert wrong.json()["error"] == "unknown_token"


def test_tokens_are_guessed_slowly_and_kept_as_hashes(site):
    stranger, token = site.client("", login=False), site.tokens.make("r9", "rater")
    assert token not in (site.store.path.parent / tokens.FILE).read_text()
    tries = [stranger.post("/api/session", json={"token": "x"}) for _ in range(22)]
    assert tries[-1].status_code == 429 and tries[-1].headers["retry-after"]


def test_other_hosts_and_other_sites_are_refused(site):
    rater = site.client("r1")
    get = rater.get("/api/me", headers={"host": "evil.example"})
    assert get.json()["error"] == "bad_host"
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ):
        post = rater.post("/api/next", json={}, headers=headers)
        assert post.json()["error"] == "cross_site", headers
    for headers in ({"origin": "http://localhost"}, {"sec-fetch-site": "same-origin"}):
        assert rater.post("/api/next", json={}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/images/../secret.png",
        "/images/%2e%2e%2fsecret.png",
        "/images/a.png",
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2fetc%2fpasswd",
        "/page/server.py",
    ],
)
def test_no_path_reaches_a_file(site, path):
    assert site.client("r1").get(path).status_code == 404


def test_a_listed_image_cannot_lie_outside(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "out.png")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "out.png")
    for name in ("../out.png", "link.png", str(tmp_path / "out.png")):
        listed = tmp_path / "images.jsonl"
        listed.write_text(json.dumps({"image": name}) + "\n")
        with pytest.raises(ValueError, match="line 1: .*inside"):
            list(task_files.read_tasks(listed, tmp_path / "in"))


def test_every_answer_has_a_policy_without_inline_scripts(site):
    for path in ("/", "/api/me", "/images/x"):
        policy = (
            site.client("", login=False).get(path).headers["content-security-policy"]
        )
        assert "default-src 'none'" in policy and "unsafe" not in policy
    cookie = site.client("", login=False).post(
        "/api/session", json={"token": site.tokens.make("r1", "rater")}
    )
    flags = cookie.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags


def test_bad_bodies_are_refused(site):
    rater = site.client("r1")
    id_ = _next(rater)["id"]
    path = f"/api/assignments/{id_}/events"
    assert rater.post(path, content=b"{}").json()["error"] == "not_json"
    big = {"events": ["x" * http_guard.MAX_BODY]}
    assert rater.post(path, json=big).json()["error"] == "too_large"
    kind = {"content-type": "application/json"}
    for text in (b"[" * 100_000, b"{", b"[]"):
        assert (
            rater.post(path, content=text, headers=kind).json()["error"] == "bad_json"
        )
    for field, event in (
        ("id", _event(id="short")),
        ("kind", _event(kind="delete")),
        ("seconds", _event(seconds=-1)),
        ("reason", _event("skip", reason="")),
        ("events", _event(colour=1)),
        ("scores", _event(label={"nothing_wrong": True})),
    ):
        found = _send(rater, id_, event).json()
        assert (found["error"], found["field"]) == ("bad_label", field)


def test_a_full_disk_and_a_pause_are_said(site):
    rater, manager = site.client("r1"), site.client("boss", "manager")
    id_ = _next(rater)["id"]
    limit_pages(site.store, 0)
    long = {"comment": "x" * 2000}
    events = [_event("draft", label=long) for _ in range(50)]
    full = _send(rater, id_, *events)
    assert (full.status_code, full.json()["error"]) == (507, "disk_full")
    limit_pages(site.store, 100_000)
    assert _send(rater, id_, *events).status_code == 200
    assert manager.post("/api/manager/raters/r1", json={"paused": True}).is_success
    assert rater.post("/api/next", json={}).json()["error"] == "paused"
    assert rater.get("/api/me").json()["paused"] is True
    manager.post("/api/manager/raters/r1", json={"paused": False})
    assert _next(rater)["id"] == id_


def test_the_manager_sends_an_image_out_again(site):
    rater, manager, other = (
        site.client("r1"),
        site.client("boss", "manager"),
        site.client("r2"),
    )
    for _ in range(2):
        task = _next(rater)
        _send(
            rater, task["id"], _event(label={**LABEL, "implausible_points": [[1, 1]]})
        )
    assert _next(other) is None
    image = task["image"]["id"]
    path = f"/api/manager/images/{image}/again"
    assert rater.post(path, json={"raters": 1}).status_code == 403
    assert manager.post(path, json={"raters": 1}).is_success
    assert _next(other)["image"]["id"] == image


def test_the_manager_sees_progress_and_disputes(site, monkeypatch):
    def run(words, **options):  # in this process, which is quicker
        del options
        found = json.dumps(rater_agreement.measure(site.store))
        return subprocess.CompletedProcess(words, 0, found)

    monkeypatch.setattr(rater_agreement.subprocess, "run", run)
    manager = site.client("boss", "manager")
    image = ""
    for name, score in (("r1", 1), ("r2", 3)):
        rater = site.client(name)
        task = _next(rater)
        label = {"scores": SCORES | {"overall": score}, "nothing_wrong": True}
        event = _event(label=label, seconds=8.0)
        assert _send(rater, task["id"], event).is_success
        pace = rater.get("/api/me").json()["pace"]
        assert pace == {"median_seconds": 8, "per_hour": 450}
        image = task["image"]["id"]
        if name == "r1":
            path = f"/api/manager/images/{image}/again"
            manager.post(path, json={"raters": 1})
            site.store.read("UPDATE images SET position = -1 WHERE id = ?", image)
            other = "UPDATE images SET wanted = 0 WHERE id != ?"
            site.store.read(other, image)
    seen = manager.get("/api/manager/status").json()
    assert (seen["images"], seen["complete"], seen["answers"]) == (2, 2, 2)
    assert [rater["name"] for rater in seen["raters"]] == ["r1", "r2"]
    assert seen["per_hour"] == 2
    for rater in seen["raters"]:
        assert (rater["median_seconds"], rater["per_hour"]) == (8, 450)
        assert rater["gold"] == {"right": 0, "of": 0} and rater["qualified"]
        assert rater["pause_reason"] is None and rater["agreement"] == {}
    assert seen["agreement"]["running"] and seen["agreement"]["error"] is None
    [disputed] = seen["disputed"]
    assert (disputed["image_id"], disputed["spread"]) == (image, 2)
    assert site.client("r3").get("/api/manager/status").status_code == 403
    for _ in range(200):
        seen = manager.get("/api/manager/status").json()
        if not seen["agreement"]["running"]:
            break
        time.sleep(0.1)
    assert (
        seen["raters"][0]["agreement"]["deviation"] == 0.5
    )  # of four scores, one by 2


def test_a_rate_limit_recovers():
    limit = http_guard.RateLimit(rate=2, burst=3)
    assert [limit.passes("a", now=0) for _ in range(4)] == [True, True, True, False]
    assert limit.passes("b", now=0)
    assert [limit.passes("a", now=1) for _ in range(3)] == [True, True, False]


def test_a_page_gets_images_ahead_and_hears_what_is_gone(site):
    rater = site.client("r1")
    held = [_next(rater)["id"]]
    body = {"holding": [*held, "unknown"], "rater": "r1"}
    found = rater.post("/api/next", json=body).json()
    assert found["assignment"]["id"] not in held and found["gone"] == ["unknown"]
    held.append(found["assignment"]["id"])
    found = rater.post("/api/next", json={"holding": held}).json()
    assert (found["assignment"], found["reason"]) == (None, "done")
    other = site.client("r2").post("/api/next", json={})
    assert other.json()["reason"] == "wait", "r1 may let them go"
    for wrong in ("x", [1], ["x"] * 101):
        answer = rater.post("/api/next", json={"holding": wrong})
        assert answer.json()["error"] == "bad_json"


def test_what_another_raters_page_sends_is_refused(site):
    rater = site.client("r1")
    task = _next(rater)
    for path, body in (
        ("/api/next", {}),
        (f"/api/assignments/{task['id']}/events", {"events": [_event()]}),
    ):
        answer = rater.post(path, json=body | {"rater": "r2"})
        assert (answer.status_code, answer.json()["error"]) == (401, "no_session")
    assert not list(site.store.answers())


def test_a_rater_who_sends_too_much_is_slowed_down_alone(site, monkeypatch):
    now = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(http_guard, "time", clock)
    rater, other = site.client("r1"), site.client("r2")
    task = _next(rater)
    codes = [_send(rater, task["id"], _event("draft")).status_code for _ in range(202)]
    assert codes == [200] * 199 + [429] * 3, "two hundred at once"
    answer = rater.get("/api/me")
    assert answer.json()["error"] == "rate_limited" and answer.headers["retry-after"]
    assert other.get("/api/me").status_code == 200
    now[0] += 1
    codes = [rater.get("/api/me").status_code for _ in range(102)]
    assert codes == [200] * 100 + [429] * 2, "then a hundred a second"
    rows = site.store.read("SELECT COUNT(*) FROM events")
    assert rows[0][0] == 199, "what was refused was not kept"


def test_practice_shows_what_was_expected_and_cannot_be_changed(tmp_path):
    sizes = {"a.png": (30, 40), "b.png": (30, 40), "c.png": (30, 40)}
    annotation_site.write_images(tmp_path / "pictures", sizes)
    known = {"scores": SCORES, "misaligned_words": [1]}
    rows = [{"image": n, "prompt": MARKUP, "gold": known} for n in ("a.png", "b.png")]
    rows.append({"image": "c.png", "prompt": MARKUP})
    rules = {"qualification": 2}
    with annotation_site.opened(tmp_path, rows, rules=rules) as site:
        rater, manager = site.client("r1"), site.client("boss", "manager")
        wrong = {"scores": SCORES, "nothing_wrong": True}
        for done, label in enumerate((known, wrong)):
            me = rater.get("/api/me").json()
            found = {"done": done, "passed": done, "needed": 2, "least": 2}
            assert me["qualification"] == found and not me["qualified"]
            task = _next(rater)
            assert task["qualification"] and task["result"] is None
            event = _event(label=label)
            assert _send(rater, task["id"], event).is_success
            path = f"/api/assignments/{task['id']}"
            result = rater.get(path).json()["assignment"]["result"]
            assert result["right"] == (done == 0)
            assert result["expected"]["misaligned_words"] == [1]
            assert _send(rater, task["id"], event).is_success, "sent again"
            changed = _send(rater, task["id"], _event(label=known))
            assert (changed.status_code, changed.json()["error"]) == (409, "final")
        refused = rater.post("/api/next", json={})
        assert refused.json()["error"] == "paused"
        assert "1 of your answers to 2 practice images" in refused.json()["message"]
        [seen] = manager.get("/api/manager/status").json()["raters"]
        assert seen["pause_reason"] == "1 of 2 practice images, below 60%"
        assert seen["practice"] == {"right": 1, "of": 2, "needed": 2}
        assert seen["paused"] and not seen["qualified"]
        manager.post("/api/manager/raters/r1", json={"paused": False})
        task = _next(rater)
        assert not task["qualification"] and task["result"] is None
        assert rater.get("/api/me").json()["qualified"]


@pytest.mark.parametrize("field", ["gold", "guess"])
def test_fractions_in_place_of_pixels_are_refused(tmp_path, field):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    label = {"implausible_points": [[0.5, 0.25], [1.0, 0.1]], "scores": SCORES}
    listed = tmp_path / "images.jsonl"
    listed.write_text(json.dumps({"image": "a.png", field: label}))
    with pytest.raises(ValueError, match=f"line 1: {field}: .*expected pixels"):
        list(task_files.read_tasks(listed, tmp_path))
    label["implausible_points"].append([40, 30])
    listed.write_text(json.dumps({"image": "a.png", field: label}))
    assert len(list(task_files.read_tasks(listed, tmp_path))) == 1


@pytest.mark.parametrize("name", ["./a.png", "../x/a.png", "b/../a.png", "/tmp/a.png"])
def test_an_image_has_one_name(tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    listed = tmp_path / "images.jsonl"
    listed.write_text(json.dumps({"image": name}))
    with pytest.raises(ValueError, match="written in one way only"):
        list(task_files.read_tasks(listed, tmp_path))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_picture_is_not_sent_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    pictures = page_images.PageImages(tmp_path)
    assert len(pictures.encode(path.name, 2048)[0]) == path.stat().st_size
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(images.ImageError):
        pictures.encode(path.name, 2048)
