"""Comparisons: pairing, intervals of differences, ranks over seeds, refusals."""

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation import compared_runs, resampling
from rahf.evaluation.comparison import ComparedModel, MeasuredRun, compare
from rahf.evaluation.evaluate import Results
from rahf.evaluation.metrics.table import METRICS

COUNT = 60
SCORE, MAP, WORDS = "overall", "misalignment", "misaligned_words"


def run(noise, seed=0, *, names=(SCORE, MAP, WORDS), prompt="a b c", size=6, **facts):
    """A run that is wrong by `noise`; labels are the same for all."""
    truth = np.random.default_rng(7)
    rng = np.random.default_rng([seed, int(100 * noise)])
    scores = truth.integers(0, 13, COUNT) / 12
    maps = truth.random((COUNT, 6, 6)) * (truth.random((COUNT, 6, 6)) < 0.2)
    maps[::3] = 0
    ends = np.ones((COUNT, 3), int)
    labels = truth.integers(0, 2, (COUNT, 3))
    values = {
        SCORE: (scores + rng.normal(0, noise, COUNT), scores),
        MAP: (maps + noise * rng.random(maps.shape), maps),
        WORDS: (
            np.clip(labels + rng.normal(0, noise, labels.shape), 0, 1),
            (ends, labels),
        ),
    }
    rows = []
    for name in names:
        row = targets.get(name)
        found = METRICS[row.kind].empty(row)
        found.update(*values[name])
        rows += [
            {"uid": f"i{n}", "prompt": prompt, "target": name} | each
            for n, each in enumerate(found.rows)
        ]
    results = Results({}, rows, facts.get("convention", "rahf"))
    return MeasuredRun(source=f"run {noise}.{seed}", results=results, image_size=size)


def test_differences_are_paired():
    good, bad = ComparedModel("good", [run(0.1)]), ComparedModel("bad", [run(0.5)])
    found = compare([good, bad], resamples=400)
    assert found.names == ("good", "bad") and not found.notes
    assert list(found.metrics) == [MAP, SCORE, WORDS]  # the table's order
    assert found.counts == {MAP: COUNT, SCORE: COUNT, WORDS: COUNT}
    for metric in ("plcc", "srcc"):
        one, other = (found.metrics[SCORE][metric][name] for name in found.names)
        assert one.low < one.value < one.high and one.value > other.value
        assert (one.rank, other.rank) == (1, 2)
        apart = found.differences[SCORE][metric]["good", "bad"]
        assert apart.value == pytest.approx(one.value - other.value)
        assert apart.clear and apart.low > 0
        back = found.differences[SCORE][metric]["bad", "good"]
        assert (back.low, back.high) == pytest.approx((-apart.high, -apart.low))
    # By hand: the same images for both.
    weights = resampling.draw(COUNT, 400)
    rows = [
        [row for row in each.runs[0].results.rows if row["target"] == MAP]
        for each in (good, bad)
    ]
    values = [resampling.measure(targets.get(MAP), r, weights)["cc"] for r in rows]
    expected = resampling.interval(values[0] - values[1])
    apart = found.differences[MAP]["cc"]["good", "bad"]
    assert (apart.low, apart.high) == pytest.approx(expected)
    assert compare([good, bad], resamples=400) == found, "seeds are fixed"
    # A paired difference is known better than the two values.
    assert apart.high - apart.low < sum(
        each.high - each.low for each in found.metrics[MAP]["cc"].values()
    )


def test_a_model_and_itself_do_not_differ():
    found = compare([ComparedModel(name, [run(0.3)]) for name in "ab"], resamples=50)
    for of_target in found.differences.values():
        for pairs in of_target.values():
            assert all(x.low == x.high == 0 and not x.clear for x in pairs.values())
    assert {x.rank for x in found.metrics[WORDS]["f1_micro"].values()} == {1.5}
    assert set(found.spread[SCORE].values()) == {0.0}


