"""RAHF as a T5X model, for teams whose launchers, eval jobs and configs are T5X's.

`configs/t5x/*.gin` configures it, and docs/t5x.md lists what is supported.
launch/install_t5x.sh installs T5X; nothing else imports this module.

The model, the losses, the optimizer and its schedule are those of `rahf.bin.train`,
from the same config, so both trainers give the same numbers.
"""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import clu.metrics
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import partitioning
from t5x import metrics as t5x_metrics  # pyright: ignore
from t5x import models, optimizers, utils  # pyright: ignore

from rahf import targets
from rahf.inference.predict_step import make_predict_step
from rahf.input import vocabulary
from rahf.models import decoding
from rahf.models.batch import example_batch
from rahf.models.rahf import TEXT_KINDS, make_model
from rahf.t5x import data as t5x_data
from rahf.training import losses
from rahf.training.optimizer import make_optimizer, make_schedule
from rahf.weights import matching


def read_config(path: str, overrides: Mapping[str, Any] | None = None):
    """Reads a config file of configs/.

    Args:
      path: the config file.
      overrides: values by key, such as {"input.batch_size": 8}; keys must exist.

    Raises:
      ValueError: the file does not exist, or its optimizer accumulates gradients.
    """
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    if spec is None or spec.loader is None or not pathlib.Path(path).exists():
        raise ValueError(f"read_config.path={path!r}: no such config file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.update_from_flattened_dict(dict(overrides or {}))
    if config.optimizer.accumulation != 1:
        raise ValueError(
            f"config.optimizer.accumulation={config.optimizer.accumulation} must be 1: "
            "T5X sums losses over microbatches, but these losses are means; leave "
            "Trainer.num_microbatches at None"
        )
    return config


def dataset_config(config, split: str) -> utils.DatasetConfig:
    """Returns T5X's DatasetConfig for a split of the config's task."""
    return utils.DatasetConfig(
        mixture_or_task_name=config.task.name,
        task_feature_lengths=t5x_data.task_feature_lengths(config),
        split=split,
        batch_size=config.input.batch_size,
        shuffle=split == "train",
        seed=config.seed,
        pack=False,
    )


def training_steps(config) -> int:
    """Returns the value of `train.total_steps`."""
    return config.training_steps


def learning_rate(config):
    """Returns `Trainer.learning_rate_fn`, for T5X's logs; the optimizer has its own."""
    return make_schedule(config.schedule, config.training_steps)


class RAHFModel(models.BaseTransformerModel):
    """The model of a config.

    Parameters are initialised as in `rahf.bin.train`, from `config.seed`; T5X's random
    seed is used for dropout only.
    """

    def __init__(self, config):
        """Makes the model; `config` is the training config (`read_config`)."""
        t5x_data.serve(config)
        inputs, said = t5x_data.vocabularies(config)
        self.config = config
        self.FEATURE_CONVERTER_CLS = t5x_data.make_feature_converter(config)
        self._weights = losses.loss_weights(config.loss_weights, config.task.targets)
        # Free decoding reads words on the host, but T5X runs a single program.
        predicted = config.copy_and_resolve_references()
        predicted.model.decoding = "constrained"
        marks = vocabulary.load(config.input.vocabulary).mark_ids
        self._predict = make_predict_step(predicted, marks)
        super().__init__(
            module=make_model(config, training=True),
            input_vocabulary=inputs,
            output_vocabulary=said,
            optimizer_def=optimizers.OptaxWrapper(
                make_optimizer(config.optimizer, learning_rate(config))
            ),
        )

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        """Returns parameters, and in "params_axes" the logical names of their axes."""
        del rng, input_shapes, input_types  # the config determines them
        key = jax.random.key(self.config.seed)
        boxed = self.module.init(key, example_batch(self.config))["params"]
        names: dict[str, Any] = matching.flatten(nn.get_partition_spec(boxed))
        axes = {
            f"{path}_axes": partitioning.AxisMetadata(tuple(spec))
            for path, spec in names.items()
        }
        return {
            "params": nn.unbox(boxed),
            "params_axes": matching.unflatten(axes),
        }

    def _outputs(self, params, batch, dropout_rng=None):
        return self.module.apply(
            {"params": params},
            batch,
            deterministic=dropout_rng is None or self.config.model.dropout == 0,
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
        )

    def _compute_logits(self, params, batch, dropout_rng=None):
        """Returns float32[B, T, V], the logits of each example's target text."""
        names = self.module.config.names(*TEXT_KINDS)
        return self._outputs(params, matching.unflatten(batch), dropout_rng)[names[0]]

    def loss_fn(self, params, batch, dropout_rng):
        """Returns the loss of `rahf.training.losses.total`, and each target's mean."""
        batch = matching.unflatten(batch)
        outputs = self._outputs(params, batch, dropout_rng)
        counts = {name: batch["weights"][name].sum() for name in self._weights}
        loss, sums = losses.total(outputs, batch, self._weights, counts)
        average: Any = clu.metrics.Average  # a dataclass, unknown to type checkers
        metrics = {
            f"loss/{name}": average(total=sums[name], count=counts[name])
            for name in self._weights
        }
        metrics["loss"] = t5x_metrics.AveragePerStep.from_model_output(loss)
        return loss, metrics

    def score_batch(self, params, batch, return_intermediates=False):
        """Returns float32[B], the negative weighted loss of each example."""
        del return_intermediates
        batch = matching.unflatten(batch)
        outputs = self._outputs(params, batch)
        total = 0.0
        for name, weight in self._weights.items():
            loss = losses.LOSSES[targets.get(name).kind]
            values = loss(outputs[name], batch["targets"][name])
            total += weight * values * batch["weights"][name]
        return -jnp.asarray(total)

    def predict_batch_with_aux(self, params, batch, rng=None):
        """Decodes greedily, and predicts all targets.

        Returns:
          int32[B, T] tokens, and {target: array} as `make_predict_step` returns it.
        """
        del rng
        batch, variables = matching.unflatten(batch), {"params": params}
        bound = self.module.bind(variables)
        tokens = bound.encode_image(batch["image"])
        aux = self._predict(params, batch | {"image_tokens": tokens})
        encoding = bound.encode(tokens, batch["inputs"])
        length = self.config.input.target_length
        return decoding.greedy(self.module, variables, encoding, length), aux
