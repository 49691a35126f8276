"""The builder on tiny files in the published formats, as a user would call it."""

import json
import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rahf import images
from rahf.bin import build_richhf
from rahf.datasets.richhf import pickapic
from rahf.datasets.richhf.records import RichHF
from tests.support import richhf_files as files

# What is wrong with which record of the train split.
LACKS = (files.uid("train", 2),)

# What stands in place of a file that git-lfs has not fetched.
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:3ab17365e49aeaa8d8c32e5317161be28092c83111a8d8eb0d2658895fab2d33\n"
    "size 150710286\n"
)


def spoil(split, index, features):
    if split != "train":
        return features
    if index == 0:
        return features | {"prompt_misalignment_label": b"1 0 1"}
    if index == 1:
        broken = features["artifact_map"][:200]
        small = files.encode(files.heatmap(0, 64), "PNG")
        return features | {"artifact_map": broken, "misalignment_map": small}
    if index == 3:
        return features | {"overall_score": float("nan")}
    if index == 4:
        return b"no example"
    if index == 5:
        return files.features("train", 1)
    return features


PROBLEMS = {
    "label_length": 1,
    "undecodable_map": 2,
    "missing_image": 1,
    "malformed_score": 1,
    "malformed_record": 1,
    "duplicate_uid": 1,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    files.write_labels(folder / "labels")
    files.write_labels(folder / "spoiled", spoil)
    files.write_pickapic(folder / "pickapic")
    files.write_pickapic(folder / "lacking", LACKS)
    return folder


def run(labels, shards, output, *flags):
    build_richhf.main(
        [f"--labels={labels}", f"--pickapic={shards}", f"--output={output}", *flags]
    )
    return json.loads((output / "rich_hf_18k" / "build_report.json").read_text())


@pytest.fixture(scope="module")
def built(published, tmp_path_factory):
    output = tmp_path_factory.mktemp("built")
    # Nobody needs this shard once all images are found.
    shards = shutil.copytree(published / "pickapic", output / "pickapic")
    [last] = shards.glob("data/validation*")
    last.write_bytes(b"not Parquet")
    report = run(published / "labels", shards, output, "--partial")
    assert report["read"] == report["written"] == files.SIZES
    assert report["problems"] == report["unreadable_files"] == []
    return output


def check(example, split, index):
    """Compares a stored example with the published files."""
    name = files.uid(split, index)
    features = files.features(split, index)
    assert example["uid"] == name.encode()
    assert example["filename"] == features["filename"]
    assert example["prompt"].decode() == files.prompt(name)
    labels = files.words_of(name).split()
    assert list(map(int, example["prompt_misalignment_label"])) == list(
        map(int, labels)
    )
    for field in files.SCORES:
        assert example[field] == np.float32(features[field])
    np.testing.assert_array_equal(example["artifact_map"][..., 0], files.heatmap(index))
    following = files.heatmap(index + 1)
    np.testing.assert_array_equal(example["misalignment_map"][..., 0], following)
    jpeg = files.encode(files.pixels(name), "JPEG")
    # TensorFlow's decoder takes a faster, coarser transform.
    expected = images.read_image(jpeg).astype(int)
    np.testing.assert_allclose(example["image"], expected, atol=4)
    assert len(example["masked"]) == 0


def test_tfds_reads_it_in_each_of_its_ways(built):
    loaded = tfds.load("rich_hf_18k", data_dir=built, split="dev")
    for index, example in enumerate(tfds.as_numpy(loaded)):
        check(example, "dev", index)
    builder = tfds.builder_from_directory(built / "rich_hf_18k" / "1.0.0")
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert sizes == files.SIZES
    source = tfds.data_source("rich_hf_18k", data_dir=built, split="train")
    for index in range(len(source)):
        check(source[index], "train", index)


def test_nothing_is_left_behind_and_nothing_is_built_twice(built, published, capsys):
    found = {path.name for path in (built / "rich_hf_18k").iterdir()}
    assert found == {"1.0.0", "build_report.json"}
    with pytest.raises(SystemExit, match="already exists and is complete; remove it"):
        run(published / "labels", published / "pickapic", built, "--partial")


def test_problems_are_listed_and_a_named_policy_decides(
    published, tmp_path, monkeypatch
):
    given = (published / "spoiled", published / "lacking", tmp_path, "--partial")
    with pytest.raises(
        SystemExit, match="1 missing_image.* Choose a policy"
    ) as failure:
        run(*given)
    folder = tmp_path / "rich_hf_18k"
    assert str(folder / "build_report.json") in str(failure.value)
    report = json.loads((folder / "build_report.json").read_text())
    assert report["counts"] == PROBLEMS
    assert report["written"] == dict.fromkeys(files.SIZES, 0)
    assert not (folder / "1.0.0").exists()
    first = report["problems"][0]
    assert (first["split"], first["index"]) == ("train", 0)
    assert first["uid"] == files.uid("train", 0)
    assert (first["field"], first["detail"]) == (
        "prompt_misalignment_label",
        "3 labels for 7 words",
    )

    # The pictures are kept: no shard is read again.
    monkeypatch.setattr(pickapic.ShardReader, "read", None)
    report = run(*given, "--policy=mask")
    assert report["counts"] == PROBLEMS
    assert report["written"] == files.SIZES | {"train": 3}
    records = list(RichHF("train", str(tmp_path)))
    assert [record["uid"] for record in records] == [
        files.uid("train", index) for index in (0, 1, 3)
    ]
    whole = set(RichHF("dev", str(tmp_path))[0])
    assert [whole - set(record) for record in records] == [
        {"prompt_misalignment_label"},
        {"artifact_map", "misalignment_map"},
        {"overall_score"},
    ]

    shutil.rmtree(folder)
    monkeypatch.undo()
    assert run(*given, "--policy=exclude")["written"] == files.SIZES | {"train": 0}
    with pytest.raises(ValueError, match="has no split 'train'; it has dev, test"):
        RichHF("train", str(tmp_path))


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_beam_makes_the_same_records(published, tmp_path):
    """Runs where Beam is installed, which today's TensorFlow rules out beside it: it
    wants protobuf 7, Beam 2.77 one below."""
    pytest.importorskip("apache_beam")
    given = (published / "spoiled", published / "lacking", tmp_path, "--partial")
    report = run(*given, "--policy=mask", "--runner")
    assert report["counts"] == PROBLEMS
    assert report["written"] == files.SIZES | {"train": 3}
    assert [p["index"] for p in report["problems"]] == [0, 1, 1, 2, 3, 4, 5]
    names = {path.name for path in (tmp_path / "rich_hf_18k").iterdir()}
    assert names == {"1.0.0", "build_report.json"}
    uids = {record["uid"] for record in RichHF("train", str(tmp_path))}
    assert uids == {files.uid("train", index) for index in (0, 1, 3)}
    source = tfds.data_source("rich_hf_18k", data_dir=tmp_path, split="test")
    for example in source:
        check(example, "test", int(example["uid"][4:6]))
    shards = tmp_path / "pointers"
    shards.mkdir()
    (shards / "train-0.parquet").write_text(POINTER)
    with pytest.raises(SystemExit, match=r"train-0.parquet is a git-lfs pointer"):
        run(published / "spoiled", shards, tmp_path / "b", "--partial", "--runner")


def test_git_lfs_pointers(published, tmp_path):
    labels = shutil.copytree(published / "labels", tmp_path / "labels")
    (labels / "train.tfrecord").write_text(POINTER)
    with pytest.raises(SystemExit, match="git-lfs pointer of 13. bytes.*lfs pull"):
        run(labels, published / "pickapic", tmp_path)
    shards = tmp_path / "pickapic"
    shards.mkdir()
    (shards / "train-0.parquet").write_text(POINTER)
    with pytest.raises(SystemExit, match=r"train-0.parquet is a git-lfs pointer"):
        run(published / "labels", shards, tmp_path)


def test_counts_are_verified(published, tmp_path):
    given = (published / "labels", published / "pickapic", tmp_path)
    with pytest.raises(SystemExit, match="train.tfrecord has 6 records instead of 15,"):
        run(*given)
    labels = shutil.copytree(published / "labels", tmp_path / "labels")
    (labels / "dev.tfrecord").unlink()
    with pytest.raises(SystemExit, match=r"missing: \S*dev.tfrecord. .*--partial"):
        run(labels, *given[1:])
    data = bytearray((labels / "test.tfrecord").read_bytes())
    data[-100] ^= 1
    (labels / "test.tfrecord").write_bytes(data)
    with pytest.raises(SystemExit, match="test.tfrecord is damaged after record 1"):
        run(labels, *given[1:], "--partial")


def test_damaged_shards_are_passed_over_and_read_once_they_are_whole(
    published, tmp_path, monkeypatch
):
    shards = shutil.copytree(published / "pickapic", tmp_path / "pickapic")
    cut, *_ = sorted(shards.glob("data/train*"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-300])
    files.write_shard(shards / "a.parquet", files.rows("dev"))
    table = shards / "b.parquet"
    table.write_bytes(
        (shards / "a.parquet").read_bytes().replace(b"caption", b"kaption")
    )
    given = (published / "labels", shards, tmp_path, "--partial")
    with pytest.raises(SystemExit, match="2 Parquet files could not be read"):
        run(*given)
    report = json.loads((tmp_path / "rich_hf_18k/build_report.json").read_text())
    assert report["counts"] == {"missing_image": 3}
    lacking, damaged = report["unreadable_files"]
    assert "b.parquet lacks caption; expected strings image_0_uid" in lacking
    assert f"{cut} cannot be read as Parquet" in damaged

    cut.write_bytes(whole)
    read = []
    original = pickapic.ShardReader.read

    def spy(self, group, wanted):
        read.append((self._shard.path, group))
        return original(self, group, wanted)

    monkeypatch.setattr(pickapic.ShardReader, "read", spy)
    assert run(*given)["written"] == files.SIZES
    assert read == [(str(cut), 0), (str(cut), 1), (str(cut), 2)]


def test_the_flags_explain_themselves(capsys):
    with pytest.raises(SystemExit):
        build_richhf.main(["--help"])
    assert "exclude: omit every record with a problem" in capsys.readouterr().out
