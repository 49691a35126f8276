"""Pairs of images, from records to rows that stay beside each other."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from rahf.datasets.scenes import scenes_records
from rahf.datasets.scenes.pairs import scene_pairs
from rahf.input import loader as data_input
from rahf.input import pairs, registry
from rahf.input.converter import Converter
from rahf.input.record_cache import RecordCache
from tests.support import tiny
from tests.support.captions_fixture import write_shards

PREFERENCE = "overall_preference"
WORSE = "two_broken_pairs"


def _config(task="scenes_multihead+pairs_of_scenes", **options):
    config = tiny.config()
    config.task.name = task
    config.task.targets = (*config.task.targets, PREFERENCE)
    config.input.update({"image_size": 64, "text_length": 48, "target_length": 48})
    config.input.scenes.train_examples = 7
    config.input.pairs_of_scenes = {"train_examples": 5}
    config.input.update({"batch_size": 12, **options})
    return config


def _take(config, number, **shard):
    source = data_input.make_train_input(config, **shard)
    batches = list(itertools.islice(source, number))
    source.close()
    return batches


def _assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        for name in ("image", "inputs"):
            np.testing.assert_array_equal(a[name], b[name])
        np.testing.assert_array_equal(
            a["targets"][PREFERENCE], b["targets"][PREFERENCE]
        )


def _pairs_in(batch):
    """The first row of each pair."""
    [rows] = np.nonzero(batch["weights"][PREFERENCE])
    assert (rows[::2] + 1 == rows[1::2]).all() and (rows[::2] % 2 == 0).all()
    return rows[::2]


def test_pairs_stay_together_among_others():
    """Of 12 rows, 6 have rich labels and 6 are 3 pairs; each pair comes once an epoch."""
    config = _config()
    known = {
        record["image"].tobytes(): record
        for record in map(scene_pairs("train", config.input).__getitem__, range(5))
    }
    seen = []
    for batch in _take(config, 5):
        assert batch["weights"]["overall"].sum() == 6
        assert (batch["weights"]["overall"] + batch["weights"][PREFERENCE] == 1).all()
        rows = _pairs_in(batch)
        assert len(rows) == 3
        for row in rows:
            record = known[batch["image"][row].tobytes()]
            np.testing.assert_array_equal(
                batch["image"][row + 1], record["other"]["image"]
            )
            share = record[PREFERENCE]
            expected = [[share, 0], [1 - share, 0]]
            found = batch["targets"][PREFERENCE][row : row + 2]
            np.testing.assert_array_equal(found, expected)
            assert (batch["inputs"][row] == batch["inputs"][row + 1]).all()
            seen.append(record["uid"])
    epochs = [sorted(seen[i : i + 5]) for i in (0, 5, 10)]
    assert epochs == [sorted(r["uid"] for r in known.values())] * 3


def test_without_pairs_the_order_is_as_ever():
    with_target = _config("scenes_multihead")
    plain = _config("scenes_multihead")
    plain.task.targets = plain.task.targets[:-1]
    for a, b in zip(_take(with_target, 3), _take(plain, 3), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_it_resumes_exactly_with_another_batch_size_too():
    config = _config()
    whole = _take(config, 4)
    source = data_input.make_train_input(config)
    next(source), next(source)
    state = json.loads(json.dumps(source.get_state()))
    for size, expected in ((12, whole[2:]), (4, None)):
        config.input.batch_size = size
        again = data_input.make_train_input(config)
        again.set_state(state)
        batches = [next(again) for _ in range(2 if size == 12 else 6)]
        if expected:
            _assert_equal(batches, expected)
        else:
            images = np.concatenate([batch["image"] for batch in batches])
            rows = np.concatenate([batch["image"] for batch in whole[2:]])
            np.testing.assert_array_equal(images, rows)
        for batch in batches:
            _pairs_in(batch)


def test_two_processes_make_the_batches_of_one():
    config = _config()
    whole = _take(config, 2)
    parts = [_take(config, 2, shard_index=i, shard_count=2) for i in (0, 1)]
    for together in zip(*parts, strict=True):
        for batch in together:
            assert len(batch["image"]) == 6
            _pairs_in(batch)
    # Processes alternate by batch.
    images = np.concatenate([parts[i][k]["image"] for k in (0, 1) for i in (0, 1)])
    np.testing.assert_array_equal(
        images, np.concatenate([batch["image"] for batch in whole])
    )
    config.input.batch_size = 6
    with pytest.raises(ValueError, match="batch_size: the 3 rows of a process's"):
        _take(config, 1, shard_index=0, shard_count=2)


def test_each_side_is_augmented_in_its_own_way():
    config = _config("pairs_of_scenes", batch_size=10)
    config.input.augment.crop = 0.5
    [batch] = _take(config, 1)
    config.input.augment.crop = 1.0
    [plain] = _take(config, 1)
    assert (batch["image"] != plain["image"]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(
        batch["targets"][PREFERENCE], plain["targets"][PREFERENCE]
    )


@pytest.mark.parametrize("variant", ["augmented", "multihead"])
def test_the_prompt_names_the_score_where_the_model_wants_that(variant):
    config = _config("pairs_of_scenes_aesthetics", batch_size=2)
    config.model.variant = variant
    config.task.targets = ("aesthetics", "aesthetics_preference")
    rated = _config("scenes_aesthetics", batch_size=2)
    [batch], [other] = _take(config, 1), _take(rated, 1)
    same = (batch["inputs"][0, :4] == other["inputs"][0, :4]).all()
    assert same == (variant == "augmented")


def _pair(**changes):
    record = scene_pairs("dev", {"image_size": 64})[0]
    return record | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other": None}, "the second image of the pair, 'other', is missing"),
        ({"image": None}, "the first image of the pair is missing"),
        ({"prompt": "a cat"}, "prompts of a pair must be equal, got 'a cat' and"),
        ({PREFERENCE: 1.5}, r"must be in \[0, 1\], the probability .* got 1.5"),
        ({PREFERENCE: -0.1}, "got -0.1"),
        ({PREFERENCE: float("nan")}, "got nan"),
        ({PREFERENCE: "left"}, "got 'left'"),
        ({"margin": -1.0}, "'margin' must be at least 0"),
        ({"margin": float("nan")}, "'margin' must be at least 0"),
    ],
)
def test_what_is_wrong_with_a_pair(changes, message):
    with pytest.raises(ValueError, match=rf"task t, record .*: .*{message}"):
        pairs.sides(_pair(**changes), (PREFERENCE,), "t")


def test_an_image_is_not_compared_with_itself():
    record = _pair()
    twin = record["other"] | {"image": record["image"]}
    again = record["other"] | {"uid": record["uid"]}
    for other in (twin, again):
        with pytest.raises(ValueError, match="both images of the pair are the same"):
            pairs.sides(record | {"other": other}, (PREFERENCE,))


def test_both_sides_see_the_choice_and_the_margin():
    first, second = pairs.sides(
        _pair(overall_preference=0.75, margin=0.5), (PREFERENCE,)
    )
    np.testing.assert_allclose(first[PREFERENCE], [0.75, 0.5])
    np.testing.assert_allclose(second[PREFERENCE], [0.25, 0.5])
    unlabelled = _pair()
    del unlabelled[PREFERENCE]
    assert all(
        PREFERENCE not in side for side in pairs.sides(unlabelled, (PREFERENCE,))
    )


@dataclasses.dataclass(frozen=True)
class _Broken:
    """Pairs of which one has a choice that is no probability."""

    split: str
    options: dict

    def __len__(self):
        return 5

    def __getitem__(self, index):
        record = scene_pairs("train", self.options)[index]
        return record | ({PREFERENCE: 7.0} if index == 2 else {})


@pytest.fixture
def broken():
    registry.register(registry.Task(WORSE, (PREFERENCE,), _Broken, augment=None))
    yield f"scenes_multihead+{WORSE}"
    del registry.TASKS[WORSE]


def test_a_bad_pair_stops_the_run(broken):
    with pytest.raises(ValueError, match=f"{WORSE}.*got 7.0"):
        _take(_config(broken), 3)


def test_a_bad_pair_is_replaced_and_counted(broken):
    config = _config(broken, bad_records="skip")
    source = data_input.make_train_input(config)
    for _ in range(5):
        batch = next(source)
        assert len(_pairs_in(batch)) == 3
        assert (batch["targets"][PREFERENCE] <= 1).all()
    assert source.metrics() == {"bad_records": 3.0}  # once an epoch


def test_a_bad_pair_is_not_measured(broken):
    config = _config(broken, bad_records="skip")
    config.input.pairs_of_scenes = {}
    batches = data_input.make_eval_batches(
        config, split="dev", targets=("overall", PREFERENCE), batch_size=4, examples=5
    )
    found = list(batches)
    pairs_found = [row for batch, _ in found for row in _pairs_in(batch)]
    assert len(pairs_found) == 4 and batches.bad_records == 1
    rated = sum(int(batch["weights"]["overall"].sum()) for batch, _ in found)
    assert rated == 5  # an odd number, after the pairs
    for batch, infos in found:
        for row, info in enumerate(infos):
            asked = [n for n, w in batch["weights"].items() if w[row] > 0]
            assert set(info["targets"]) == set(asked)
    with pytest.raises(ValueError, match="config.eval.batch_size: the 3 rows"):
        data_input.make_eval_batches(
            config, split="dev", targets=(PREFERENCE,), batch_size=3
        )


def test_rows_that_are_no_pair_are_refused():
    """What a loader that knows no pairs would make of them."""
    config = _config("pairs_of_scenes", batch_size=4)
    seen = []

    class Spy(Converter):
        def __call__(self, examples, batch_size=0):
            seen.append(examples)
            return super().__call__(examples, batch_size)

    converter = Spy.from_config(config)
    module = data_input._loader(config)
    words = data_input.vocabulary.load(config.input.vocabulary)
    source = module.make_train_input(
        config, converter, words, batch_size=4, shard_index=0, shard_count=1
    )
    next(source)
    source.close()
    a, b, c, d = seen[0]
    converter([b, a, c, d])  # either may be the first
    for wrong in ([a], [a, c, b, d], [c, b, a, d]):
        with pytest.raises(
            ValueError, match="one of a pair: the other, .*is not beside"
        ):
            converter(wrong)


def test_a_cache_keeps_both_images():
    config = _config()
    records = scene_pairs("train", config.input)
    cache = RecordCache(records, ("uid", "image", "prompt", "other", PREFERENCE), 10**7)
    for _ in range(2):
        for index in (0, 3):
            record, kept = records[index], cache[index]
            np.testing.assert_array_equal(
                kept["other"]["image"], record["other"]["image"]
            )
            assert kept[PREFERENCE] == record[PREFERENCE]
    drawn = sum(records[i]["image"].nbytes for i in (0, 3))
    assert 4 * 2400 < cache.nbytes < 2 * drawn  # both images of both, compressed


def test_rich_labels_and_pairs_are_of_different_pictures():
    config = _config()
    rich = {r["image"].tobytes() for r in scenes_records("train", config.input)}
    for record in scene_pairs("train", config.input):
        assert record["image"].tobytes() not in rich
        assert record["other"]["image"].tobytes() not in rich


def test_pairs_beside_shards(tmp_path):
    """Captions are streamed, and come two by two as well."""
    write_shards(tmp_path, 2, 5)
    config = _config("captions+pairs_of_scenes", batch_size=8)
    config.task.targets = ("caption", "overall", PREFERENCE)
    config.input.captions = {"train": str(tmp_path), "dev": str(tmp_path)}
    source = data_input.make_train_input(config)
    batches = [next(source) for _ in range(4)]
    for batch in batches:
        assert batch["weights"]["caption"].sum() == 4
        assert len(_pairs_in(batch)) == 2
    source.close()
    first = data_input.make_train_input(config)
    next(first), next(first)
    second = data_input.make_train_input(config)
    second.set_state(json.loads(json.dumps(first.get_state())))
    _assert_equal([next(second), next(second)], batches[2:])
    first.close()
    second.close()
