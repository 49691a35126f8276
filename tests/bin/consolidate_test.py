"""From raters' files to a dataset that trains: rahf.bin.consolidate and its records."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from configs import consolidated as config_file
from rahf import images
from rahf.bin import consolidate, export_scenes
from rahf.datasets import splits
from rahf.datasets.ratings import consolidated, consolidation, rating_files, reliability
from rahf.datasets.ratings.consolidated import Consolidated
from rahf.datasets.ratings.rating_files import ImageRatings
from rahf.input import loader as data_input
from rahf.targets import FEEDBACK
from tests.input.loader_test import assert_equal, assert_resumes

NUMBER = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Scenes, a turned JPEG without points and words, and the dataset of all."""
    folder = tmp_path_factory.mktemp("raters")
    export_scenes.main([f"--output={folder}", f"--examples={NUMBER}", "--size=64"])
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif, quality=95)
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(folder / "clear.png")
    with (folder / "ratings.jsonl").open("a") as file:
        for image in ("turned.jpg", "clear.png"):
            for rater, answer in (("a", 2), ("b", 5)):
                row = {"image": image, "prompt": "a lion", "rater": rater}
                row |= {"scores": {"overall": answer}}
                file.write(json.dumps(row) + "\n")
    consolidate.main(
        [str(folder / "ratings.jsonl"), f"--images={folder}", f"--output={folder}/data"]
    )
    return folder


@pytest.fixture(scope="module")
def rated(made):
    return {each.image: each for each in rating_files.read(made / "ratings.jsonl")}


def config_of(made, loader="grain"):
    config = config_file.get_config()
    config.input.loader = loader
    config.input.batch_size = 4
    config.input.consolidated.data_dir = str(made / "data")
    return config


def records(made):
    return [r for split in splits.SPLITS for r in Consolidated(split, made / "data")]


def test_records_are_the_consolidated_ratings(made, rated):
    found = {record["uid"]: record for record in records(made)}
    assert len(found) == NUMBER + 2
    for name, each in rated.items():
        record = found[os.path.splitext(name)[0]]
        pixels = images.read_image(made / name)
        np.testing.assert_array_equal(record["image"], pixels)
        labels = consolidation.consolidate(
            each.ratings, each.prompt, size=pixels.shape[:2]
        )
        assert set(record) == {"uid", "image", "prompt", *labels}
        for field, value in labels.items():
            # Maps are stored with 8 bits, scores as float32.
            np.testing.assert_allclose(record[field], value, atol=0.5 / 255)
    assert found["turned"]["image"].shape == (60, 40, 3)
    assert found["clear"]["image"].min() == 255
    assert "artifact_map" not in found["turned"]


def test_the_report_says_what_became_of_the_file(made):
    report = json.loads((made / "data/consolidated" / consolidated.REPORT).read_text())
    assert (report["images"], report["ratings"]) == (NUMBER + 2, 3 * NUMBER + 4)
    assert sum(report["splits"].values()) == NUMBER + 2
    assert report["labels"]["artifact_map"] == NUMBER
    assert report["labels"]["overall_score"] == NUMBER + 2
    assert report["skipped"] == {} and report["options"]["scores"] == "mean"
    names = {path.name for path in (made / "data/consolidated").iterdir()}
    assert names == {"1.0.0", consolidated.REPORT}


@pytest.mark.parametrize("read", ["load", "data_source"])
def test_tfds_finds_it_by_name_and_sees_upright_pictures(made, read):
    import tensorflow_datasets as tfds

    found = getattr(tfds, read)("consolidated", data_dir=made / "data")
    if read == "load":
        found = {split: tfds.as_numpy(dataset) for split, dataset in found.items()}
    source = {row["uid"].decode(): row for rows in found.values() for row in rows}
    assert len(source) == NUMBER + 2
    assert source["turned"]["image"].shape == (60, 40, 3)
    assert source["turned"]["masked"][0] == b"artifact_map"
    assert np.isnan(source["turned"]["artifact_score"])
    assert source["clear"]["image"].shape == (20, 30, 3)


