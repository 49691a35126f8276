"""What training shows of an evaluation: a small table, and pictures for TensorBoard."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf import targets, words
from rahf.evaluation import text_tables
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.metrics.table import HEADLINES
from rahf.evaluation.split import SplitEvaluator
from rahf.inference import sheets
from rahf.inference.predictor import Prediction, Word

_SHOWN = tuple(name for names in HEADLINES.values() for name in names)


class EvaluationDisplay:
    """Shows evaluations; see `rahf.training.loop.Display`."""

    def __init__(self, config, evaluator: SplitEvaluator | None = None):
        """Args:
        config: the training config; `config.log.examples` is the number of pictures.
        evaluator: the one that measures; None where a learner has its own, whose numbers
          are shown without pictures.
        """
        self._split = config.eval.split if evaluator else ""
        self._evaluator = evaluator
        self._examples = config.log.get("examples", 0)

    def table(self, step: int, results: Mapping[str, float]) -> str:
        """Returns the headline metrics of an evaluation as text.

        `{"plausibility/plcc": 0.5, "plausibility/n": 64.0}` at step 600 ->

            step 600, dev split, 64 images  PLCC ^
            plausibility                     0.500

        Args:
          step: when it was.
          results: named as in metrics.jsonl. Of what is no target all are shown, as
            they are where none is a headline.
        """
        rows: dict[str, dict[str, float]] = {}
        for name, value in results.items():
            target, _, metric = name.rpartition("/")
            rows.setdefault(target, {})[metric] = value
        counts = {int(row["n"]) for row in rows.values() if "n" in row}
        known = {row.name for row in targets.rows()}
        headlines = {
            target: {metric: row[metric] for metric in _SHOWN if metric in row}
            if target in known
            else row
            for target, row in rows.items()
        }
        shown = {k: row for k, row in headlines.items() if row} or rows
        parts = [f"step {step:,}"]
        parts += [f"{self._split} split"] if self._split else []
        parts += [f"{max(counts):,} images"] if counts else []
        return text_tables.render(shown, title=", ".join(parts))

    def pictures(self, params) -> dict[str, np.ndarray]:
        """Returns the first examples of the split with predictions and truth.

        Args:
          params: the parameters.

        Returns:
          uint8[H, W, 3] by name.
        """
        if self._evaluator is None or not self._examples:
            return {}
        found = self._evaluator.predict_examples(params, self._examples)
        return {f"example/{number}": _draw(each) for number, each in enumerate(found)}


def _draw(example: JudgedExample) -> np.ndarray:
    texts = words.split(example.prompt)
    found: Any = Prediction(
        prompt=example.prompt,
        scores=dict(example.scores),
        words=[
            Word(text, float(p), bool(p > example.cut))
            for text, p in zip(texts, example.words, strict=False)
        ],
        heatmaps=dict(example.heatmaps),
        image_size=(example.image.shape[0], example.image.shape[1]),
        prompt_truncated=len(example.words) < len(texts),
    )
    truth = example.true_heatmaps or {}
    return np.asarray(sheets.draw(example.image, example.prompt, found, truth))
