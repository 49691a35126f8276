"""Muse is trained by the project's own loop: tokenizer, transformer, images."""

import json

import numpy as np
import pytest
from PIL import Image

import configs.muse_scenes
import rahf
from rahf.bin import eval_scores, generate, mend, training_run
from rahf.checkpoints.metrics_log import read_metrics
from rahf.checkpoints.restore import read_params, restore_for_inference
from rahf.generators.muse.generator import MuseGenerator
from rahf.generators.muse.sampling import SamplingOptions
from rahf.images import read_size, write_heatmap
from rahf.inference.jobs import read_jobs
from tests.support import tiny, tiny_muse


def small(arg="", **fields):
    """Returns the config of a small generator."""
    return tiny_muse.shrink(configs.muse_scenes.get_config(arg), **fields)


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory):
    """The workdirs of a tokenizer and of a transformer."""
    folder = tmp_path_factory.mktemp("muse")
    training_run.run(small("tokenizer"), str(folder / "tokenizer"))
    config = small(init_from=str(folder / "tokenizer"))
    training_run.run(config, str(folder / "muse"))
    return folder


def test_the_loop_measures_what_is_learned(runs):
    rows = read_metrics(runs / "tokenizer")
    assert {"train/loss/image", "train/utilisation"} <= rows[0].keys()
    last = rows[-1]
    assert 0 < last["eval/image/psnr"] < 30
    assert 1 <= last["eval/image/codes_used"] <= 16
    last = read_metrics(runs / "muse")[-1]
    # Nearly nothing is learned in three steps: 16 codes are about equally probable.
    for name in ("nll_0", "nll_50", "nll_80", "nll_0_unprompted"):
        assert 1.5 < last[f"eval/tokens/{name}"] < 4


