"""Checkpoints that were cut short, or are of another model: one clear error each."""

import contextlib
import json
import shutil

import jax
import numpy as np
import pytest

from configs import rated_images
from rahf.checkpoints import changes, checksums, restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.models import sharding
from rahf.training import loop, steps
from tests.support import quick_steps, tiny


@pytest.fixture(scope="module", name="workdir")
def _workdir(tmp_path_factory):
    """A run of three steps, as its checkpoint holds it."""
    folder = tmp_path_factory.mktemp("workdir")
    config = tiny.config()
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        shapes, _ = steps.make_state(config, mesh, abstract=True)
    state = jax.tree.map(
        lambda x: jax.device_put(np.ones(x.shape, x.dtype), x.sharding), shapes
    )
    workdirs.write_config(folder, config)
    with contextlib.closing(Checkpointer(folder, config)) as checkpointer:
        checkpointer.save(3, state, {"position": 3}, {})
    return folder


def _resume(folder, **fields):
    config = tiny.config()
    config.update_from_flattened_dict(fields)
    loop.train(config, folder, tiny.NoiseInput(config))


def _arrays(folder):
    return folder / "checkpoints" / "3" / "state" / "d"


def _truncate(folder):
    for path in _arrays(folder).iterdir():
        path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(_arrays(folder)),
        _truncate,
        lambda folder: shutil.rmtree(_arrays(folder).parent),
        lambda folder: (_arrays(folder).parent / "_METADATA").write_text("{"),
    ],
    ids=["no arrays", "short arrays", "no state", "no metadata"],
)
def test_a_checkpoint_that_was_cut_short(workdir, tmp_path, damage):
    folder = shutil.copytree(workdir, tmp_path / "copy")
    damage(folder)
    message = r"copy/checkpoints/3 is incomplete.*\(there is no earlier step\)"
    with pytest.raises(ValueError, match=message):
        restore.restore_for_inference(folder)
    with pytest.raises(ValueError, match=message):
        restore.read_params(folder)
    with pytest.raises(ValueError, match=message):
        _resume(folder)


def _as_before(folder):
    """The layout before data positions were items of the step."""
    step = folder / "checkpoints" / "3"
    (step / "checksums.json").unlink()
    old = folder / "input_state" / "3" / "process_0.json"
    old.parent.mkdir(parents=True)
    shutil.move(step / "input_state" / "process_0-of-1.json", old)
    shutil.rmtree(step / "input_state")
    return old


def test_an_old_workdir_goes_on_if_it_has_its_place_in_the_data(
    workdir, tmp_path, monkeypatch
):
    folder = shutil.copytree(workdir, tmp_path / "copy")
    old = _as_before(folder)
    gone = shutil.copytree(folder, tmp_path / "gone")
    shutil.rmtree(gone / "input_state")
    with pytest.raises(ValueError, match="step 3 of .*gone has no input_state, so the"):
        _resume(gone)
    assert restore.restore_for_inference(gone)[2] == 3  # it needs no data
    quick_steps.use(monkeypatch)
    _resume(folder, **{"checkpoint.every_steps": 4, "checkpoint.keep_latest": 1})
    assert restore.complete_steps(folder) == [4] and not old.parent.parent.exists()


@pytest.mark.parametrize("files", ["process_{}.json", "process_{}-of-2.json"])
def test_another_number_of_processes_is_refused(workdir, tmp_path, files):
    folder = shutil.copytree(workdir, tmp_path / "copy")
    place = folder / "input_state" / "3"
    if "of" in files:
        place = folder / "checkpoints" / "3" / "input_state"
        (place / "process_0-of-1.json").unlink()
    else:
        _as_before(folder)
    for index in range(2):
        (place / files.format(index)).write_text('{"json": {"position": 3}}')
    if "of" in files:
        checksums.write_checksums(folder / "checkpoints/3")
    message = "trained by 2 processes until step 3, .* but there are 1 now; start 2, or"
    with pytest.raises(ValueError, match=message):
        _resume(folder)


def _with_positions(workdir, folder, *states):
    """Copies a workdir, as processes with these positions would have left it."""
    shutil.copytree(workdir, folder)
    place = folder / "checkpoints/3/input_state"
    (place / "process_0-of-1.json").unlink()
    for index, state in enumerate(states):
        path = place / f"process_{index}-of-{len(states)}.json"
        path.write_text(json.dumps({"json": state}))
    checksums.write_checksums(folder / "checkpoints/3")
    return folder


