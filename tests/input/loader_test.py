"""The loaders' common promises, and the procedural one."""

import collections
import itertools
import json
import multiprocessing
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import scenes
from rahf.datasets.scenes import Scenes, scenes_records
from rahf.input import loader as data_input
from rahf.input import positions
from rahf.input.registry import Task, register, register_mixture
from rahf.targets import FEEDBACK


def make_config(task="scenes_seven", **options):
    config = scenes.get_config()
    config.task.name = task
    config.task.weights = {}
    config.input.scenes.difficulty = "full"
    config.input.update({"batch_size": 14, "image_size": 64, **options})
    config.input.text_length = config.input.target_length = 48
    config.input.scenes.train_examples = 40
    several = task.startswith("scenes_multihead")
    config.model.variant = "multihead" if several else "augmented"
    if task.endswith("word_presence"):
        config.task.targets = (*(FEEDBACK if several else ()), "word_presence")
    if task.endswith("captioning"):
        config.task.targets = (*FEEDBACK, "caption")
    return config


def assert_resumes(config, before, after):
    """Checks that an input goes on where another stood; returns what an unbroken one
    gives."""
    whole, first, second = (data_input.make_train_input(config) for _ in range(3))
    batches = take(whole, before + after)
    take(first, before)
    second.set_state(first.get_state())
    for batch, expected in zip(take(second, after), batches[before:], strict=True):
        assert_equal(batch, expected)
    for each in (whole, first, second):
        each.close()
    return batches


def take(iterator, number):
    return list(itertools.islice(iterator, number))


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def weights(batch):
    return {name: int(value.sum()) for name, value in batch["weights"].items()}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("scenes_seven", dict.fromkeys(FEEDBACK, 2)),
        ("scenes_multihead", dict.fromkeys(FEEDBACK, 14)),
        ("scenes_overall", dict.fromkeys(FEEDBACK, 0) | {"overall": 14}),
        ("scenes_captioning", dict.fromkeys(FEEDBACK, 0) | {"caption": 14}),
    ],
)
def test_what_a_batch_holds(task, expected):
    batch = next(data_input.make_train_input(make_config(task)))
    assert weights(batch) == expected
    assert batch["image"].shape == (14, 64, 64, 3)
    assert batch["inputs"].shape == batch["prompt"].shape == (14, 48)


def test_a_mixture_gives_each_task_its_share():
    config = make_config("scenes_seven_captioning", batch_size=8)
    for batch in take(data_input.make_train_input(config), 3):
        assert weights(batch) == dict.fromkeys((*FEEDBACK, "caption"), 1)


def test_every_task_sees_each_record_once_an_epoch_in_its_own_order():
    config = make_config(batch_size=7)
    seen = {name: [] for name in FEEDBACK}
    for batch in take(data_input.make_train_input(config), 80):
        for name in FEEDBACK:
            [row] = np.flatnonzero(batch["weights"][name])
            seen[name].append(batch["image"][row].tobytes())
    records = scenes_records("train", config.input)
    everything = sorted(records[i]["image"].tobytes() for i in range(40))
    orders = [list(images) for images in seen.values()]
    for images in orders:
        assert sorted(images[:40]) == sorted(images[40:]) == everything
        assert images[:40] != images[40:]
    assert len({tuple(images) for images in orders}) == 7


def test_the_seed_decides():
    config = make_config()
    first, again = (next(data_input.make_train_input(config)) for _ in range(2))
    assert_equal(first, again)
    config.seed = 1
    assert (next(data_input.make_train_input(config))["image"] != first["image"]).any()


@pytest.mark.parametrize("before", [0, 1, 5])
def test_it_resumes_exactly(before):
    config = make_config()
    whole = take(data_input.make_train_input(config), before + 4)
    first = data_input.make_train_input(config)
    take(first, before)
    state = json.loads(json.dumps(first.get_state()))
    second = data_input.make_train_input(config)
    take(second, 2)  # where it stood does not matter
    second.set_state(state)
    for batch, expected in zip(take(second, 4), whole[before:], strict=True):
        assert_equal(batch, expected)


def test_shards_together_make_the_batch_of_one():
    config = make_config()
    whole = take(data_input.make_train_input(config), 3)
    shards = [
        take(data_input.make_train_input(config, shard_index=i, shard_count=2), 3)
        for i in range(2)
    ]
    for one, *parts in zip(whole, *shards, strict=True):
        assert_equal(jax.tree.map(lambda *x: np.concatenate(x), *parts), one)


def test_another_number_of_shards_goes_on_with_the_next_example():
    config = make_config()
    whole = take(data_input.make_train_input(config), 3)

    def shards(count):
        return [
            data_input.make_train_input(config, shard_index=i, shard_count=count)
            for i in range(count)
        ]

    states = []
    for count in (2, 7, 1):
        inputs = shards(count)
        for index, each in enumerate(inputs):
            if states:
                each.set_state(positions.spread(states, index))
        parts = list(map(next, inputs))
        states = [each.get_state() for each in inputs]
        joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        assert_equal(joined, whole.pop(0))
    assert states == [{"examples": 42, "records": {"good": 42, "bad": 0}}]


