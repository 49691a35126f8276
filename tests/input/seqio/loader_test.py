"""The seqio loader: the same examples as the procedural one, and exact resume."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

import tasks.scenes
from rahf.datasets.scenes import SPLITS
from rahf.input import loader as data_input
from rahf.input.features import FEATURES
from rahf.input.registry import MIXTURES, TASKS, find
from rahf.input.seqio import digests
from rahf.input.seqio import loader as seqio_loader
from rahf.input.seqio import tasks as seqio_tasks
from rahf.targets import FEEDBACK
from tests.input.loader_test import (
    assert_equal,
    assert_resumes,
    make_config,
    take,
    weights,
)

NAMES = {
    name
    for name in (*TASKS, *MIXTURES)
    if name.startswith("scenes_") and "warm" not in name
}


def seqio_config(task="scenes_seven", **options):
    return make_config(task, loader="seqio", **options)


def test_the_same_names_are_registered():
    assert tasks.scenes
    found = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    assert found >= NAMES
    for name in NAMES:
        ours = {(task.name, task.targets) for task in find(name)}
        assert {(t.name, t.targets) for t in seqio_loader.find(name)} == ours
        provider = seqio.get_mixture_or_task(name)
        assert set(provider.output_features) == set(FEATURES)
        assert set(provider.splits) == set(SPLITS)


@pytest.mark.parametrize(
    "task",
    [
        "scenes_seven",
        "scenes_multihead",
        "scenes_seven_captioning",
        "scenes_word_presence",
        "scenes_multihead_word_presence",
    ],
)
def test_both_loaders_give_the_same_eval_batches(task):
    found = []
    for config in (make_config(task), seqio_config(task)):
        config.input.scenes.difficulty = "simple"
        config.input.image_size = 80
        found.append(
            data_input.make_eval_batches(
                config,
                split="dev",
                targets=config.task.targets,
                batch_size=5,
                examples=3,
            )
        )
    one, other = found
    assert len(one) == len(other) == len(list(one))
    for (batch, infos), (expected, expected_infos) in zip(one, other, strict=True):
        assert_equal(batch, expected)
        assert infos == expected_infos
        assert "simple" in infos[0]["uid"]


def test_it_resumes_exactly():
    config, before = seqio_config(), 1
    config.input.scenes.train_examples = 6  # several epochs
    whole = take(data_input.make_train_input(config), before + 4)
    first = data_input.make_train_input(config)
    take(first, before)
    state = first.get_state()
    assert isinstance(state, bytes)
    config.input.batch_size = 7  # half of what it was
    second = data_input.make_train_input(config)
    second.set_state(state)
    halves = take(second, 8)
    for *parts, expected in zip(halves[::2], halves[1::2], whole[before:], strict=True):
        assert_equal(jax.tree.map(lambda *x: np.concatenate(x), *parts), expected)
    with pytest.raises(ValueError, match="loader='seqio' cannot continue a run of ano"):
        second.set_state({"workers": 0, "iterator": {}})


def test_an_epoch_holds_each_record_once_and_tasks_differ():
    config = seqio_config("scenes_overall", batch_size=20)
    orders = []
    for name in ("scenes_overall", "scenes_alignment"):
        config.task.name = name
        batches = take(data_input.make_train_input(config), 4)
        images = [image.tobytes() for batch in batches for image in batch["image"]]
        assert sorted(images[:40]) == sorted(images[40:])
        assert len(set(images)) == 40
        orders += [images[:40], images[40:]]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_shards_are_disjoint():
    config = seqio_config("scenes_overall", batch_size=40)
    images = []
    for index in range(2):
        batch = next(
            data_input.make_train_input(config, shard_index=index, shard_count=2)
        )
        assert weights(batch)["overall"] == len(batch["image"]) == 20
        images += [image.tobytes() for image in batch["image"]]
    assert len(set(images)) == 40


def test_a_task_works_by_itself():
    lengths = {"image": 64, "inputs": 48, "targets": 48, "prompt": 48}
    dataset = seqio.get_mixture_or_task("scenes_misaligned_words").get_dataset(
        lengths, split="test", shuffle=True, seed=3, num_epochs=1
    )
    example = next(iter(dataset))
    assert example["target_names"].numpy().tolist() == [b"misaligned_words"]
    assert example["image"].shape == (64, 64, 3)
    assert (
        seqio.get_mixture_or_task("scenes_overall").num_input_examples("test") == 1000
    )


def test_unknown_tasks_and_splits():
    with pytest.raises(
        ValueError, match=r"'scenes_sevn' is unknown .* known: .*scenes_mul"
    ):
        data_input.make_train_input(seqio_config("scenes_sevn"))
    config = seqio_config()
    with pytest.raises(ValueError, match="'scenes_overall' has no split 'valid'"):
        data_input.make_eval_batches(config, split="valid", targets=("overall",))
    config.task.modules = ("no.such.module",)
    with pytest.raises(ValueError, match="'no.such.module' cannot be imported"):
        data_input.make_train_input(config)


def register(name, elements, targets):
    """Registers a task over hand-made tensors, as a reader of files would make."""
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                elements
            ),
            splits=("train", "dev"),
        ),
        preprocessors=[seqio_tasks.AskFor(targets)],
        output_features=seqio_tasks.OUTPUT_FEATURES,
    )


ELEMENTS = {
    "uid": ["a", "b", "c"],
    "image": np.zeros((3, 70, 90, 3), np.uint8),
    "prompt": ["a red fish", "ein größerer Fisch", ""],
}


def test_other_sources_and_missing_labels():
    scores = np.array([0.25, np.nan, 0.75], np.float32)
    register("mine_overall", ELEMENTS | {"overall_score": scores}, ("overall",))
    config = seqio_config("mine_overall")
    batches = data_input.make_eval_batches(config, split="dev", targets=("overall",))
    with pytest.raises(TypeError, match="number of examples in the source is unknown"):
        len(batches)
    [(batch, infos)] = list(batches)
    assert [info["prompt"] for info in infos] == ELEMENTS["prompt"]
    assert batch["weights"]["overall"].tolist() == [1, 0, 1] + [0] * 11
    assert batch["targets"]["overall"].tolist() == [0.25, 0, 0.75] + [0] * 11
    # Such a task shuffles in a buffer of its own, and still resumes exactly.
    config.input.batch_size = 2
    assert_resumes(config, 1, 5)


def test_of_files_names_and_sizes_are_digested(tmp_path):
    def digest(pattern="*.tfrecord"):  # seqio lists the files of a pattern once
        seqio.TaskRegistry.remove("mine_files")
        task = seqio.TaskRegistry.add(
            "mine_files",
            source=seqio_tasks.TFExampleSource(
                {"train": str(tmp_path / pattern)}, {}, {"train": 1}
            ),
            preprocessors=[seqio_tasks.AskFor(("overall",))],
            output_features=seqio_tasks.OUTPUT_FEATURES,
        )
        return digests.digest_of_tasks([task], seqio_config())

    (tmp_path / "a.tfrecord").write_bytes(b"one")
    one = digest()
    assert one and one == digest()
    (tmp_path / "a.tfrecord").write_bytes(b"more")
    more = digest()
    (tmp_path / "b.tfrecord").write_bytes(b"")
    assert len({one, more, digest("*.tf*")}) == 3
    register("mine_overall", ELEMENTS, ("overall",))
    task = seqio.TaskRegistry.get("mine_overall")
    assert digests.digest_of_tasks([task], seqio_config()) is None


def test_a_malformed_record_is_named():
    labels = np.zeros((3, 2), np.int8)
    elements = ELEMENTS | {"prompt_misalignment_label": labels}
    register("mine_words", elements, ("misaligned_words",))
    config = seqio_config("mine_words")
    batches = data_input.make_eval_batches(
        config, split="dev", targets=("misaligned_words",)
    )
    with pytest.raises(
        ValueError, match=r"'mine_words' failed .* record 'a': .* got 2"
    ):
        list(batches)


def test_missing_fields_are_named():
    elements = {name: ELEMENTS[name] for name in ("uid", "prompt")}
    register("mine_blind", elements, ("overall",))
    with pytest.raises(ValueError, match=r"needs the fields \['image'\]; .*'prompt'"):
        data_input.make_train_input(seqio_config("mine_blind"))


def test_all_targets_travel_through_tensors():
    config = seqio_config("scenes_multihead")
    batch = next(data_input.make_train_input(config))
    assert weights(batch) == dict.fromkeys(FEEDBACK, 14)
    assert tf.config.get_visible_devices("GPU") == []
