"""RAHF's metrics for T5X, instead of seqio's Evaluator, which compares tokens.

`t5x.eval` makes one (`inference_evaluator_cls` in configs/t5x/eval.gin), and so does
`t5x.train` for its evaluation by prediction. T5X's partitioner runs the model; data and
metrics are those of the eval binaries. Only T5X's gin files refer to this module.
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from rahf.evaluation.split import SplitEvaluator
from rahf.t5x import data as t5x_data


class Evaluator:
    """The interface that `t5x.eval.InferenceEvaluator` needs.

    Writes TensorBoard curves and, as the eval binaries do, the file
    `<log_dir>/<split>/checkpoint_<step>.json` and its examples.

    Attributes:
      eval_tasks: the tasks to evaluate.
      model_feature_shapes: the shapes of one example's model features.
    """

    def __init__(
        self,
        mixture_or_task_name: str,
        feature_converter: Any,
        eval_split: str,
        config: Any,
        examples: int = 0,
        convention: str = "rahf",
        log_dir: str = "",
        **unused: Any,
    ):
        """Prepares the evaluation; nothing is read yet.

        Args:
          mixture_or_task_name, feature_converter, eval_split, log_dir: from T5X.
          config: the training config.
          examples: how many records of the split, 0 = all.
          convention: the convention of the metrics.
          **unused: T5X's options for caches and seeds, which do not apply.
        """
        del unused
        self._name, self._split, self._log_dir = (
            mixture_or_task_name,
            eval_split,
            log_dir,
        )
        self._evaluator = SplitEvaluator(
            config,
            split=eval_split,
            examples=examples,
            batch_size=config.input.batch_size,
            convention=convention,
        )
        self.eval_tasks = t5x_data.subtasks(mixture_or_task_name)
        self.model_feature_shapes = feature_converter.shapes()

    def evaluate(
        self,
        *,
        compute_metrics: bool,
        step: int,
        predict_with_aux_fn: Callable[..., Any],
        **unused: Any,
    ) -> tuple[concurrent.futures.Future, None]:
        """Predicts the split and measures it.

        Args:
          compute_metrics: whether this process writes the results.
          step: the step of the checkpoint.
          predict_with_aux_fn: T5X's function for `predict_batch_with_aux`.
          **unused: T5X's other functions for the model.

        Returns:
          A finished future of {task: {"plausibility/plcc": value}}, and None.
        """
        del unused

        def predict(batch):
            _, outputs = predict_with_aux_fn(t5x_data.enumerate_rows(batch))
            return {name: np.asarray(value) for name, value in outputs.items()}

        results = self._evaluator.measure(predict)
        results.facts["step"] = step
        if compute_metrics and self._log_dir:
            folder = os.path.join(self._log_dir, self._split)
            results.write(folder, f"checkpoint_{step}")
            t5x_data.write_scalars(self._log_dir, self._name, step, results.flat())
        done: concurrent.futures.Future = concurrent.futures.Future()
        done.set_result({self._name: results.flat()})
        return done, None

    def close(self) -> None:
        """Does nothing: there is nothing to close."""
