"""Groups stay whole, and where one goes depends on nothing but its name."""

import numpy as np
import pytest

from rahf.datasets import rank_cut, splits

GROUPS = [f"prompt {i % 20}" for i in range(110)]


def _of(places, split):
    return {
        group for group, place in zip(GROUPS, places, strict=True) if place == split
    }


def test_groups_are_never_cut_and_shares_hold_on_average():
    places = splits.cut(GROUPS, dev_share=0.1, test_share=0.25)
    found = {split: _of(places, split) for split in splits.SPLITS}
    assert all(found.values())
    assert set.union(*found.values()) == set(GROUPS)
    assert splits.straddling(GROUPS, places) == []
    many = splits.cut([str(i) for i in range(10_000)], dev_share=0.1, test_share=0.25)
    assert (many == "test").mean() == pytest.approx(0.25, abs=0.02)
    assert (many == "dev").mean() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("options", [{}, {"folds": 5, "fold": 2}])
def test_adding_and_removing_moves_no_other_group(options):
    names = [f"prompt {i}" for i in range(200)]
    before = dict(zip(names, splits.cut(names, **options), strict=True))
    more = names[1::2] + [f"new {i}" for i in range(50)]
    after = dict(zip(more, splits.cut(more, **options), strict=True))
    assert all(after[name] == before[name] for name in names[1::2])


def test_in_a_small_table_no_group_that_was_trained_on_is_ever_held_out():
    for seed in range(20):
        names, trained = [], set()
        for i in range(40):
            names.append(f"{seed}/{i}")
            if len(names) < 3:
                continue
            try:
                places = splits.cut(names)
            except ValueError:  # everything fell to dev and test
                continue
            assert set(places) == set(splits.SPLITS)
            now = {n for n, p in zip(names, places, strict=True) if p == "train"}
            assert trained <= now
            trained = now


def test_prompts_that_look_the_same_are_one_group():
    composed, apart = "Café, à la carte", "cafe\u0301  a\u0300\u00a0la\tCARTE"
    assert splits.name_group(composed, "") == splits.name_group(apart, "")
    assert splits.name_group(" \t", "x.png") == "x.png"


def test_runs_that_counted_groups_off_keep_their_splits():
    """Recorded from the code before groups were placed by hash."""

    def numbers(places, split):
        return sorted(int(group.split()[1]) for group in _of(places, split))

    places = rank_cut.cut(GROUPS, dev_share=0.1, test_share=0.25)
    assert numbers(places, "test") == [2, 5, 11, 17, 19]
    assert numbers(places, "dev") == [0, 18]
    places = rank_cut.cut(GROUPS, seed=3, folds=3, fold=1)
    assert numbers(places, "test") == [2, 3, 5, 10, 12, 13, 17]
    assert numbers(places, "dev") == [4, 15]
    given = ["test" if group.endswith("3") else "train" for group in GROUPS]
    places = splits.keep_official(given, GROUPS, dev_share=0.2, cut=rank_cut.cut)
    assert numbers(places, "dev") == [5, 11, 17, 19]


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
        assert _of(places, "dev")
        assert splits.straddling(GROUPS, places) == []
    assert sum(map(len, tested)) == 20
    assert set.union(*tested) == set(GROUPS)


def test_official_splits_are_kept_and_dev_is_cut_from_train():
    given = ["test" if group.endswith("3") else "train" for group in GROUPS]
    places = splits.keep_official(given, GROUPS, dev_share=0.2)
    assert _of(places, "test") == {"prompt 3", "prompt 13"}
    assert _of(places, "dev") == {"prompt 17", "prompt 18"}
    assert splits.straddling(GROUPS, places) == []
    given[0] = "dev"
    assert splits.keep_official(given, GROUPS).tolist() == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.0}, r"--test_share=1.0 must be in \[0, 1\)"),
        (
            {"test_share": 0.6, "dev_share": 0.6},
            "none of the .* groups is left to train on",
        ),
        ({"folds": 15}, r"fold \d+ of --folds=15 gets none of the 20 groups"),
        ({"folds": 1}, "expected --folds >= 2 .* got 1 and 0"),
        ({"folds": 4, "fold": 4}, "got 4 and 4"),
        ({"folds": 21}, "--folds=21, but there are only 20 groups"),
    ],
)
def test_numbers_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        splits.cut(GROUPS, **options, option="--")


def test_the_seed_that_is_named_gives_every_fold_a_group():
    names = [f"prompt {i}" for i in range(8)]
    with pytest.raises(ValueError, match="choose fewer folds, or seed=") as raised:
        splits.cut(names, seed=1, folds=5)
    seed = int(str(raised.value).rpartition("seed=")[2])
    for fold in range(5):
        assert "test" in splits.cut(names, seed=seed, dev_share=0, folds=5, fold=fold)
