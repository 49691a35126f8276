"""What a rater's page is told, and what it must not tell."""

import uuid

import pytest

from tests.support import annotation_site

SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}
LABEL = {"scores": SCORES, "nothing_wrong": True}


@pytest.fixture
def site(tmp_path):
    """130 images for one rater each, and 30 with known answers; every second is one."""
    names = [f"real{n}.png" for n in range(130)] + [f"gold{n}.png" for n in range(30)]
    annotation_site.write_images(tmp_path / "pictures", dict.fromkeys(names, (8, 8)))
    rows = [
        {"image": name} | ({"gold": LABEL} if name.startswith("gold") else {})
        for name in names
    ]
    with annotation_site.opened(tmp_path, rows, rules={"gold_every": 2}) as opened:
        yield opened


def test_progress_tells_no_known_answer_from_a_real_image(site):
    rater, seen = site.client("r1"), set()
    query = (
        "SELECT i.gold IS NOT NULL AS is_gold FROM assignments a JOIN images i "
        "ON i.id = a.image WHERE a.id = ?"
    )
    for done in range(1, 21):
        before = rater.get("/api/me").json()["progress"]
        task = rater.post("/api/next", json={}).json()["assignment"]
        handed = rater.get("/api/me").json()["progress"]
        event = {"id": str(uuid.uuid4()), "kind": "answer", "label": LABEL}
        path = f"/api/assignments/{task['id']}/events"
        assert rater.post(path, json={"events": [event]}).is_success
        after = rater.get("/api/me").json()["progress"]
        assert before == handed == after | {"mine": done - 1}
        assert after == {"mine": done, "skipped": 0, "at_most": 200}
        seen.add(site.store.read(query, task["id"])[0]["is_gold"])
    assert seen == {0, 1}, "both kinds were given without a change"


def test_few_images_are_not_counted(site):
    rater = site.client("r1")
    site.store.read("UPDATE images SET wanted = 0 WHERE gold IS NULL")
    query = "UPDATE images SET wanted = 1 WHERE image IN (SELECT image FROM images "
    query += "WHERE gold IS NULL LIMIT ?)"
    site.store.read(query, 100)
    assert rater.get("/api/me").json()["progress"]["at_most"] is None
    site.store.read(query, 101)
    assert rater.get("/api/me").json()["progress"]["at_most"] == 200