def test_reading_needs_no_tensorflow(made):
    script = (
        "import sys; from rahf.datasets.ratings.consolidated import Consolidated\n"
        f"print(len(Consolidated('train', {str(made / 'data')!r})[0]['uid']) > 0,"
        " 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_both_loaders_read_it_alike(made):
    found = []
    for loader in data_input.LOADERS:
        config = config_of(made, loader)
        batches = data_input.make_eval_batches(config, split="train", targets=FEEDBACK)
        found.append(list(batches))
    for (batch, infos), (expected, expected_infos) in zip(*found, strict=True):
        assert_equal(batch, expected)
        assert infos == expected_infos
    weights = sum(batch["weights"]["implausibility"].sum() for batch, _ in found[0])
    known = sum("artifact_map" in r for r in Consolidated("train", made / "data"))
    assert weights == known  # a label that nobody gave weighs nothing


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_training_resumes_exactly(made, loader):
    assert_resumes(config_of(made, loader), 1, 3)


def test_records_travel_to_workers(made):
    source = Consolidated("train", made / "data")
    again = pickle.loads(pickle.dumps(source))
    assert (
        again.digest()
        == source.digest()
        != Consolidated("dev", source.data_dir).digest()
    )
    np.testing.assert_array_equal(again[-1]["image"], source[-1]["image"])
    with pytest.raises(IndexError):
        source[len(source)]


def test_options_reach_the_labels(made, rated, tmp_path):
    flags = [str(made / "ratings.jsonl"), f"--images={made}", f"--output={tmp_path}"]
    options = ("--scores=median", "--weights=reliability", "--radius=0.1")
    consolidate.main([*flags, *options, "--map_size=32", "--dev_share=0"])
    report = json.loads((tmp_path / "consolidated" / consolidated.REPORT).read_text())
    assert "dev" not in report["splits"]
    weights = reliability.rater_weights(each.ratings for each in rated.values())
    assert report["options"] == {"scores": "median", "radius": 0.1, "weights": weights}
    record = Consolidated("train", tmp_path)[0]
    each = rated[f"{record['uid']}.png"]
    labels = consolidation.consolidate(
        each.ratings,
        each.prompt,
        size=(32, 32),
        options=consolidation.ConsolidationOptions(
            scores="median", radius=0.1, weights=weights
        ),
    )
    for field, value in labels.items():
        np.testing.assert_allclose(record[field], value, atol=0.5 / 255)


def test_prompts_stay_on_one_side():
    some = [ImageRatings(f"{i}.png", f"Prompt {i % 20}!", None, []) for i in range(100)]
    some += [ImageRatings(f"{i}b.png", f"prompt {i}", None, []) for i in range(20)]

    def places(rated, seed=0, share=0.2):
        cut = {"seed": seed, "dev_share": share, "test_share": share}
        return consolidated._assign_splits(rated, **cut)

    found, sides = places(some), {}
    for each in some:
        text = each.prompt.lower().rstrip("!")
        assert sides.setdefault(text, found[each.image]) == found[each.image]
    number = list(sides.values()).count
    assert number("dev") and number("test") and number("train") > 10
    assert places(some[::-1]) == found != places(some, seed=1)
    fewer = places(some[:50] + some[100:110])
    assert all(found[image] == place for image, place in fewer.items())
    for each in some:
        each.prompt = ""  # then an image is a group of its own
    assert set(places(some).values()) == set(splits.SPLITS)
    given = [ImageRatings("a", "", "test", []), ImageRatings("b", "", "train", [])]
    assert places(given) == {"a": "test", "b": "train"}
    given[0].split = None
    with pytest.raises(ValueError, match="1 of 2 images have a split"):
        places(given)
    with pytest.raises(ValueError, match=r"--dev_share=1.0 and --test_share=1.0 must"):
        places(some, share=1.0)


def test_what_cannot_be_consolidated(made, tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    rows = [{"image": n, "rater": "a", "scores": {"overall": 3}} for n in "ab"]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    flags = [str(path), f"--images={tmp_path}", f"--output={tmp_path / 'out'}"]
    flags += ["--dev_share=0", "--test_share=0"]
    with pytest.raises(SystemExit, match="2 of 2 images have no prompt, such as 'a'"):
        consolidate.main(flags)
    Image.new("RGB", (8, 8)).save(tmp_path / "a", "PNG")
    with monkeypatch.context() as patched:
        patched.delattr(consolidation, "consolidate")  # found before any work
        with pytest.raises(SystemExit, match="nothing of that name"):
            consolidate.main([*flags, "--prompt=a cat"])
    assert not (tmp_path / "out/consolidated/1.0.0").exists()
    consolidate.main([*flags, "--prompt=a cat", "--bad_images=skip"])
    report = tmp_path / "out/consolidated" / consolidated.REPORT
    skipped = json.loads(report.read_text())["skipped"]
    assert list(skipped) == ["b"] and "nothing of that name" in skipped["b"]
    with pytest.raises(SystemExit, match="already exists and is complete; remove"):
        consolidate.main([*flags, "--prompt=a cat", "--bad_images=skip"])
    with pytest.raises(ValueError, match="has no split 'dev'; it has train"):
        Consolidated("dev", tmp_path / "out")
    with pytest.raises(ValueError, match=r"data_dir=.* build it with .*consolidate"):
        Consolidated("train", tmp_path)
    with pytest.raises(SystemExit, match="is left to train on: .* lower --dev_share"):
        consolidate.main([*flags[:2], f"--output={tmp_path}", "--prompt=a cat"])
