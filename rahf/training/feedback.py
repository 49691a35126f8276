"""The learner of rich feedback: RAHF, and the losses of its targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rahf.checkpoints.start import start_stem
from rahf.input.registry import import_modules
from rahf.models import learners
from rahf.models.batch import example_batch
from rahf.models.batch_norm import STATISTICS
from rahf.models.rahf import make_model
from rahf.targets import Kind
from rahf.training import losses

# What the names of the image encoder's stem begin with.
_STEM = "vit/embedding/"


@dataclasses.dataclass(frozen=True)
class FeedbackLearner:
    """RAHF, learning the targets of `config.task`; see `rahf.models.learners.Learner`."""

    config: Any
    model: Any
    weights: dict[str, float]  # of each target's loss
    losses: Mapping[Kind, Any]  # the loss of each kind

    @classmethod
    def from_config(cls, config) -> "FeedbackLearner":
        """Returns the learner of a training config."""
        weights = losses.loss_weights(config.loss_weights, config.task.targets)
        model = make_model(config, training=True)
        return cls(config, model, weights, losses.make_losses(config))

    def init(self, key):
        """Returns new parameters."""
        return self.model.init(key, example_batch(self.config))["params"]

    def counts(self, batch):
        """Returns by target the sum of its examples' weights."""
        return {name: batch["weights"][name].sum() for name in self.weights}

    def loss(self, params, batch, counts, key):
        """Returns the weighted loss of all targets, and the sum of each."""
        vit = self.model.config.vit
        outputs, found = self.model.apply(
            {"params": params},
            batch,
            deterministic=self.config.model.dropout == 0,
            rngs={"dropout": key},
            mutable=[STATISTICS] if vit.stem_statistics == "trained" else [],
        )
        loss, sums = losses.total(outputs, batch, self.weights, counts, self.losses)
        return loss, sums | found

    def pretrained(self, params):
        """Returns the parameters with those of a pretrained stem."""
        return start_stem(self.config, params)

    def rate(self, name: str) -> float:
        """Returns `config.optimizer.stem_rate` for the stem, 1 for all else."""
        stem_rate = self.config.optimizer.get("stem_rate", 1.0)
        return stem_rate if name.startswith(_STEM) else 1.0

    def evaluator(self) -> None:
        """The metrics of the task measure it."""


learners.register(learners.FEEDBACK, FeedbackLearner.from_config)


def make_learner(config) -> learners.Learner:
    """Returns the learner of a config, whose modules may have to be imported first.

    Raises:
      ValueError: it is unknown.
    """
    if not learners.is_known(config):
        import_modules(config)
    return learners.make_learner(config)