def test_runs_of_one_model_are_averaged_and_ranked():
    seeds = [run(0.3, seed) for seed in (1, 2, 3)]
    single = run(0.32, 9)
    found = compare([ComparedModel("three", seeds), ComparedModel("one", [single])])
    three = found.metrics[SCORE]["plcc"]["three"]
    assert len(three.runs) == 3 and three.value == pytest.approx(np.mean(three.runs))
    [other] = found.metrics[SCORE]["plcc"]["one"].runs
    better = np.mean([value > other for value in three.runs])
    assert three.rank == pytest.approx(2 - better)
    assert found.metrics[SCORE]["plcc"]["one"].rank == pytest.approx(1 + better)
    # The mean of three is known no better over images than about one run.
    alone = compare([ComparedModel("a", seeds[:1]), ComparedModel("b", [single])])
    one = alone.metrics[SCORE]["plcc"]["a"]
    assert three.high - three.low < 1.5 * (one.high - one.low)


def test_what_is_not_shared_is_left_out_and_said():
    whole, part = run(0.2), run(0.4)
    rows = [r for r in part.results.rows if r["uid"] != "i0" and r["target"] != WORDS]
    part.results.rows = rows
    small = run(0.3, size=4)
    found = compare([ComparedModel("whole", [whole]), ComparedModel("part", [part])])
    assert found.counts == {MAP: COUNT - 1, SCORE: COUNT - 1}
    assert f"{WORDS}: not compared with part, without it" in found.notes
    assert f"{SCORE}: 1 images lack a prediction of some model" in found.notes
    found = compare([ComparedModel("whole", [whole]), ComparedModel("small", [small])])
    assert MAP not in found.metrics
    assert "measured at 6 px (run 0.2.0) and 4 px (run 0.3.0)" in found.notes[0]


def test_long_prompts_are_cut_to_the_words_that_both_read():
    one, other = run(0.2), run(0.4)
    for row in other.results.rows:
        if row["target"] == WORDS and row["uid"] == "i5":
            row["prediction"], row["truth"] = row["prediction"][:1], row["truth"][:1]
    found = compare([ComparedModel("a", [one]), ComparedModel("b", [other])])
    assert f"{WORDS}: 1 prompts cut to the words that all read" in found.notes
    hits = [r for r in one.results.rows if r["target"] == WORDS]
    assert len(hits[5]["truth"]) == 3, "the run's own rows are as they were"


def _with_other_truth(run):
    for row in run.results.rows:
        if row["target"] == SCORE:
            row["truth"] = row["truth"] / 2 + 0.1
    return run


def _renamed(run):
    for row in run.results.rows:
        row["uid"] = f"dev-{row['uid']}"
    return run


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: _renamed(run(0.2)), "share no image with .*another split"),
        (lambda: run(0.2, prompt="a b d"), "have other labels: prompt 'a b c' and"),
        (
            lambda: _with_other_truth(run(0.2)),
            "overall: .* have other labels: 1 and 0.6;",
        ),
        (
            lambda: run(0.2, convention="richhf"),
            "one convention of metrics, got 'rahf'",
        ),
    ],
)
def test_wrong_pairings_are_refused(other, message):
    models = [ComparedModel("a", [run(0.3)]), ComparedModel("b", [other()])]
    with pytest.raises(ValueError, match=message):
        compare(models)


def test_few_models_and_images_of_one_name():
    with pytest.raises(ValueError, match="at least two models to compare, got 1"):
        compare([ComparedModel("a", [run(0.3)])])
    twice = run(0.3)
    twice.results.rows.append(twice.results.rows[0])
    with pytest.raises(ValueError, match="two images are called 'i0'"):
        compare([ComparedModel("a", [twice]), ComparedModel("b", [run(0.2)])])
    apart = [ComparedModel("a", [run(0.3, names=[MAP])])]
    with pytest.raises(ValueError, match="share no target with labels"):
        compare([*apart, ComparedModel("b", [run(0.3, names=[SCORE])])])


def test_models_are_named_by_what_tells_them_apart():
    named = compared_runs.name_models
    assert list(named(["runs/a", "runs/b/"])) == ["a", "b"]
    assert list(named(["x/a", "y/a"])) == ["x/a", "y/a"]
    assert list(named(["r/checkpoints/5", "r/checkpoints/9"])) == ["r/5", "r/9"]
    assert named(["a"], ["m=b,c"]) == {"a": ("a",), "m": ("b", "c")}
    for paths, groups, message in (
        (["a"], ["b"], "expected NAME=W1"),
        (["a"], ["a=b"], "another model 'a'"),
        (["a"], ["b=a"], "a appears 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            named(paths, groups)
