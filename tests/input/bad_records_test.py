"""Bad records: the policy, in both loaders, and counts that survive a restart."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
from collections.abc import Sequence

import numpy as np
import pytest

from rahf.images import ImageError
from rahf.input import bad_records
from rahf.input import loader as data_input
from rahf.input.registry import Task, register
from tests.input.loader_test import assert_equal, make_config, take

#: Every seventh record cannot be decoded.
BAD = 7


class Torn(Sequence):
    """Records, some of which cannot be decoded."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index % BAD == 3:
            raise ImageError(f"record-{index}", "a whole image", "half of one", "redo")
        return {
            "uid": f"record-{index}",
            "image": np.full((8, 8, 3), index, np.uint8),
            "prompt": "a red fish",
            "overall_score": index / 40,
        }


def make_torn(split, options):
    del split, options
    return Torn()


def setup_module():
    from rahf.input.seqio import tasks as seqio_tasks

    task = Task("torn_overall", ("overall",), make_torn)
    register(task)
    seqio_tasks.add_task(
        task.name, task.targets, make_torn, dict.fromkeys(("train", "dev"), 40)
    )


def config_of(loader, **options):
    config = make_config("torn_overall", loader=loader, batch_size=8, **options)
    config.task.targets = ("overall",)
    config.task.modules = ()
    return config


LOADERS = pytest.mark.parametrize("loader", ["grain", "seqio"])


@LOADERS
def test_fail_is_the_default_and_names_the_record(loader):
    with pytest.raises(ValueError, match=r"record-\d+: expected a whole image"):
        take(data_input.make_train_input(config_of(loader)), 5)
    batches = data_input.make_eval_batches(
        config_of(loader), split="dev", targets=("overall",)
    )
    with pytest.raises(ValueError, match="record-3: expected a whole image"):
        list(batches)


@LOADERS
def test_skipped_records_are_counted_and_replaced(loader):
    config = config_of(loader, bad_records="skip", bad_share=0.3)
    source = data_input.make_train_input(config)
    batches = take(source, 20)
    seen = {int(i) for batch in batches for i in batch["image"][:, 0, 0, 0]}
    assert seen == {i for i in range(40) if i % BAD != 3}
    assert all(batch["weights"]["overall"].sum() == 8 for batch in batches)
    bad = source.metrics()["bad_records"]
    # 6 of 40 are bad: 160 good ones pass about 28.
    assert 20 < bad < 40
    source.close()


@LOADERS
@pytest.mark.parametrize("before", [1, 6])
def test_it_resumes_exactly_with_its_counts(loader, before):
    config = config_of(loader, bad_records="skip", bad_share=0.3)
    whole = data_input.make_train_input(config)
    batches = take(whole, before + 5)
    first = data_input.make_train_input(config)
    take(first, before)
    state = first.get_state()
    if loader == "grain":
        state = json.loads(json.dumps(state))
    second = data_input.make_train_input(config)
    take(second, 2)
    second.set_state(state)
    assert second.metrics() == first.metrics()
    for batch, expected in zip(take(second, 5), batches[before:], strict=True):
        assert_equal(batch, expected)
    assert second.metrics() == whole.metrics() != first.metrics()
    for source in (whole, first, second):
        source.close()


def test_shards_and_workers_replace_alike():
    config = config_of("grain", bad_records="skip", bad_share=0.3)
    whole = take(data_input.make_train_input(config), 4)
    shards = [
        take(data_input.make_train_input(config, shard_index=i, shard_count=2), 4)
        for i in range(2)
    ]
    for one, *parts in zip(whole, *shards, strict=True):
        joined = np.concatenate([part["image"] for part in parts])
        np.testing.assert_array_equal(joined, one["image"])
    config.input.workers = 1
    worker = data_input.make_train_input(config)
    try:
        for one, other in zip(whole, take(worker, 4), strict=True):
            assert_equal(one, other)
        assert worker.metrics()["bad_records"] > 0
    finally:
        worker.close()


@LOADERS
def test_evaluation_leaves_them_out(loader):
    config = config_of(loader, bad_records="skip", bad_share=0.3)
    batches = data_input.make_eval_batches(config, split="dev", targets=("overall",))
    for _ in range(2):
        infos = [info for _, infos in batches for info in infos]
        assert [i["uid"] for i in infos] == [
            f"record-{i}" for i in range(40) if i % BAD != 3
        ]
        assert batches.bad_records == 6
    for batch, infos in batches:
        assert batch["weights"]["overall"].sum() == len(infos)