def test_the_tokenizer_is_frozen_in_the_second_run(runs):
    before, after = read_params(runs / "tokenizer"), read_params(runs / "muse")
    assert all(name.startswith("tokenizer/") for name in before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert any(name.startswith("transformer/") for name in after)


def test_it_goes_on_from_a_folder_of_images(runs, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    write_heatmap(tmp_path / "w.png", np.tri(64))
    row = {"file_name": "a.png", "text": "a red cat", "loss_weights": "w.png"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    config = small("folder", init_from=str(runs / "muse"), training_steps=1)
    config.input.captions.train = str(tmp_path)
    training_run.run(config, str(tmp_path / "tuned"))
    before, after = read_params(runs / "muse"), read_params(tmp_path / "tuned")
    changed = {name for name in after if (after[name] != before[name]).any()}
    assert changed and all(name.startswith("transformer/") for name in changed)
    tuned = MuseGenerator.load(tmp_path / "tuned")
    assert (tuned.size, tuned.sources) == ((64, 64), [str(tmp_path)])


def test_an_image_has_a_prompt_and_a_seed(runs):
    generator = MuseGenerator.load(
        runs / "muse", options=SamplingOptions(steps=3, guidance=1.5)
    )
    prompts = ["a red circle", "two blue squares", "a red circle"]
    images = generator.generate(prompts, [1, 1, 2])
    assert all(each.shape == (64, 64, 3) for each in images)
    assert images[0].dtype == np.uint8
    assert (images[0] != images[2]).any()
    # Nothing is learned yet, so only other noise makes another image of another prompt.
    assert (images[0] != images[1]).mean() > 0.5
    [again] = generator.generate(prompts[:1], [1])
    np.testing.assert_array_equal(again, images[0])
    assert generator.prompts("dev", 3) == generator.prompts("dev", 5)[:3]
    assert generator.digest.startswith("files:")
    with pytest.raises(ValueError, match="1 prompts and 2 seeds"):
        generator.generate(["x"], [1, 2])
    with pytest.raises(ValueError, match=r"seeds=\[-1\]"):
        generator.generate(["x"], [-1])


def test_inpainting_keeps_every_pixel_outside_the_mask(runs):
    config, params, _ = restore_for_inference(runs / "muse")
    generator = MuseGenerator(config, params, SamplingOptions(steps=2))
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (3, 64, 64, 3), np.uint8))
    masks = np.zeros((3, 64, 64), np.float32)
    masks[0, 20:40, 13:50] = 1.0
    masks[1, 8, 8] = 0.25
    found = generator.inpaint(images, masks, ["a cat"] * 3, [5, 6, 7])
    for image, mask, mended in zip(images, masks, found, strict=True):
        np.testing.assert_array_equal(mended[mask == 0], image[mask == 0])
    assert (found[0][masks[0] == 1] != images[0][masks[0] == 1]).mean() > 0.5
    np.testing.assert_array_equal(found[2], images[2])
    with pytest.raises(ValueError, match="2 images, 3 masks and 3 prompts"):
        generator.inpaint(images[:2], masks, ["x"] * 3, [1, 2, 3])
    with pytest.raises(ValueError, match=r"images\[0\] is uint8\[8, 8, 3\]"):
        generator.inpaint([images[0][:8, :8]], masks[:1], ["x"], [1])
    with pytest.raises(ValueError, match=r"masks\[0\]: expected \[64, 64\] values"):
        generator.inpaint(images[:1], [255 * masks[0]], ["x"], [1])


def test_tokens_of_an_image_do_not_depend_on_the_others(runs):
    config, params, _ = restore_for_inference(runs / "muse")
    generator = MuseGenerator(config, params, batch_size=2)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
    found = generator.tokens(images)
    assert [each.shape for each in found] == [(8, 8)] * 3
    assert {*np.unique(found)} <= {*range(16)}
    [alone] = generator.tokens(images[2:])
    np.testing.assert_array_equal(alone, found[2])
    with pytest.raises(ValueError, match=r"images\[1\] is uint8\[8, 8, 3\]"):
        generator.tokens([images[0], images[0][:8, :8]])


def test_other_workdirs_are_refused(runs):
    with pytest.raises(ValueError, match="config.learner='muse', which predicts no"):
        rahf.load(runs / "muse")
    with pytest.raises(SystemExit, match="config.learner='muse'"):
        eval_scores.main([f"--checkpoint={runs / 'muse'}"])
    with pytest.raises(ValueError, match="holds config.learner='muse_tokenizer'"):
        MuseGenerator.load(runs / "tokenizer")


def test_the_command_writes_what_predict_takes(runs, tmp_path, capsys):
    out, prompts = tmp_path / "out", tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n")
    flags = [str(runs / "muse"), str(prompts), "--prompt=a cat", "--split=dev"]
    flags += ["--examples=1", "--steps=2", "--samples=2", f"--output={out}"]
    generate.main(flags)
    assert "6 images of 3 prompts" in capsys.readouterr().out
    jobs = read_jobs([str(out)])
    assert [job.prompt for job in jobs[::2]][:2] == ["a cat", "a red circle"]
    assert all(read_size(job.image) == (64, 64) for job in jobs)
    generate.main(flags)
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        generate.main([str(runs / "muse"), f"--output={tmp_path / 'none'}"])
    assert "expected prompts" in capsys.readouterr().err


def test_the_command_mends_what_predict_wrote(runs, tmp_path, capsys):
    model = tiny.write_workdir(tmp_path / "model", tiny.config())
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    scores = {"plausibility": 0.5}
    line = {"id": "a", "image": "a.png", "prompt": "a red cube", "scores": scores}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    flags = [str(tmp_path / "predictions.jsonl"), f"--checkpoint={model}"]
    flags += [f"--generator={runs / 'muse'}", f"--output={tmp_path / 'mended'}"]
    # This model learned nothing: the threshold is low, so that there is a mask.
    flags += ["--threshold=0.0001", "--tries=2", "--rounds=1"]
    mend.main(flags)
    assert "of 1 images mended" in capsys.readouterr().out
    [job] = read_jobs([str(tmp_path / "mended")])
    assert job.prompt == "a red cube" and read_size(job.image) == (64, 64)
    mend.main(flags)
    assert "complete already" in capsys.readouterr().out
