"""The procedural dataset: the same everywhere, and labelled truthfully."""

import collections
import hashlib
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rahf import words
from rahf.datasets.ratings import consolidation
from rahf.datasets.scenes import (
    Scenes,
    drawing,
    faithful_records,
    flaws,
    grammar,
    oracle,
    scenes_records,
    truth,
)


def _fingerprint(number: int = 12) -> str:
    """A hash of everything in a few records of each kind."""
    digest = hashlib.sha256()
    for difficulty in grammar.DIFFICULTIES:
        for record in Scenes("test", 72, difficulty=difficulty, num_examples=number):
            for key, value in sorted(record.items()):
                if isinstance(value, np.ndarray):
                    digest.update(np.ascontiguousarray(value).tobytes())
                else:
                    digest.update(f"{key} {json.dumps(value)}".encode())
    return digest.hexdigest()


@pytest.fixture(scope="module", params=grammar.DIFFICULTIES)
def records(request):
    return list(Scenes("test", 64, difficulty=request.param, num_examples=300))


def test_record_is_the_same_in_another_process():
    module = "tests.datasets.scenes.dataset_test"
    code = f"from {module} import _fingerprint; print(_fingerprint())"
    root = str(pathlib.Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert other.stdout.strip() == _fingerprint()


def test_record_is_the_same_for_ever():
    # If this fails after an intended change of the dataset, every result that was
    # measured on it is void: say so where the new hash is written.
    assert _fingerprint() == (
        "c8a799686611007f48f1da7ba51aa64ed5e5d03101227f11272f2c8a7e35939a"
    )


def test_record_does_not_depend_on_order_length_or_pickling():
    scenes = Scenes("dev", 64)
    copy = pickle.loads(pickle.dumps(Scenes("dev", 64, num_examples=8)))
    late, early = scenes[7], scenes[3]
    assert np.array_equal(copy[7]["image"], late["image"])
    assert copy[3]["ratings"] == early["ratings"]
    assert len(pickle.dumps(scenes)) < 500
    assert scenes[-1]["uid"] == scenes[999]["uid"]
    with pytest.raises(IndexError, match="record 1000 of 1000"):
        scenes[1000]


def test_lengths_and_bad_arguments():
    lengths = {split: len(Scenes(split, 64)) for split in ("train", "dev", "test")}
    assert lengths == {"train": 20_000, "dev": 1_000, "test": 1_000}
    for arguments, message in (
        (("valid", 64), "known: train, dev, test"),
        (("train", 63), "64 to 512"),
        (("train", (64, 513)), "64 to 512"),
    ):
        with pytest.raises(ValueError, match=message):
            Scenes(*arguments)
    with pytest.raises(ValueError, match="known: simple, full"):
        Scenes("train", 64, difficulty="hard")
    with pytest.raises(ValueError, match="at least 0"):
        Scenes("train", 64, num_examples=-1)


@pytest.mark.parametrize("difficulty", grammar.DIFFICULTIES)
def test_splits_seeds_and_difficulties_share_no_scene(difficulty):
    def described(split, seed):
        scenes = Scenes(split, 64, seed=seed, difficulty=difficulty)
        return {json.dumps(scenes.describe(i)) for i in range(400)}

    sets = [described(split, 0) for split in ("train", "dev", "test")]
    sets.append(described("train", 1))
    assert all(len(each) == 400 for each in sets)
    assert len(set.union(*sets)) == 1600


@pytest.mark.parametrize("make", [scenes_records, faithful_records])
def test_another_train_seed_leaves_dev_and_test_as_they_are(make):
    usual = {"image_size": 64, "scenes": {"difficulty": "simple"}}
    other = {**usual, "scenes": {**usual["scenes"], "train_seed": 1}}
    for split in ("train", "dev", "test"):
        one, two = (make(split, options) for options in (usual, other))
        described = [{json.dumps(x.describe(i)) for i in range(50)} for x in (one, two)]
        assert len(set.union(*described)) == (100 if split == "train" else 50)
        assert (one[3]["uid"] == two[3]["uid"]) == (split != "train")


@pytest.mark.parametrize("difficulty", grammar.DIFFICULTIES)
def test_held_out_pairs_are_in_test_only(difficulty):
    assert len(grammar.HELD_OUT) == len(grammar.KINDS)
    for split in ("train", "dev", "test"):
        scenes = Scenes(split, 64, difficulty=difficulty)
        number = 2000 if split == "train" else 1000
        held_out = 0
        for scene in map(scenes.describe, range(number)):
            named = {(group["kind"], group["color"]) for group in scene["groups"]}
            drawn = {(thing["kind"], thing["color"]) for thing in scene["objects"]}
            if split == "test":
                held_out += bool(named & grammar.HELD_OUT)
            else:
                assert not (named | drawn) & grammar.HELD_OUT
        if split == "test":
            assert 0.28 < held_out / number < 0.42


@pytest.mark.parametrize("difficulty", grammar.DIFFICULTIES)
def test_prompt_says_what_the_groups_are(difficulty):
    lengths, marks = collections.Counter(), set()
    scenes = Scenes("train", 64, difficulty=difficulty)
    for scene in map(scenes.describe, range(1500)):
        prompt = scene["prompt"]
        said = words.split(prompt)
        lengths[len(said)] += 1
        marks |= set(prompt) & set(words.DELIMITERS)
        assert "  " not in prompt and prompt == prompt.strip()
        for group in scene["groups"]:
            plural = grammar.KINDS[group["kind"]]
            forms = {
                "kind": (group["kind"] if group["count"] == 1 else plural,),
                "color": (group["color"],),
                "texture": (group["texture"],),
                "size": grammar.SIZES.get(group["size"], ()),
                "count": (grammar.COUNTS[group["count"] - 1], "an", "one"),
            }
            for statement, index in group["words"].items():
                assert said[index] in forms[statement], (prompt, group)
            if "texture" not in group["words"]:
                assert group["texture"] == "plain"
            if "size" not in group["words"]:
                assert group["size"] == "medium"
        for relation in scene["relations"]:
            phrases = " ".join(grammar.RELATIONS[relation["relation"]])
            assert said[relation["word"]].upper() in phrases
    most = grammar.MAX_WORDS[difficulty]
    assert min(lengths) == grammar.MIN_WORDS and max(lengths) == most
    wanted = ',.!" ?' if difficulty == "simple" else ',.?!":; '
    assert marks >= set(wanted)


def test_variety():
    assert len(grammar.KINDS) >= 12 and len(set(grammar.KINDS)) == len(grammar.KINDS)
    assert len(grammar.COLORS) == 10 and len(grammar.TEXTURES) == 4
    vocabulary = {word for p in grammar.corpus(4000) for word in words.split(p)}
    assert len(vocabulary) < 300
    assert vocabulary >= {*grammar.KINDS, *grammar.COLORS, *grammar.TEXTURES}
    assert list(grammar.corpus(5)) == list(grammar.corpus(9))[:5]


def _placed(scene, group):
    return [thing for thing in scene["objects"] if thing["group"] == group]


def test_drawn_objects_differ_from_the_prompt_only_where_flawed(records):
    seen = collections.Counter()
    for record in records:
        scene = record["scene"]
        flawed = {(flaw["flaw"], flaw["group"]) for flaw in scene["misalignment"]}
        seen.update(name for name, _ in flawed)
        for index, group in enumerate(scene["groups"]):
            things = _placed(scene, index)
            if ("missing", index) in flawed:
                assert not things
                continue
            assert (len(things) != group["count"]) == (("count", index) in flawed)
            for thing in things:
                for field, flaw in (
                    ("color", "color"),
                    ("texture", "texture"),
                    ("kind", "object"),
                ):
                    wrong = thing[field] != group[field]
                    assert wrong == ((flaw, index) in flawed)
            if "size" in group["words"] and len(things) == 1:
                large = things[0]["r"] > 0.16
                wrong = large != (group["size"] == "large")
                assert wrong == (("size", index) in flawed), scene
        for relation in scene["relations"]:
            first, second = relation["first"], relation["second"]
            if {("missing", first), ("missing", second)} & flawed:
                continue
            axis = "x" if relation["relation"] in ("left", "right") else "y"
            positions = [
                [thing[axis] for thing in _placed(scene, group)]
                for group in (first, second)
            ]
            if relation["relation"] in ("right", "below"):
                positions.reverse()
            holds = max(positions[0]) < min(positions[1])
            reverse = min(positions[0]) > max(positions[1])
            assert holds != reverse
            assert reverse == (("relation", first) in flawed)
    assert set(seen) == set(flaws.MISALIGNMENT["full"])


def test_objects_do_not_overlap(records):
    for record in records:
        things = record["scene"]["objects"]
        for i, one in enumerate(things):
            for other in things[:i]:
                gap = max(abs(one["x"] - other["x"]), abs(one["y"] - other["y"]))
                assert gap > one["r"] + other["r"]


def test_all_flaws_occur_and_some_scenes_have_none(records):
    scenes = [record["scene"] for record in records]
    for name, known in (
        ("implausibility", flaws.IMPLAUSIBILITY),
        ("aesthetics", flaws.AESTHETICS),
    ):
        seen = {flaw["flaw"] for scene in scenes for flaw in scene[name]}
        assert seen == set(known)
    aligned = np.mean([not scene["misalignment"] for scene in scenes])
    intact = np.mean([not scene["implausibility"] for scene in scenes])
    assert 0.18 < aligned < 0.34 and 0.18 < intact < 0.36
    for field in ("artifact_map", "misalignment_map"):
        assert 0.15 < np.mean([not record[field].any() for record in records]) < 0.45
    assert any(
        not record["artifact_map"].any()
        and not record["misalignment_map"].any()
        and record["prompt_misalignment_label"].all()
        for record in records
    )


def test_labels_follow_the_flaws(records):
    agreed, same_words = [], []
    for record in records:
        scene, known = record["scene"], oracle(record)
        labels = record["prompt_misalignment_label"]
        assert labels.shape == (len(words.split(record["prompt"])),)
        same_words.append(np.array_equal(known["misaligned_words"], labels))
        for name, field in (
            ("implausibility", "artifact_map"),
            ("misalignment", "misalignment_map"),
        ):
            spots = any(flaw["spots"] for flaw in scene[name])
            assert known[name].any() == spots
            agreed.append(record[field].any() == spots)
        assert (known["alignment"] == 1) == (not scene["misalignment"])
        assert (known["plausibility"] == 1) == (not scene["implausibility"])
        assert known["misaligned_words"].all() == (not scene["misalignment"])
    # Stray clicks and overlooked flaws are rare.
    assert np.mean(agreed) > 0.93
    assert np.mean(same_words) > 0.85


def test_damage_is_visible_where_the_spots_are():
    """Undoing one flaw changes pixels, and most of the change lies on its map."""
    scenes = Scenes("dev", 96)
    caught = collections.defaultdict(list)
    for i in range(250):
        scene = scenes.describe(i)
        scene["aesthetics"] = []
        for flaw in scene["implausibility"]:
            others = [f for f in scene["implausibility"] if f is not flaw]
            broken = drawing.draw(scene, (96, 96)).astype(int)
            repaired = drawing.draw({**scene, "implausibility": others}, (96, 96))
            change = np.abs(broken - repaired).max(axis=-1) > 24
            assert change.sum() >= 6, (i, flaw)
            on_map = truth.heatmap([flaw], (96, 96)) > 0.2
            caught[flaw["flaw"]].append((change & on_map).sum() / change.sum())
    assert set(caught) == set(flaws.IMPLAUSIBILITY)
    for name, shares in caught.items():
        assert np.mean(shares) > 0.75, (name, np.mean(shares))


def test_objects_show_their_color():
    """Pixels of the colour stand in the place of every object, and of no other."""
    scenes = Scenes("test", 96)
    shares = collections.defaultdict(list)
    for i in range(150):
        scene = scenes.describe(i)
        scene = {**scene, "implausibility": [], "aesthetics": [], "style": None}
        image = drawing.draw(scene, (96, 96)).astype(int)
        for thing in scene["objects"]:
            x, y, r = (round(96 * thing[key]) for key in "xyr")
            box = image[max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1]
            for name, color in drawing.COLORS.items():
                near = np.abs(box - color).max(axis=-1) < 16
                shares[name == thing["color"], name].append(near.mean())
    for name in drawing.COLORS:
        assert min(shares[True, name]) > 0.03, name
        # White is also eyes, windows, texture and snow; black an outline.
        if name not in ("white", "black"):
            assert np.mean(shares[False, name]) < 0.01, name


@pytest.mark.parametrize("size", [64, 65, 96, 127, 224, 257, 512, (64, 96), (512, 64)])
def test_any_size(size):
    scenes = Scenes("dev", size)
    height, width = (size, size) if isinstance(size, int) else size
    small = Scenes("dev", 64)
    for i in (0, 1, 2):
        record = scenes[i]
        assert record["image"].shape == (height, width, 3)
        assert record["image"].dtype == np.uint8
        assert record["image"].flags.writeable and record["image"].flags.c_contiguous
        for field in ("artifact_map", "misalignment_map"):
            assert record[field].shape == (height, width)
            assert record[field].dtype == np.float32
        # Size changes the pixels, never the scene or what people say of it.
        assert record["ratings"] == small[i]["ratings"]
        assert record["scene"] == small[i]["scene"]
        assert oracle(record)["implausibility"].shape == (height, width)


def test_record_is_json_able_and_labels_come_from_the_ratings(records):
    for record in records[:20]:
        ratings = json.loads(json.dumps(record["ratings"]))
        assert len({rating["rater"] for rating in ratings}) == 3
        labels = consolidation.consolidate(ratings, record["prompt"], size=(64, 64))
        for field, value in labels.items():
            np.testing.assert_array_equal(record[field], value)
        # The oracle reads nothing but the description.
        scene = json.loads(json.dumps(record["scene"]))
        again = oracle({"scene": scene, "image": record["image"]})
        for name, value in oracle(record).items():
            np.testing.assert_array_equal(again[name], value)


def test_raters_disagree_about_as_people_do(records):
    """RichHF-18K: 25 % of images in full agreement, 85 % within one point."""
    for name in ("plausibility", "alignment", "aesthetics", "overall"):
        answers = np.array(
            [[r["scores"][name] for r in record["ratings"]] for record in records]
        )
        spread = np.ptp(answers, axis=1)
        assert 0.2 < np.mean(spread == 0) < 0.5
        assert 0.8 < np.mean(spread <= 1) < 0.98
