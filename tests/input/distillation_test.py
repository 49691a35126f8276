"""The config of a student: what is taught, by whom, and what measures it."""

import json

import pytest

from rahf import targets
from rahf.input import distillation
from rahf.input.loader import asked_targets
from tests.support import tiny


@pytest.fixture
def cache(tmp_path):
    """The statement of a teacher of all seven targets; no pictures."""

    def write(names=targets.FEEDBACK, side=64):
        teacher = {"path": "/w", "step": 7, "digest": "files:1", "targets": list(names)}
        about = {"teacher": teacher, "side": side}
        (tmp_path / "teacher.json").write_text(json.dumps(about))
        return str(tmp_path)

    return write


def student(config, cache, labels=True):
    return distillation.student_config(config, cache, own_pictures=labels)


def test_a_multihead_student(cache):
    config = tiny.config()
    config.task.name = "scenes_multihead_word_presence"
    config.task.targets = (*config.task.targets, "word_presence")
    before = config.to_json_best_effort()
    found = student(config, cache())
    assert config.to_json_best_effort() == before
    assert found.task.name == "distilled_soft_multihead_word_presence"
    assert found.task.targets == (*config.task.targets, "soft_words")
    assert found.eval.task == "scenes_multihead_word_presence"
    assert found.loss_weights.soft_words == config.loss_weights.misaligned_words
    assert found.input.distilled.teacher.digest == "files:1"
    assert found.input.distilled.dev_share == 0
    assert set(asked_targets(found)) == {*found.task.targets} - {"misaligned_words"}


def test_an_augmented_student_keeps_its_weights(cache):
    config = tiny.config("augmented")
    config.task.weights = {"scenes_misaligned_words": 2.0, "scenes_alignment": 3.0}
    found = student(config, cache())
    assert found.task.name.split("+")[0] == "distilled_implausibility"
    assert found.task.name.endswith("+distilled_soft_words")
    assert found.task.weights.to_dict() == {
        "distilled_soft_words": 2.0,
        "distilled_alignment": 3.0,
    }


def test_a_student_without_labels_is_measured_against_its_teacher(cache):
    found = student(tiny.config(), cache(), labels=False)
    assert found.eval.task == "distilled_multihead"
    assert found.input.distilled.dev_share > 0
    named = tiny.config()
    named.eval.task = "richhf_multihead"
    found = student(named, cache(), labels=False)
    assert found.eval.task == "richhf_multihead"
    assert found.input.distilled.dev_share == 0
    one = tiny.config("augmented")
    one.task.update(name="scenes_overall", targets=("overall",))
    found = student(one, cache(), labels=False)
    assert found.eval.task == found.task.name == "distilled_overall"
    assert found.task.targets == ("overall",)


def test_what_cannot_be_taught(cache):
    config = tiny.config()
    with pytest.raises(ValueError, match="does not predict overall, misaligned_words"):
        student(config, cache(targets.FEEDBACK[:5]))
    with pytest.raises(ValueError, match=r"image_size=32: .* pictures of 16 pixels"):
        student(config, cache(side=16))
    config.task.targets = (*config.task.targets, "caption")
    with pytest.raises(ValueError, match="can be taught .*, not caption"):
        student(config, cache())


def test_own_pictures():
    config = tiny.config()
    config.input.image_size = 64
    records, identity = distillation.own_records(config)
    assert len(records) == identity["number"]
    assert identity["options"]["scenes"]["difficulty"] == "full"
    config.task.name = "scenes_multihead_captioning"
    with pytest.raises(ValueError, match="expected the task of one dataset"):
        distillation.own_records(config)
    config.task.name = "distilled_multihead"
    with pytest.raises(ValueError, match="name pictures with --images"):
        distillation.own_records(config)
