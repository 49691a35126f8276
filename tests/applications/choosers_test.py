"""Which models had a hand in images, as their folders say."""

import json

from rahf.applications.choosers import Chooser, chosen_by, find_choosers


def _folder(path, request):
    path.mkdir()
    (path / "request.json").write_text(json.dumps(request))
    return path


def test_folders_that_name_models(tmp_path):
    mended = _folder(tmp_path / "mended", {"made_by": {"checkpoint": "files:1"}})
    tuned = _folder(tmp_path / "tuned", {"made_by": {"chosen_by": ["files:1", "x:2"]}})
    chosen = _folder(tmp_path / "chosen", {"command": "select", "control": False})
    row = {"checkpoint": "/runs/x, step 5", "checkpoint_digest": "files:3"}
    (chosen / "manifest.jsonl").write_text(json.dumps(row) + "\nnot read\n")
    places = [
        f"{mended}/0.png",
        f"{mended}/1.png",
        f"{tuned}/0.png",
        f"{chosen}/images/0.png",
        f"{chosen}/shards/00000.tar#bytes=3+4",
        f"{tmp_path}/elsewhere/0.png",
        "gs://bucket/chosen/0.png",
    ]
    assert find_choosers(places) == [
        Chooser(mended / "request.json", "files:1"),
        Chooser(tuned / "request.json", "files:1"),
        Chooser(tuned / "request.json", "x:2"),
        Chooser(chosen / "manifest.jsonl", "files:3", "/runs/x, step 5"),
    ]


def test_digests_decide_and_names_where_they_cannot(tmp_path):
    chooser = Chooser(tmp_path, "files:1", "/runs/x, step 5")
    made_by = lambda name, digest: {"checkpoint": name, "checkpoint_digest": digest}
    assert chooser.is_model(made_by("/moved/x, step 5", "files:1"))
    assert chooser.is_model(made_by("/runs/x, step 5", "files:2")) is False
    assert chooser.is_model(made_by("/runs/x, step 5", "arrays:1"))
    assert chooser.is_model(made_by("/runs/y, step 5", None)) is False
    assert Chooser(tmp_path, "files:1").is_model(made_by("/runs/x", "arrays:1")) is None
    assert chooser.is_model({}) is None


def test_what_a_generator_learned_from(tmp_path, monkeypatch):
    chosen = _folder(tmp_path / "chosen", {"command": "select", "control": False})
    (chosen / "images").mkdir()
    (chosen / "manifest.jsonl").write_text('{"checkpoint_digest": "files:3"}\n')
    control = _folder(tmp_path / "control", {"command": "select", "control": True})
    monkeypatch.chdir(tmp_path)
    assert chosen_by(["chosen/images"]) == {"chosen_by": ["files:3"]}
    assert chosen_by([f"{chosen}/shards/{{00000..00002}}.tar"]) == {
        "chosen_by": ["files:3"]
    }
    assert chosen_by([str(control), "gone"]) == chosen_by([]) == {}