@LOADERS
def test_those_behind_the_last_good_one_count(loader, monkeypatch):
    monkeypatch.setattr("tests.input.bad_records_test.BAD", 4)  # the last of 40, too
    config = config_of(loader, bad_records="skip", bad_share=0.5)
    for size in (30, 31):
        batches = data_input.make_eval_batches(
            config, split="dev", targets=("overall",), batch_size=size
        )
        assert sum(len(infos) for _, infos in batches) == 30
        assert batches.bad_records == 10


@LOADERS
def test_too_many_stop_the_run(loader):
    config = config_of(loader, bad_records="skip", bad_share=0.01)
    with pytest.raises(ValueError, match=r"11 of \d+ .*bad_share=0.01 .*whole image"):
        take(data_input.make_train_input(config), 100)
    config.input.bad_share = 0.0
    batches = data_input.make_eval_batches(config, split="dev", targets=("overall",))
    with pytest.raises(ValueError, match=r"1 of \d+ records are bad, .* record-3"):
        list(batches)


@LOADERS
def test_nothing_but_bad_records_is_no_hang(loader, monkeypatch):
    monkeypatch.setattr("tests.input.bad_records_test.BAD", 1)
    monkeypatch.setattr(Torn, "__getitem__", lambda self, index: int("x"))
    config = config_of(loader, bad_records="skip", bad_share=0.9)
    with pytest.raises(ValueError, match="records are bad"):
        take(data_input.make_train_input(config), 100)


def test_the_share_is_of_all_records_once_there_are_many():
    counter = bad_records.Counter(bad_records.Policy(skip=True, share=0.01))
    counter.add(5000, ["why"] * 50)
    with pytest.raises(ValueError, match="51 of 5051"):
        counter.add(0, ["why"])
    again = bad_records.Counter(counter.policy)
    again.set_state(json.loads(json.dumps(counter.get_state())))
    assert (again.good, again.bad) == (5000, 51)
    assert again.metrics() == {"bad_records": 51}
    assert bad_records.Counter(bad_records.Policy()).metrics() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bad_records": "ignore"}, "'ignore' is unknown; options: fail, skip"),
        ({"bad_share": 1.0}, r"bad_share=1.0 must be in \[0, 1\)"),
        ({"bad_share": -0.5}, r"bad_share=-0.5 must be"),
    ],
)
def test_config_errors(options, message):
    with pytest.raises(ValueError, match=message):
        data_input.make_train_input(config_of("grain", **options))


def test_a_state_from_before_counts_still_loads():
    config = config_of("grain", bad_records="skip", bad_share=0.3)
    source = data_input.make_train_input(config)
    take(source, 1)
    state = source.get_state()
    del state["records"]
    source.set_state(state)
    assert next(source)


def test_records_of_tfrecord_files(tmp_path):
    """A damaged example is skipped; TensorFlow's own parser would end the process."""
    import seqio
    import tensorflow as tf

    from rahf.input.seqio import tasks as seqio_tasks

    def example(index):
        values = {"uid": f"{index}", "prompt": "a red fish"}
        features = {
            name: tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[value.encode()])
            )
            for name, value in values.items()
        }
        features["overall_score"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=[0.5])
        )
        return tf.train.Example(
            features=tf.train.Features(feature=features)
        ).SerializeToString()

    path = str(tmp_path / "dev.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for data in (example(0), b"\xff\xfe\xe3" * 30, example(2), b"", example(4)):
            writer.write(data)
    scalar = tf.io.FixedLenFeature
    seqio.TaskRegistry.add(
        "file_overall",
        source=seqio_tasks.TFExampleSource(
            {"dev": path},
            {name: scalar([], tf.string) for name in ("uid", "prompt")}
            | {"overall_score": scalar([], tf.float32)},
        ),
        preprocessors=[
            lambda dataset: dataset.map(
                lambda row: row | {"image": tf.zeros([8, 8, 3], tf.uint8)}
            ),
            seqio_tasks.AskFor(("overall",)),
        ],
        output_features=seqio_tasks.OUTPUT_FEATURES,
    )
    config = config_of("seqio", bad_records="skip")
    config.task.name = "file_overall"
    batches = data_input.make_eval_batches(config, split="dev", targets=("overall",))
    assert [info["uid"] for _, infos in batches for info in infos] == ["0", "2", "4"]
    assert batches.bad_records == 2
    config.input.bad_records = "fail"
    batches = data_input.make_eval_batches(config, split="dev", targets=("overall",))
    with pytest.raises(ValueError, match="a tf.train.Example, got 90 bytes"):
        list(batches)
