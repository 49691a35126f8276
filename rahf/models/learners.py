"""What a training run learns: parameters, and the loss of a batch.

The training loop asks a learner for both and knows nothing else of what it trains. A
config names its learner, `config.learner`; a module among `config.task.modules` may
register more:

    learners.register("my_generator", MyGenerator.from_config)
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

#: The learner of a config that names none: the model of rich feedback.
FEEDBACK = "feedback"

Evaluate = Callable[[Any], dict[str, float]]


class Learner(Protocol):
    """What the loop asks of what it trains. All arrays may be traced."""

    def init(self, key) -> Any:
        """Returns new parameters, with the logical names of their axes."""
        ...

    def counts(self, batch) -> dict[str, Any]:
        """Returns by name of a loss, as the log has it, the weight of a whole batch,
        float32[], which the sum of its examples' losses is divided by."""
        ...

    def loss(self, params, batch, counts: Mapping[str, Any], key) -> tuple[Any, Any]:
        """Computes the loss of a batch, or of a part of it.

        Args:
          params: the parameters.
          batch: a batch, see `rahf.models.batch`.
          counts: from `counts`, of the whole batch.
          key: a random key of this step.

        Returns:
          The loss to minimise, float32[], and by name the sums over examples, float32[].
          Both add up over the parts of a batch. Beside the sums, "statistics" may have a
          tree of those that batch norms found (`rahf.models.batch_norm`).
        """
        ...

    def pretrained(self, params) -> Any:
        """Returns new parameters with those replaced that begin pretrained."""
        ...

    def rate(self, name: str) -> float:
        """Returns the learning rate of the parameter `name`, "vit/cls" say, relative to
        that of the schedule. 0 freezes it."""
        ...

    def evaluator(self) -> Evaluate | None:
        """Returns what measures parameters while they are trained,
        {"what/metric": value}; None if the task's own metrics do."""
        ...


_LEARNERS: dict[str, Callable[[Any], Learner]] = {}


def register(name: str, make: Callable[[Any], Learner]) -> None:
    """Makes a learner known by a name.

    Args:
      name: the name, for `config.learner`.
      make: makes the learner from a training config.

    Raises:
      ValueError: the name is another's.
    """
    if _LEARNERS.get(name, make) is not make:
        raise ValueError(f"the learner {name!r} is already registered")
    _LEARNERS[name] = make


def is_known(config) -> bool:
    """Returns whether the learner of a config is registered."""
    return config.get("learner", FEEDBACK) in _LEARNERS


def check_feedback(config) -> None:
    """Raises ValueError if a config is of a model that predicts no rich feedback."""
    name = config.get("learner", FEEDBACK)
    if name != FEEDBACK:
        raise ValueError(
            f"this checkpoint is of config.learner={name!r}, which predicts no feedback"
        )


def make_learner(config) -> Learner:
    """Returns the learner of a training config.

    Raises:
      ValueError: it is unknown.
    """
    name = config.get("learner", FEEDBACK)
    if name not in _LEARNERS:
        raise ValueError(
            f"config.learner={name!r} is unknown; known: {', '.join(_LEARNERS)}. One of "
            "yours is registered by a module among config.task.modules"
        )
    return _LEARNERS[name](config)
