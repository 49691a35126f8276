"""Learners are found by the name in the config, which a module may have to register."""

import pytest

from rahf.models import learners
from rahf.training import feedback
from tests.support import tiny


def test_a_name_is_one_learner():
    config, made = tiny.config(), object()
    make = lambda config: made
    learners.register("one", make)
    learners.register("one", make)  # the module was imported again
    config.learner = "one"
    assert learners.make_learner(config) is made
    with pytest.raises(ValueError, match="'one' is already registered"):
        learners.register("one", lambda config: None)


def test_unknown_ones_are_looked_for_in_the_modules_of_the_config(monkeypatch):
    config = tiny.config()
    config.learner = "mine"
    config.task.modules = ()
    with pytest.raises(ValueError, match=r"config.learner='mine'.*feedback.*modules"):
        feedback.make_learner(config)
    asked = []
    monkeypatch.setattr(
        feedback,
        "import_modules",
        lambda config: (asked.append(1), learners.register("mine", lambda config: 7)),
    )
    assert feedback.make_learner(config) == 7
    assert feedback.make_learner(config) == 7 and asked == [1]


def test_rich_feedback_is_learned_where_none_is_named():
    learner = feedback.make_learner(tiny.config())
    assert isinstance(learner, feedback.FeedbackLearner)
    assert tuple(learner.weights) == tuple(tiny.config().task.targets)
    assert learner.evaluator() is None
