"""Our metrics for T5X, in the place of seqio's Evaluator, which compares tokens.

`t5x.eval` makes one (`inference_evaluator_cls` of configs/t5x/eval.gin), and `t5x.train`
does for its evaluation by prediction. The model runs by T5X's partitioner; data and
metrics are those of the eval binaries. Only T5X's gin files name this file.
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from rahf.evaluation.split import SplitEvaluator
from rahf.t5x import data as t5x_data


class Evaluator:
    """What `t5x.eval.InferenceEvaluator` asks of an evaluator.

    Writes, beside curves for TensorBoard, `<log_dir>/<split>/checkpoint_<step>.json`
    and its examples, as the eval binaries do.

    Attributes:
      eval_tasks: the tasks that are measured.
      model_feature_shapes: of one example.
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
        """Prepares; nothing is read yet.

        Args:
          mixture_or_task_name, feature_converter, eval_split, log_dir: from T5X.
          config: the training config.
          examples: how many records of the split, 0 = all.
          convention: of the metrics.
          **unused: what T5X says of caches and seeds, which are of no use here.
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
          compute_metrics: whether this process is the one that writes.
          step: of the checkpoint.
          predict_with_aux_fn: T5X's, on the model's `predict_batch_with_aux`.
          **unused: T5X's other functions of the model.

        Returns:
          A future that is done, {task: {"plausibility/plcc": value}}, and nothing.
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
        """Has nothing to close."""
