"""Training and evaluation on a built RichHF-18K, in either loader."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import tasks.richhf
import tasks.scenes
from configs import rahf_base, rahf_base_multihead
from rahf import words
from rahf.bin import build_richhf
from rahf.datasets.richhf.records import RichHF
from rahf.input import loader as data_input
from rahf.input.registry import MIXTURES, TASKS, find
from rahf.input.seqio import loader as seqio_loader
from rahf.targets import FEEDBACK
from tests.input.loader_test import (
    assert_equal,
    assert_resumes,
    make_config,
    take,
    weights,
)
from tests.support import richhf_files as files

AUGMENT = {"crop": 0.8, "flip": True, "colour": 0.2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("richhf")
    labels = files.write_labels(folder / "labels")
    shards = files.write_pickapic(folder / "pickapic")
    build_richhf.main(
        [f"--labels={labels}", f"--pickapic={shards}", f"--output={folder}"]
        + ["--partial"]
    )
    return str(folder)


def richhf_config(data_dir, task="richhf_seven", **options):
    config = make_config(task, **options)
    config.model.variant = "multihead" if task == "richhf_multihead" else "augmented"
    config.input.richhf = {"data_dir": data_dir}
    return config


def test_a_record_is_what_was_published(data_dir):
    records = RichHF("train", data_dir)
    assert len(records) == 6
    record = records[4]
    assert record["uid"] == files.uid("train", 4)
    assert words.mark(record["prompt"], record["prompt_misalignment_label"]) == (
        "a red_0 boat, left of_0 a house"
    )
    heatmap = record["artifact_map"]
    assert heatmap.dtype == np.float32
    np.testing.assert_array_equal(heatmap, files.heatmap(4) / np.float32(255))
    assert record["overall_score"] == np.float32(0)
    assert records[-2]["uid"] == record["uid"]
    with pytest.raises(IndexError, match=r"record 6 of 6 in RichHF\('train'"):
        records[6]
    with pytest.raises(ValueError, match="no split 'valid'; it has train, dev, test"):
        RichHF("valid", data_dir)
    copied = pickle.loads(pickle.dumps(records))  # as worker processes get it
    assert copied[4]["prompt"] == record["prompt"]


def test_it_trains_without_tensorflow(data_dir):
    code = """
import importlib.machinery, json, sys

def find(name, *rest, _real=importlib.machinery.PathFinder.find_spec):
    hidden = {"tensorflow", "tensorflow_text", "seqio"}
    return None if name.split(".")[0] in hidden else _real(name, *rest)

importlib.machinery.PathFinder.find_spec = staticmethod(find)
from rahf.input import loader as data_input
from tests.input.loader_test import make_config

config = make_config("richhf_multihead", batch_size=6)
config.model.variant = "multihead"
config.input.richhf = {"data_dir": sys.argv[1]}
batch = next(data_input.make_train_input(config))
scores = sorted(map(float, batch["targets"]["plausibility"]))
print(json.dumps([scores, "tensorflow" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, data_dir],
        capture_output=True,
        text=True,
        check=True,
    )
    scores, tensorflow = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(scores, [i / 12 for i in range(6)], rtol=1e-6)
    assert not tensorflow


def test_every_task_is_registered_with_seqio_too():
    assert tasks.richhf and tasks.scenes  # in one process
    names = [n for n in (*TASKS, *MIXTURES) if "richhf" in n]
    assert len(names) == 15
    for name in names:
        ours = {(task.name, task.targets) for task in find(name)}
        assert {(t.name, t.targets) for t in seqio_loader.find(name)} == ours


@pytest.mark.parametrize("task", ["richhf_seven", "richhf_multihead"])
def test_both_loaders_give_the_same_eval_batches(data_dir, task):
    found = []
    for loader in ("grain", "seqio"):
        config = richhf_config(data_dir, task, loader=loader)
        config.input.augment.update(AUGMENT)  # for training alone
        batches = data_input.make_eval_batches(
            config, split="dev", targets=FEEDBACK, batch_size=4
        )
        found.append(list(batches))
    for (batch, infos), (expected, expected_infos) in zip(*found, strict=True):
        assert_equal(batch, expected)
        assert infos == expected_infos
    assert found[0][0][1][0]["uid"] == files.uid("dev", 0)


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_augmented_training_resumes_exactly(data_dir, loader):
    config = richhf_config(data_dir, "richhf_seven", loader=loader)
    config.input.augment.update(AUGMENT)
    whole = assert_resumes(config, 2, 2)
    assert sum(weights(whole[0]).values()) == 14


def test_both_loaders_augment_alike_and_each_epoch_anew(data_dir):
    epochs = {}
    for loader in ("grain", "seqio"):
        config = richhf_config(
            data_dir, "richhf_implausibility", loader=loader, batch_size=6
        )
        config.input.augment.update(AUGMENT)
        epochs[loader] = [
            {
                (image.tobytes(), heatmap.tobytes())
                for image, heatmap in zip(
                    batch["image"], batch["targets"]["implausibility"], strict=True
                )
            }
            for batch in take(data_input.make_train_input(config), 2)
        ]
    assert epochs["grain"] == epochs["seqio"]
    first, second = epochs["seqio"]
    assert len(first) == len(second) == 6
    assert not first & second


def test_the_configs_run_on_it(data_dir):
    for module, task in ((rahf_base, "seven"), (rahf_base_multihead, "multihead")):
        config = module.get_config("richhf")
        assert config.task.name == f"richhf_{task}"
        with pytest.raises(ValueError, match="'spiece.model' cannot be read"):
            data_input.make_train_input(config)
        config.input.update(vocabulary="scenes", batch_size=7, workers=0)
        config.input.richhf.data_dir = data_dir
        batch = next(data_input.make_train_input(config))
        assert batch["image"].shape == (7, 384, 384, 3)
        assert sum(weights(batch).values()) == 7 * (7 if task == "multihead" else 1)
        config.input.richhf.data_dir = "/none"
        with pytest.raises(ValueError, match="/none has no dataset 'rich_hf_18k'"):
            data_input.make_train_input(config)
        with pytest.raises(ValueError, match="richhff is unknown; options: richhf"):
            module.get_config("richhff")
