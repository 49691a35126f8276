"""Evaluation: what is counted, what is written, and that batching changes nothing."""

import json
import pathlib

import numpy as np
import pytest
import scipy.stats

from rahf import targets
from rahf.evaluation.evaluate import Results, evaluate
from rahf.evaluation.metrics.table import METRICS

NAMES = targets.FEEDBACK
SIZE, LENGTH = 8, 6


def examples(n=11, seed=0):
    """Examples with truth and prediction for every target; some lack a label."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        ends = np.array([1, 0, 1, 1, 0, 0])
        example = {
            "uid": f"u{i}",
            "prompt": "a red, cat",
            "word_ends": ends,
            "word_labels": ends * (rng.random(LENGTH) < 0.4),
        }
        for row in targets.select(NAMES):
            shape = {"heatmap": (SIZE, SIZE), "score": (), "words": (LENGTH,)}
            shape = shape[row.kind.value]
            example[row.name] = rng.random(shape) * (rng.random(shape) < 0.6)
            example[f"predicted {row.name}"] = rng.random(shape)
            example[f"weight {row.name}"] = float(rng.random() < 0.8)
        made.append(example)
    return made


def batches(made, size):
    """Batches as the loader makes them: the last is padded, without infos."""
    for start in range(0, len(made), size):
        some = made[start : start + size]
        padding = size - len(some)

        def column(name, some=some, padding=padding):
            stacked = np.stack([np.asarray(x[name], np.float32) for x in some])
            return np.pad(stacked, [(0, padding)] + [(0, 0)] * (stacked.ndim - 1))

        batch = {
            "word_ends": column("word_ends"),
            "word_labels": column("word_labels"),
            "targets": {name: column(name) for name in NAMES},
            "weights": {name: column(f"weight {name}") for name in NAMES},
            "answers": {name: column(f"predicted {name}") for name in NAMES},
        }
        yield batch, [{"uid": x["uid"], "prompt": x["prompt"]} for x in some]


def predict(batch):
    return batch["answers"]


def run(made, size=4, step=predict, names=NAMES, **kwargs):
    return evaluate(step, batches(made, size), names, progress=False, **kwargs)


def test_every_target_is_measured_over_the_examples_that_have_its_label():
    made = examples()
    results = run(made)
    assert list(results.metrics) == list(NAMES)
    score = targets.select(NAMES, targets.Kind.SCORE)[0].name
    with_label = [x for x in made if x[f"weight {score}"]]
    assert 2 < len(with_label) < len(made)
    assert results.metrics[score]["n"] == len(with_label)
    expected = scipy.stats.pearsonr(
        [np.float32(x[f"predicted {score}"]) for x in with_label],
        [np.float32(x[score]) for x in with_label],
    )
    assert results.metrics[score]["plcc"] == pytest.approx(expected.statistic)


@pytest.mark.parametrize("convention", ["rahf", "richhf"])
def test_the_batch_size_changes_no_bit(convention):
    made = examples()
    results = [run(made, size, convention=convention) for size in (1, 4, 11)]
    assert results[0].metrics == results[1].metrics == results[2].metrics
    assert results[0].convention == convention
    key = lambda row: (row["target"], row["uid"])
    rows = [sorted(each.rows, key=key) for each in results]
    assert rows[0] == rows[1] == rows[2]


def test_rows_say_who_was_measured():
    made = examples()
    results = run(made)
    assert len(results.rows) == sum(values["n"] for values in results.metrics.values())
    words = targets.select(NAMES, targets.Kind.WORDS)[0].name
    row = next(row for row in results.rows if row["target"] == words)
    example = next(x for x in made if x["uid"] == row["uid"])
    assert row["prompt"] == "a red, cat"
    assert row["prediction"] == pytest.approx(example[f"predicted {words}"][[0, 2, 3]])


def test_prompts_that_were_cut_are_counted_once():
    made = examples()
    cut = {made[0]["uid"], made[3]["uid"]}

    def told():
        for batch, infos in batches(made, 4):
            yield batch, [x | {"truncated": x["uid"] in cut} for x in infos]

    results = evaluate(predict, told(), NAMES, progress=False)
    assert results.facts["truncated"] == 2
    assert {row["uid"] for row in results.rows if row["truncated"]} == cut
    assert run(made).facts["truncated"] == 0


def test_results_are_written_and_read(tmp_path):
    results = run(examples())
    results.facts["step"] = 7
    summary, rows = results.write(tmp_path / "eval", "scores")
    again = Results.read(summary)
    assert again.metrics == results.metrics
    assert again.facts == results.facts
    assert again.convention == "rahf"
    lines = pathlib.Path(rows).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == results.rows
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="not an evaluation.s JSON file"):
        Results.read(tmp_path / "other.json")
    (tmp_path / "torn.json").write_text('{"metr')
    with pytest.raises(ValueError, match=r"torn.json is not valid JSON"):
        Results.read(tmp_path / "torn.json")


def test_flat_names_are_those_of_the_metrics_file():
    results = Results({"a": {"plcc": 0.5, "n": 2}})
    assert results.flat() == {"a/plcc": 0.5, "a/n": 2}
    assert "PLCC" in results.table()


def test_nan_names_the_example_and_the_target():
    made = examples()
    name = targets.select(NAMES, targets.Kind.SCORE)[1].name
    made[5][f"predicted {name}"] = np.nan
    made[5][f"weight {name}"] = 1
    with pytest.raises(ValueError, match=f"example u5 of target {name}"):
        run(made)


def test_a_target_that_the_model_does_not_predict():
    with pytest.raises(ValueError, match=f"does not predict.*{NAMES[1]}"):
        run(examples(), step=lambda batch: {NAMES[1]: batch["answers"][NAMES[1]]})


def test_kinds_without_metrics_are_passed_over(monkeypatch):
    monkeypatch.delitem(METRICS, targets.get("caption").kind)
    assert run(examples(), names=["caption"]).metrics == {}
    with pytest.raises(ValueError, match="unknown metric convention"):
        run(examples(), convention="mine")


def test_one_order_that_of_the_table(tmp_path):
    names = list(reversed(NAMES))
    results = run(examples(), names=names)
    [summary, _] = results.write(tmp_path)
    assert list(json.loads(pathlib.Path(summary).read_text())["metrics"]) == [*NAMES]
    assert list(dict.fromkeys(key.split("/")[0] for key in results.flat())) == [*NAMES]
    shown = [line.split()[0] for line in results.table().splitlines() if line.strip()]
    assert [name for name in shown if name in NAMES] == [*NAMES]
    own = {"z": 1, "overall": 2, "a": 3, "plausibility": 4}
    assert list(targets.ordered(own)) == ["plausibility", "overall", "z", "a"]


def test_metrics_that_no_example_defines_are_named():
    made = examples()
    heatmap = targets.select(NAMES, targets.Kind.HEATMAP)[0].name
    words = targets.select(NAMES, targets.Kind.WORDS)[0].name
    for example in made:
        example[heatmap] = np.zeros((SIZE, SIZE))
        example["word_labels"] = np.zeros(LENGTH)
    assert run(made, names=[words, heatmap]).notes() == [
        f"{heatmap}: no example defines NSS, KLD, AUC-Judd, SIM, CC",
        f"{words}: no example defines AP",
    ]


def test_no_batches():
    results = evaluate(predict, [], NAMES, progress=False)
    assert all(values["n"] == 0 for values in results.metrics.values())
    assert results.rows == []