def test_a_position_of_all_serves_another_number_of_processes(
    workdir, tmp_path, monkeypatch
):
    quick_steps.use(monkeypatch)
    counts = [{"good": 12, "bad": 1}, {"good": 11, "bad": 2}]
    states = [{"examples": 24, "records": each} for each in counts]
    folder = _with_positions(workdir, tmp_path / "two", *states)
    found = []
    monkeypatch.setattr(
        tiny.NoiseInput, "set_state", lambda _, state: found.append(state)
    )
    _resume(folder)
    assert found == [{"examples": 24, "records": {"good": 23, "bad": 3}}]


def test_a_count_of_batches_needs_the_batch_size_that_was(
    workdir, tmp_path, monkeypatch
):
    quick_steps.use(monkeypatch)
    counted = {"workers": 0, "iterator": {"next_index": 3}}
    folder = _with_positions(workdir, tmp_path / "old", counted)
    with pytest.raises(ValueError, match="counts batches of 8; go on with .*size=8"):
        _resume(folder, **{"input.batch_size": 16})
    monkeypatch.setattr(tiny.NoiseInput, "set_state", lambda _, state: None)
    _resume(folder)
    # From now on, it may change.
    folder = _with_positions(workdir, tmp_path / "new", {"examples": 24})
    _resume(folder, **{"input.batch_size": 16})


def test_another_url_is_no_workdir():
    for use in (restore.restore_for_inference, restore.read_params, _resume):
        with pytest.raises(
            ValueError, match="s3://bucket/run: a workdir is a local path or gs://"
        ):
            use("s3://bucket/run")


def test_another_size_of_image_is_another_model(workdir):
    with pytest.raises(ValueError, match="input.image_size: was 32, now 64"):
        _resume(workdir, **{"input.image_size": 64})


def test_other_images_held_out_are_refused(tmp_path):
    """Those that are tested on from now on were trained on before."""
    config = rated_images.get_config("mos:1-5->overall")
    config.input.rated_images.update(path="a.csv", folds=3, fold=0)
    workdirs.write_config(tmp_path, config)
    config.input.rated_images.update(path="moved/a.csv", folder="images")
    changes.compare(tmp_path, config)
    other_keys = {"folds": 2, "fold": 1, "seed": 1, "split": "part", "cut": "rank"}
    for key, value in other_keys.items():
        other = config.copy_and_resolve_references()
        other.input.rated_images[key] = value
        with pytest.raises(ValueError, match=f"rated_images.{key}: was .*, now"):
            changes.compare(tmp_path, other)


def test_a_run_from_scratch_does_not_go_on_with_pretrained_eyes(tmp_path):
    config = rated_images.get_config("scratch,mos:1-5->overall")
    workdirs.write_config(tmp_path, config)
    now = rated_images.get_config("pretrained,mos:1-5->overall")
    stems = "stem: was 'convolutions', now 'efficientnet_lite0'"
    with pytest.raises(ValueError, match=stems):
        changes.compare(tmp_path, now)
    changes.compare(tmp_path, config)


def test_a_run_from_before_groups_were_hashed_goes_on_by_ranks(tmp_path):
    config = rated_images.get_config("scratch,mos:1-5->overall")
    new = config.copy_and_resolve_references()
    del config.input.rated_images["cut"]
    workdirs.write_config(tmp_path, config)
    with pytest.raises(ValueError, match="rated_images.cut: was 'rank', now 'hash'"):
        changes.compare(tmp_path, new)
    new.input.rated_images.cut = "rank"
    changes.compare(tmp_path, new)


def test_a_run_goes_on_with_another_clipping(workdir):
    """Its place in the optimizer's state is the same, so nothing is refused."""
    config = tiny.config()
    mesh = sharding.make_mesh(config)
    config.optimizer.clip_norm = 0.0
    with (
        sharding.use(mesh, config),
        contextlib.closing(Checkpointer(workdir, config)) as checkpointer,
    ):
        shapes, _ = steps.make_state(config, mesh, abstract=True)
        state, input_state = checkpointer.restore(shapes)
    assert int(state.step) == 1 and input_state == {"position": 3}
