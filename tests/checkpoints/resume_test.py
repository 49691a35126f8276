"""Runs that go on: what may change, what is told, what is never overwritten."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from rahf import durable
from rahf.checkpoints import changes, checkpointer, restore
from rahf.checkpoints import workdir as workdirs
from rahf.evaluation.results import describe
from rahf.input import vocabulary
from rahf.training import loop
from tests.support import quick_steps, tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quick_steps.use(monkeypatch)


def _config(steps=2, **fields):
    config = tiny.config()
    config.training_steps = steps
    config.checkpoint.every_steps = 1
    config.update_from_flattened_dict(
        {k.replace("__", "."): v for k, v in fields.items()}
    )
    return config


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory):
    """A run of two steps, of which both are kept."""
    folder = tmp_path_factory.mktemp("run")
    config = _config()
    with pytest.MonkeyPatch.context() as patch:
        quick_steps.use(patch)
        loop.train(config, folder, tiny.NoiseInput(config))
    return folder


@pytest.fixture(name="workdir")
def _workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def _train(workdir, config, source=None):
    loop.train(config, workdir, source or tiny.NoiseInput(config))


def _content(workdir):
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in workdir.rglob("*")
        if path.is_file() and path.name != durable.LOCK_FILE
    }


def _segments(workdir):
    return json.loads((workdir / "config.json").read_text())["segments"]


def test_a_run_at_its_end_writes_nothing(workdir, capsys):
    before = _content(workdir)
    for steps in (2, 1):
        _train(workdir, _config(steps, eval__every_steps=7))
        assert capsys.readouterr().err == (
            f"nothing to do: step 2 of {steps}, in {workdir}\n"
        )
    assert _content(workdir) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7),
        ("task__name", "scenes_multihead_captioning"),
        ("task__weights", {"scenes_multihead": 2.0}),
        ("input__scenes__difficulty", "simple"),
        ("input__prompts", "words"),
        ("input__loader", "seqio"),
        ("optimizer__name", "adafactor"),
        ("model__vit__stem", "convolutions"),
    ],
)
def test_what_was_learned_does_not_change(workdir, key, value):
    before = _content(workdir)
    named = f"config.{key.replace('__', '.')}.*was .*, now"
    with pytest.raises(ValueError, match=named) as caught:
        _train(workdir, _config(2 if key == "seed" else 3, **{key: value}))
    assert len(str(caught.value).splitlines()) == 1
    assert _content(workdir) == before


def test_what_may_change_is_recorded(workdir):
    [start] = _segments(workdir)
    assert start.keys() == {"from_step", "learned_from", "began"}
    assert start["from_step"] == 0
    free = {"eval__examples": 2, "log__every_steps": 2, "input__cache": 7}
    _train(workdir, _config(3, input__batch_size=16, **free))
    first = {"input.batch_size": [8, 16], "training_steps": [2, 3]}
    assert _segments(workdir)[1:] == [{"from_step": 2, "changed": first}]
    _train(workdir, _config(4, input__batch_size=16, schedule__peak=0.5))
    second = {"schedule.peak": [0.005, 0.5], "training_steps": [3, 4]}
    assert _segments(workdir)[2:] == [{"from_step": 3, "changed": second}]
    config, params, step = restore.restore_for_inference(workdir)
    assert step == 4 and describe(workdir, config, params, step)[
        "Changed on the way"
    ] == (
        "from step 2 input.batch_size 8 -> 16, training_steps 2 -> 3; "
        "from step 3 schedule.peak 0.005 -> 0.5, training_steps 3 -> 4"
    )


def test_changes_that_came_to_no_checkpoint_are_one():
    a = {"x": [1, 2], "y": [0, 1]}
    segments = changes.extend((), 0, {}, "d")
    segments = changes.extend(segments, 5, a, "d")
    assert segments == [
        {"from_step": 0, "data": "d"},
        {"from_step": 5, "changed": a, "data": "d"},
    ]
    again = changes.extend(segments, 5, {"x": [2, 3], "y": [1, 0]}, None)
    assert again[1:] == [{"from_step": 5, "changed": {"x": [1, 3]}}]
    earlier = changes.extend(again, 2, {"y": [0, 4]}, None)  # step 5 was damaged
    assert earlier[1:] == [{"from_step": 2, "changed": {"x": [1, 3], "y": [0, 4]}}]


class _Digested(tiny.NoiseInput):
    digest_now = "one"

    def digest(self):
        return self.digest_now


def test_other_data_is_refused(workdir):
    config = _config(3)
    _train(workdir, config, _Digested(config))  # not known before: noted
    assert _segments(workdir)[-1]["data"] == "one"
    config = _config(4)
    source = _Digested(config)
    source.digest_now = "two"
    before = _content(workdir)
    message = r"training data is not what .* until step 3 \(digest two, then one\)"
    with pytest.raises(ValueError, match=message):
        _train(workdir, config, source)
    assert _content(workdir) == before
    source.digest_now = "one"
    _train(workdir, config, source)
    assert restore.complete_steps(workdir)[-1] == 4


def test_the_vocabulary_is_its_bytes(workdir, tmp_path, monkeypatch):
    mine = tmp_path / "mine.model"
    shutil.copy(vocabulary.SCENES, mine)
    monkeypatch.chdir(tmp_path)
    held = (workdir / workdirs.VOCABULARY_FILE).stat().st_mtime_ns
    for steps, path in ((3, str(mine)), (4, "./mine.model"), (5, "scenes")):
        _train(workdir, _config(steps, input__vocabulary=path))
    assert (workdir / workdirs.VOCABULARY_FILE).stat().st_mtime_ns == held
    # An empty field behind it: another file, of the same pieces.
    mine.write_bytes(mine.read_bytes() + b"\x1a\x00")
    vocabulary.load.cache_clear()
    with pytest.raises(ValueError, match="is not the vocabulary that .*every id would"):
        _train(workdir, _config(6, input__vocabulary=str(mine)))
    assert (workdir / workdirs.VOCABULARY_FILE).stat().st_mtime_ns == held
    (workdir / workdirs.VOCABULARY_FILE).unlink()
    with pytest.raises(ValueError, match="vocabulary.model, .* is missing"):
        _train(workdir, _config(6))


def test_a_second_trainer_is_refused(workdir):
    with (
        durable.locked(workdir, "training"),
        pytest.raises(
            durable.FolderInUseError, match=r"in use by .*\(training, process"
        ),
    ):
        _train(workdir, _config(3))
    assert restore.complete_steps(workdir) == [1, 2]


def _flip(path: pathlib.Path, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_a_damaged_step_gives_way_to_the_one_before(workdir, capsys):
    [largest] = sorted(
        (workdir / "checkpoints/2/state").rglob("*"), key=lambda x: x.stat().st_size
    )[-1:]
    _flip(largest)
    with pytest.raises(
        ValueError, match=f"2 is incomplete.*use step 1.*{largest.name} is"
    ):
        restore.restore_for_inference(workdir)
    _train(workdir, _config(3))
    said = capsys.readouterr().err
    assert f"2 is damaged ({largest} is damaged: its checksum differs)" in said
    assert "2.damaged, resuming from step 1" in said
    assert restore.complete_steps(workdir) == [2, 3]
    rows = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]


def test_a_step_without_its_checksums_is_damaged(workdir, capsys):
    (workdir / "checkpoints/2/checksums.json").unlink()
    assert checkpointer.find_whole_step(workdir) == 1
    assert "checksums.json is missing); renamed to 2.damaged" in capsys.readouterr().err


def test_a_log_that_was_cut_is_told(workdir, capsys):
    log = workdir / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    _train(workdir, _config(3))
    assert f"{log} ends at step 1, before the checkpoint" in capsys.readouterr().err
    _train(workdir, _config(4))
    assert "ends at step" not in capsys.readouterr().err


def test_two_damaged_steps_give_way_to_the_one_before(workdir, capsys):
    steps = workdir / "checkpoints"
    shutil.copytree(steps / "2", steps / "3")
    for step in "23":
        _flip(steps / step / "state/_METADATA")
    assert checkpointer.find_whole_step(workdir) == 1
    assert {each.name for each in steps.iterdir()} == {"1", "2.damaged", "3.damaged"}
    assert capsys.readouterr().err.count("resuming from step 1") == 2


def test_where_every_step_is_damaged_nothing_is_touched(workdir):
    for path in workdir.glob("checkpoints/*/metrics/metrics"):
        path.unlink()
    for step in (1, 2):
        _flip(workdir / f"checkpoints/{step}/state/_METADATA")
    before = _content(workdir)
    with pytest.raises(
        ValueError, match=r"checkpoints/2 is incomplete.*_METADATA is dam"
    ):
        _train(workdir, _config(3))
    assert _content(workdir) == before


def test_every_changed_bit_is_found(workdir):
    step = workdir / "checkpoints" / "2"
    rng = np.random.default_rng(0)
    files = [x for x in step.glob("*/**/*") if x.is_file()]
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        for _ in range(4):
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(bytes(changed))
            with pytest.raises(restore.DamagedError, match=path.name):
                restore.check_whole(step)
        path.write_bytes(data)
    restore.check_whole(step)


def test_steps_by_name_and_folder(workdir):
    step = workdir / "checkpoints" / "1"
    assert restore.restore_for_inference(step)[2] == 1
    assert restore.restore_for_inference(step, 1)[2] == 1
    assert restore.restore_for_inference(workdir, "1")[2] == 1
    for place, which, message in (
        (workdir, "bset", r"step='bset': expected 'latest', 'best' or .*\[1, 2\]"),
        (workdir, 1.5, r"step=1.5: expected"),
        (workdir, -1, r"no step -1; it has \[1, 2\]"),
        (step, 2, "is step 1, but step=2 was requested"),
        (workdir, "best", "no best step: .*plausibility/plcc was measured at none of"),
    ):
        with pytest.raises(ValueError, match=message):
            restore.restore_for_inference(place, which)


def test_what_was_measured_is_listed(workdir):
    (workdir / "metrics.jsonl").write_text('{"step": 2, "eval/overall/plcc": 0.5}\n')
    with pytest.raises(ValueError, match="the run measured overall/plcc. Use"):
        restore.restore_for_inference(workdir, "best")


def test_a_name_that_checkpoints_cannot_have(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(ValueError, match=r"udcff.*UTF-8 only; choose another"):
        _train(folder, _config())
    assert not folder.exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file.*/run"):
        _train(tmp_path / "file" / "run", _config())
