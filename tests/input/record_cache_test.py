"""The cache returns what the source would, makes it once, and keeps to its memory."""

import copy
import json

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes
from rahf.input import loader as data_input
from rahf.input.record_cache import RecordCache, cached_records
from rahf.input.registry import find
from tests.input.loader_test import assert_equal, make_config, take

FIELDS = ("uid", "image", "prompt", "artifact_map", "overall_score")


class Counted:
    """Scenes that count how often each was made."""

    def __init__(self, number=20):
        self._scenes, self.made = Scenes("train", 64), [0] * number

    def __len__(self):
        return len(self.made)

    def __getitem__(self, index):
        self.made[index] += 1
        return self._scenes[index]


def test_the_same_records_made_once():
    source = Counted()
    cache = RecordCache(source, (*FIELDS, "nothing"), 10**9)
    assert len(cache) == 20
    for index in (3, 7, np.int64(3), 3):
        record, expected = cache[index], Scenes("train", 64)[int(index)]
        assert set(record) == set(FIELDS)
        assert_equal(dict(record), {name: expected[name] for name in FIELDS})
        assert record["artifact_map"].dtype == np.float32
    assert source.made[3] == source.made[7] == sum(source.made) / 2 == 1


def test_full_is_full():
    source = Counted()
    cache = RecordCache(source, FIELDS, 12_000)
    for _ in range(2):
        for index in range(20):
            cache[index]
        assert 6_000 < cache.nbytes <= 12_000
    made_once = source.made.count(1)
    assert 2 <= made_once <= 4
    assert source.made.count(2) == 20 - made_once


def test_a_copy_for_another_process_is_empty():
    cache = RecordCache(Counted(), FIELDS, 10**9)
    cache[0]
    other = copy.deepcopy(cache)
    assert cache.nbytes > 0 == other.nbytes
    assert_equal(dict(other[0]), dict(cache[0]))


def test_batches_and_resume_are_as_without(monkeypatch):
    config, made = make_config(), []
    read = Scenes.__getitem__
    monkeypatch.setattr(
        Scenes, "__getitem__", lambda self, i: made.append(int(i)) or read(self, i)
    )
    config.input.cache = 50
    cached = data_input.make_train_input(config)
    batches = take(cached, 10)
    state = json.loads(json.dumps(cached.get_state()))
    batches += take(cached, 20)
    # 420 examples of seven tasks on 40 records, two threads at once.
    assert set(made) == set(range(40))
    assert len(made) < 60
    config.input.cache = 0
    whole = take(data_input.make_train_input(config), 30)
    for batch, expected in zip(batches, whole, strict=True):
        assert_equal(batch, expected)
    resumed = data_input.make_train_input(config)  # another cache than it had
    resumed.set_state(state)
    assert_equal(next(resumed), whole[10])


def test_each_source_has_its_share_of_the_memory():
    config = make_config()
    config.input.cache = 50
    tasks = find("scenes_seven")
    [records] = cached_records(tasks, config.input).values()
    assert isinstance(records, RecordCache)
    assert {"artifact_map", "misalignment_map", "overall_score"} < set(records[0])
    config.input.cache = -1
    with pytest.raises(ValueError, match="config.input.cache=-1 must be at least 0"):
        data_input.make_train_input(config)
