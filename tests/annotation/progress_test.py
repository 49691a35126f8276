"""What a manager sees of one image, and who else sees it."""

import uuid

from tests.support import annotation_site

SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}


def test_an_image_with_its_answers_is_the_managers_alone(tmp_path):
    annotation_site.write_images(tmp_path / "pictures", {"a.png": (30, 20)})
    rows = [{"image": "a.png", "prompt": "a red cat"}]
    with annotation_site.opened(tmp_path, rows, raters=3) as site:
        manager = site.client("boss", "manager")
        for name, kind, fields in (
            ("r1", "draft", {"label": {"comment": "unfinished"}}),
            ("r2", "answer", {"label": {"scores": SCORES, "misaligned_words": [1]}}),
            ("r3", "skip", {"reason": "dark"}),
        ):
            rater = site.client(name)
            task = rater.post("/api/next", json={}).json()["assignment"]
            event = {"id": str(uuid.uuid4()), "kind": kind} | fields
            path = f"/api/assignments/{task['id']}/events"
            assert rater.post(path, json={"events": [event]}).is_success
        path = f"/api/manager/images/{task['image']['id']}"
        assert rater.get(path).status_code == 403
        assert manager.get("/api/manager/images/x").status_code == 404
        found = manager.get(path).json()
        assert manager.get(found["image"]["url"]).status_code == 200
    assert found["image"]["words"][1]["text"] == "red"
    assert (found["image"]["width"], found["image"]["radius"]) == (30, 0.05)
    answered, skipped = found["answers"]
    assert answered["rater"] == "r2" and answered["label"]["misaligned_words"] == [1]
    assert (skipped["rater"], skipped["label"]) == ("r3", None)
    assert skipped["skipped"] == "dark"
