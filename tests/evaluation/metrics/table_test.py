"""Names of metrics: those that are computed, and which may choose a checkpoint."""

import re

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation.metrics import table as metrics_table
from rahf.evaluation.text_tables import is_count
from rahf.targets import Kind

WORD_PRESENCE = np.array([[3, 4, 1, 0]])
ONES = np.ones((1, 4), int)
# A prediction and a truth, as `update` takes them, of which every metric is defined.
EXAMPLES = {
    Kind.HEATMAP: [
        (np.eye(2)[None], np.eye(2)[None]),
        (np.eye(2)[None], 0 * np.eye(2)[None]),
    ],
    Kind.SCORE: [(np.array([0.5]), np.array([0.25]))],
    Kind.WORDS: [(ONES * 0.5, (ONES, ONES))],
    Kind.CAPTION: [(-0.5 * ONES, WORD_PRESENCE)],
    Kind.WORD_PRESENCE: [(np.linspace(0, 1, 8)[None], WORD_PRESENCE)],
    Kind.PREFERENCE: [(np.array([0.4, 0.6]), np.array([[0, 0], [1, 0]]))],
}


@pytest.mark.parametrize("kind", metrics_table.METRICS, ids=lambda kind: kind.value)
def test_the_names_of_a_kind_are_those_it_computes(kind):
    row = next(row for row in targets.rows() if row.kind is kind)
    state = metrics_table.METRICS[kind].empty(row)
    for prediction, truth in EXAMPLES[kind]:
        state.update(prediction, truth)
    found = [name for name in state.compute() if not is_count(name)]
    assert sorted(found) == sorted(metrics_table.NAMES[kind])
    assert (
        set(metrics_table.HEADLINES[kind])
        <= set(found)
        <= set(metrics_table.DESCRIPTIONS)
    )


def test_a_metric_of_the_targets_kind():
    row, meaning = metrics_table.find("plausibility/plcc")
    assert (row.name, meaning.better) == ("plausibility", "higher")
    assert metrics_table.find("misalignment/cc")[1].title == "CC"
    metrics_table.check_best("misaligned_words/f1_micro", targets.FEEDBACK)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "plausibility/cc",
            "metrics of 'plausibility' (kind score) are plcc, srcc, mse",
        ),
        ("misalignment/plcc", "are mse, mse_empty, nss, kld, auc_judd, sim, cc"),
        ("overall/n", "are plcc, srcc, mse"),  # a count chooses nothing
        ("plausibility", "expected <target>/<metric>"),
        ("plausible/plcc", "unknown target 'plausible'"),
        ("overall/mse", "higher is better: overall/plcc, overall/srcc"),
        ("caption/nll", "this kind has none"),
        ("alignment/plcc", "is not measured in this run, which measures overall"),
    ],
)
def test_what_cannot_choose_the_best(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        metrics_table.check_best(name, ["overall"])