def test_another_batch_size_and_worker_processes_go_on_with_the_next_example():
    config = make_config("scenes_warm_and_plausible", batch_size=40)
    config.task.modules = ("tests.support.example_task.warmth",)
    config.task.targets = ("plausibility", "warmth")
    sources = [data_input.make_train_input(config)]
    expected = take(sources[0], 2)
    parts, state = [], None
    for size, workers, number in ((16, 0, 1), (8, 2, 4), (32, 0, 1)):
        config.input.update(batch_size=size, workers=workers)
        sources.append(source := data_input.make_train_input(config))
        if state is not None:
            source.set_state(json.loads(json.dumps(state)))
        try:
            parts += take(source, number)
            state = source.get_state()
            if workers:
                _check_that_the_death_of_a_worker_is_told(source)
        finally:
            source.close()
    join = lambda *batches: jax.tree.map(lambda *x: np.concatenate(x), *batches)
    assert_equal(join(*parts), join(*expected))
    # An epoch: both tasks ask once for each of the 40 scenes.
    images = [image.tobytes() for image in join(*parts)["image"]]
    assert set(collections.Counter(images).values()) == {2} and len(images) == 80
    with pytest.raises(ValueError, match="a run of another loader"):
        source.set_state(b"seqio")


def _check_that_the_death_of_a_worker_is_told(source):
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(ChildProcessError, match=r"ended .*exit code -9\).*workers=2"):
        take(source, 20)


def test_positions_of_earlier_versions_count_batches():
    config = make_config()
    whole = take(data_input.make_train_input(config), 4)
    counted = {"records": {"good": 42, "bad": 0}}
    workers = {"iterators_in_use_states": [{"next_index": 2}, {"next_index": 1}, None]}
    for iterator in ({"next_index": 3}, workers):
        source = data_input.make_train_input(config)
        source.set_state({"workers": 0, "iterator": iterator} | counted)
        assert_equal(next(source), whole[3])
        assert source.get_state() == {
            "examples": 56,
            "records": {"good": 56, "bad": 0},
        }


@pytest.mark.parametrize("task", ["scenes_seven", "scenes_multihead"])
def test_evaluation_asks_for_each_record_and_target(task):
    config = make_config(task)
    wanted = ("overall", "implausibility")
    batches = data_input.make_eval_batches(
        config, split="test", targets=wanted, batch_size=4, examples=5
    )
    found = list(batches)
    assert len(batches) == len(found)
    infos = [info for _, infos in found for info in infos]
    records = [Scenes("test", 64)[i] for i in range(5)]
    expected = (
        [(r["uid"], r["prompt"], list(FEEDBACK)) for r in records]
        if task == "scenes_multihead"
        else [(r["uid"], r["prompt"], [name]) for name in wanted for r in records]
    )
    assert [(i["uid"], i["prompt"], i["targets"]) for i in infos] == expected
    total = sum(batch["weights"]["overall"].sum() for batch, _ in found)
    assert total == 5
    assert [batch["image"].shape[0] for batch, _ in found] == [4] * len(found)
    last, last_infos = found[-1]
    assert not last["image"][len(last_infos) :].any()
    assert all(not w[len(last_infos) :].any() for w in last["weights"].values())
    for batch, expected in zip(batches, found, strict=True):  # it can be repeated
        assert_equal(batch, expected)


def test_all_of_a_split():
    batches = data_input.make_eval_batches(
        make_config("scenes_multihead"), split="dev", targets=("overall",)
    )
    assert len(batches) == -(-1000 // 14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 30},
            "config.input.batch_size=30 must be divisible by 8 shards",
        ),
        ({"batch_size": 0}, "config.input.batch_size=0: expected at least 1"),
        (
            {"loader": "tfds"},
            "config.input.loader='tfds' .* options: grain, seqio",
        ),
        ({"vocabulary": "/none"}, "config.input.vocabulary='/none' cannot be read"),
        ({"image_size": 32}, "64 to 512 pixels, got size=32"),
    ],
)
def test_config_errors(change, message):
    config = make_config(**{"batch_size": 8} | change)
    with pytest.raises(ValueError, match=message):
        data_input.make_train_input(config, shard_count=8)


def test_task_errors():
    config = make_config("scenes_senven")
    config.task.modules = ("no.such.module",)
    with pytest.raises(ValueError, match="'scenes_senven' is unknown .* scenes_seven"):
        data_input.make_train_input(config)
    config = make_config("scenes_multihead")
    config.model.variant = "augmented"
    with pytest.raises(ValueError, match="'scenes_multihead' .* has 7; use scenes_se"):
        data_input.make_train_input(config)
    config = make_config()
    config.task.targets = ("overall",)
    with pytest.raises(ValueError, match="not in config.task.targets=.'overall',."):
        next(data_input.make_train_input(config))
    with pytest.raises(ValueError, match="must be among config.task.targets"):
        data_input.make_eval_batches(config, split="dev", targets=("alignment",))
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        data_input.make_eval_batches(config, split="valid", targets=("overall",))
    config = make_config("scenes_overall")
    with pytest.raises(ValueError, match=r"asks for alignment; .* \('overall',\)"):
        data_input.make_eval_batches(config, split="dev", targets=("alignment",))


def test_a_module_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "my_broken_task.py").write_text("DEPTHS = [1, 2]\nDEPTHS[7]\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config("my_task")
    config.task.modules = ("my_broken_task",)
    with pytest.raises(
        ValueError, match="'my_broken_task' fails .*IndexError: list"
    ) as e:
        data_input.make_train_input(config)
    assert isinstance(e.value.__cause__, ValueError)
    assert isinstance(e.value.__cause__.__cause__, IndexError)


def test_registering():
    with pytest.raises(ValueError, match="'scenes_seven' is already registered"):
        register(Task("scenes_seven", ("overall",), scenes_records))
    with pytest.raises(ValueError, match=r"got \['nothing'\]; known: scenes_implau"):
        register_mixture("mine", ["nothing"])
    with pytest.raises(ValueError, match="unknown target 'nothing'"):
        register(Task("mine", ("nothing",), scenes_records))


def test_no_tensorflow():
    script = (
        "from tests.input.loader_test import *; config = make_config()\n"
        "next(data_input.make_train_input(config))\n"
        "import sys; print([m for m in ('tensorflow', 'seqio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
