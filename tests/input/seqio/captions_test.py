"""Captions through seqio: the same promises, for shards, tables and TFDS."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow_datasets as tfds

import tasks.captions
import tasks.scenes
from rahf.input import loader as data_input
from tests.datasets import captions_test
from tests.datasets.captions_test import SAMPLES, folder, inputs, shown
from tests.input.loader_test import assert_equal, take, weights
from tests.support.captions_fixture import encoded, picture

assert tasks.captions and tasks.scenes
__all__ = ["folder"]  # the fixture


def make_config(folder, task="captions", **options):
    return captions_test.make_config(folder, task, loader="seqio", **options)


def test_shards_resume_exactly_and_hosts_share_them(folder):
    config, seen = make_config(folder, batch_size=4), []
    for index in range(2):
        whole = inputs(config, shard_index=index, shard_count=2)
        batches = take(whole, 30)
        state = whole.get_state()
        following = take(whole, 3)
        again = inputs(config, shard_index=index, shard_count=2)
        again.set_state(state)
        for batch, expected in zip(take(again, 3), following, strict=True):
            assert_equal(batch, expected)
        seen.append({n for batch in batches for n in shown(batch)})
        assert weights(batches[0])["caption"] == 2
    assert seen[0] | seen[1] == set(range(SAMPLES))
    assert not seen[0] & seen[1]


def test_evaluation_is_that_of_the_other_loader(folder):
    found = []
    for config in (make_config(folder), captions_test.make_config(folder)):
        batches = data_input.make_eval_batches(
            config, split="dev", targets=("caption",), batch_size=4, examples=6
        )
        found.append(list(batches))
    for (batch, infos), (expected, expected_infos) in zip(*found, strict=True):
        assert_equal(batch, expected)
        assert infos == expected_infos


def test_a_mixture_by_weight(folder):
    config = make_config(folder, "scenes_overall+captions", batch_size=40)
    config.task.weights = {"captions": 9.0}
    number = weights(next(inputs(config)))["caption"]
    assert 27 <= number <= 40  # drawn, nine in ten
    config.task.weights = {"caption": 9.0}
    with pytest.raises(ValueError, match=r"weights.caption=9.0 .*: scenes_over.*, cap"):
        inputs(config)


def test_damage_is_counted(folder, tmp_path):
    path = tmp_path / "000000.tar"
    change = lambda n, parts: parts | ({"jpg": b"no"} if n == 1 else {})
    captions_test.write_shard(path, 0, 6, change)
    config = make_config(folder, batch_size=5, bad_records="skip")
    config.input.captions.train = str(path)
    train_input = inputs(config)
    numbers = [n for batch in take(train_input, 2) for n in shown(batch)]
    assert 1 not in numbers and train_input.metrics()["bad_records"] >= 1
    config.input.bad_records = "fail"
    with pytest.raises(ValueError, match=r"record '000000/000000001', field 'image'"):
        take(inputs(config), 2)


def test_a_table(folder, tmp_path):
    for number in (0, 1, 2):
        (tmp_path / f"{number}.png").write_bytes(encoded(number) + b"\0\0")
    (tmp_path / "captions.csv").write_text(
        "image,caption\n0.png,none\n1.png,one\n2.png,two\n"
    )
    config = make_config(folder, batch_size=3)
    config.input.captions.train = str(tmp_path)
    assert sorted(shown(next(inputs(config)))) == [0, 1, 2]


class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Eight pictures, with two captions each."""

    # TFDS 4.9.10 looks for it with importlib_resources, which it does not require.
    code_path = None
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(24, 24, 3), encoding_format="png"),
                "captions": tfds.features.Sequence({"text": tfds.features.Text()}),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(8):
            texts = [{"text": f"{number} {word}"} for word in ("once", "again")]
            yield number, {"image": picture(number), "captions": texts}


def test_tfds(folder, tmp_path):
    Pictures(data_dir=tmp_path).download_and_prepare()
    config = make_config(folder, batch_size=16)
    config.input.captions.update(
        train="tfds:pictures", dev="tfds:pictures@train[:25%]", data_dir=str(tmp_path)
    )
    config.input.captions.caption = "captions/text"
    batch = next(inputs(config))
    assert sorted(shown(batch)) == sorted([*range(8)] * 2)
    hosts = [
        {n for n in shown(next(inputs(config, shard_index=i, shard_count=2)))}
        for i in range(2)
    ]
    assert hosts[0] | hosts[1] == set(range(8)) and not hosts[0] & hosts[1]
    batches = data_input.make_eval_batches(config, split="dev", targets=("caption",))
    [(_, infos)] = list(batches)
    assert len(infos) == 4
    assert {info["prompt"].split()[1] for info in infos} == {"once", "again"}
    config.input.captions.caption = "text"
    with pytest.raises(ValueError, match=r"tfds:pictures has no feature 'text'"):
        inputs(config)
    config.input.captions.train = "tfds:no_such_set"
    with pytest.raises(ValueError, match=r"tfds:no_such_set"):
        inputs(config)
