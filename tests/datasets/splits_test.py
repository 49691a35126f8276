"""Groups stay whole, shares are kept, and nothing depends on the order of rows."""

import numpy as np
import pytest

from rahf.datasets import splits

GROUPS = [f"prompt {i % 20}" for i in range(110)]


def _of(places, split):
    return {
        group for group, place in zip(GROUPS, places, strict=True) if place == split
    }


def test_groups_are_never_cut_and_shares_are_exact():
    places = splits.cut(GROUPS, dev_share=0.1, test_share=0.25)
    found = {split: _of(places, split) for split in splits.SPLITS}
    assert {split: len(groups) for split, groups in found.items()} == {
        "train": 13,
        "dev": 2,
        "test": 5,
    }
    assert set.union(*found.values()) == set(GROUPS)
    assert splits.straddling(GROUPS, places) == []


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    places = splits.cut(GROUPS)
    backwards = splits.cut(GROUPS[::-1])
    np.testing.assert_array_equal(places, backwards[::-1])
    assert any((splits.cut(GROUPS, seed=1) != places).tolist())


def test_each_group_is_tested_by_exactly_one_fold():
    tested = []
    for fold in range(3):
        places = splits.cut(GROUPS, folds=3, fold=fold)
        tested.append(_of(places, "test"))
        assert len(_of(places, "dev")) == 2
        assert splits.straddling(GROUPS, places) == []
    assert sorted(map(len, tested)) == [6, 7, 7]
    assert set.union(*tested) == set(GROUPS)


def test_official_splits_are_kept_and_dev_is_cut_from_train():
    given = ["test" if group.endswith("3") else "train" for group in GROUPS]
    places = splits.keep_official(given, GROUPS, dev_share=0.2)
    assert _of(places, "test") == {"prompt 3", "prompt 13"}
    assert len(_of(places, "dev")) == 4
    assert splits.straddling(GROUPS, places) == []
    given[0] = "dev"
    assert splits.keep_official(given, GROUPS).tolist() == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.0}, r"--test_share=1.0 must lie in \[0, 1\)"),
        ({"test_share": 0.6, "dev_share": 0.6}, "leave none to train on"),
        ({"folds": 1}, "expected --folds >= 2 .* got 1 and 0"),
        ({"folds": 4, "fold": 4}, "got 4 and 4"),
        ({"folds": 21}, "--folds=21, but there are only 20 groups"),
    ],
)
def test_numbers_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        splits.cut(GROUPS, **options, option="--")
