"""Pipelines of diffusers, made small from configs: no file is fetched, no network used."""

import json
import socket

import numpy as np
import pytest
from PIL import Image

from rahf.bin import generate, masks, mend, predict, rank, select
from rahf.images import read_size
from rahf.inference.jobs import read_jobs
from tests.support import tiny

FAMILIES = ("stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux")
PROMPTS = ["a red cube", "two cats", "a red cube"]
SIDE = 32

#: diffusers' schedulers hand PyTorch's tensors to NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")


@pytest.fixture(scope="module", name="library")
def _library():
    """The adapter and what makes small pipelines; a slow import, so not at the top."""
    from rahf.generators import diffusers_pipeline
    from tests.support import tiny_diffusers

    assert tiny_diffusers.SIDE == SIDE
    return diffusers_pipeline, tiny_diffusers


@pytest.fixture(scope="module", name="folders")
def _folders(library, tmp_path_factory):
    """A function from the name of a family to a folder of it."""
    made, root = {}, tmp_path_factory.mktemp("pipelines")

    def folder(kind, **fields):
        name = "-".join([kind, *map(str, fields.values())])
        if name not in made:
            made[name] = library[1].write(root / name, kind, **fields)
        return made[name]

    return folder


@pytest.fixture(name="load")
def _load(library, monkeypatch):
    """Loads a folder; whatever connects to anything fails."""

    def refuse(*args):
        raise AssertionError("connected to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    def load(folder, batch_size=2, **options):
        return library[0].DiffusersGenerator.load(
            folder,
            library[0].PipelineOptions(**{"steps": 2} | options),
            library[0].PipelinePlacement(device="cpu", batch_size=batch_size),
        )

    return load


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_generates_and_inpaints(folders, load, family):
    generator = load(folders(family))
    assert generator.size == (SIDE, SIDE) or family == "flux"
    if family == "flux":  # it says 1024 pixels, whatever its network
        generator = load(folders(family), size=(SIDE, SIDE))
    assert generator.options.dtype == "float32"
    images = generator.generate(PROMPTS, [1, 1, 2])
    assert [image.shape for image in images] == [(SIDE, SIDE, 3)] * 3
    assert images[0].dtype == np.uint8
    # An image depends on its prompt and its seed, not on the others.
    [again] = generator.generate(PROMPTS[:1], [1])
    np.testing.assert_array_equal(again, images[0])
    assert (images[0] != images[1]).any() and (images[0] != images[2]).any()

    given = list(
        np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    )
    marked = np.zeros((3, SIDE, SIDE), np.float32)
    marked[0, 8:20, 4:16] = 1.0
    marked[1, 8:20, 4:16] = 0.25
    found = generator.inpaint(given, list(marked), PROMPTS, [5, 6, 7])
    for image, mask, new in zip(given, marked, found, strict=True):
        np.testing.assert_array_equal(new[mask == 0], image[mask == 0])
    changed = (found[0] != given[0]).any(axis=-1)[marked[0] > 0]
    assert changed.mean() > 0.9
    assert np.abs(found[1] - given[1].astype(int)).max() <= 64  # a quarter of 255
    [alone] = generator.inpaint(given[:1], marked[:1], PROMPTS[:1], [5])
    np.testing.assert_array_equal(alone, found[0])
    [other] = generator.inpaint(given[:1], marked[:1], PROMPTS[:1], [6])
    assert (other != alone).any()


def test_a_network_made_to_inpaint(folders, load):
    generator = load(folders("stable_diffusion", channels=9), batch_size=1)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[4:12, 4:12] = 1.0
    [found] = generator.inpaint([image], [mask], ["a cat"], [0])
    assert found[mask == 0].max() == 0 < found[mask == 1].max()
    with pytest.raises(
        ValueError, match="StableDiffusionInpaintPipeline cannot generate"
    ):
        generator.generate(["a cat"], [0])


def test_options_reach_the_pipeline(folders, load):
    folder = folders("stable_diffusion")
    images = [
        load(folder, batch_size=1, **options).generate(["a cat"], [3])[0]
        for options in (
            {},
            {"steps": 3},
            {"guidance": 1.0},
            {"negative_prompt": "a dog"},
            {"dtype": "bfloat16"},
        )
    ]
    different = {image.tobytes() for image in images}
    assert len(different) == len(images)
    wide = load(folder, batch_size=1, size=(32, 48))
    assert wide.generate(["a cat"], [3])[0].shape == (32, 48, 3)
    assert load(folder).digest == wide.digest != load(folders("flux")).digest
    with pytest.raises(ValueError, match="FluxPipeline has no negative_prompt"):
        load(folders("flux"), negative_prompt="x").generate(["a cat"], [0])
    with pytest.raises(ValueError, match="divisible by 8 but are 30 and 30"):
        load(folder, size=(30, 30)).generate(["a cat"], [0])


def test_wrong_requests_and_options(library, folders, load):
    generator = load(folders("stable_diffusion"))
    with pytest.raises(ValueError, match="1 prompts and 2 seeds"):
        generator.generate(["x"], [1, 2])
    with pytest.raises(ValueError, match=r"seeds=\[-1\]"):
        generator.generate(["x"], [-1])
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"images\[0\] is uint8\[8, 8, 3\]"):
        generator.inpaint([image], [np.zeros((8, 8))], ["x"], [1])
    options = library[0].PipelineOptions
    for fields, message in (
        ({"dtype": "int8"}, "known: float32, bfloat16, float16"),
        ({"strength": 0.0}, r"strength=0.0: expected above 0"),
        ({"steps": 0}, "steps=0: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            options(**fields)
    placement = library[0].PipelinePlacement(device="cuda:7")
    with pytest.raises(ValueError, match="device='cuda:7' cannot be used: "):
        library[0].DiffusersGenerator.load(folders("stable_diffusion"), None, placement)


def test_classes_that_diffusers_does_not_have(folders, load, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in folders("stable_diffusion").iterdir():
        (folder / path.name).symlink_to(path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").unlink()
    for changes, message in (
        ({"_class_name": "MyPipeline"}, "MyPipeline, is not in diffusers"),
        ({"unet": ["os", "system"]}, "component 'unet' is system of os; expected a"),
    ):
        (folder / "model_index.json").write_text(json.dumps(index | changes))
        with pytest.raises(ValueError, match=message):
            load(folder)


def test_numbers_that_are_no_image(folders, load):
    generator = load(folders("stable_diffusion"))
    next(generator._loaded.vae.decoder.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite in float32; choose bfloat16"):
        generator.generate(["x"], [1])


def test_an_image_that_the_safety_checker_blackens_is_named(
    folders, load, monkeypatch, caplog
):
    generator = load(folders("stable_diffusion"))

    def blacken(image, device, dtype):  # diffusers hands out what it would decode
        return 0 * image - 1, [False, True]

    pipe = generator._pipe("text2image")
    monkeypatch.setattr(pipe, "run_safety_checker", blacken)
    found = generator.generate(["a cat", "a dog"], [3, 4])
    assert found[1].max() == 0
    said = [text for text in caplog.messages if "safety checker" in text]
    assert said == [
        "the pipeline's safety checker blackened the image of seed 4, 'a dog'"
    ]


def test_noise_that_no_seed_decides_is_refused(library, folders, load):
    pipe = load(folders("stable_diffusion"))._loaded
    pipe.scheduler.noise_sampler_seed = None  # as DPMSolverSDEScheduler has it
    with pytest.raises(ValueError, match="draws noise that no seed decides"):
        library[0].DiffusersGenerator(
            pipe, library[0].PipelineOptions(), library[0].PipelinePlacement()
        )


def test_from_prompts_to_mended_images(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipeline = str(folders("stable_diffusion"))
    tiny.write_workdir(tmp_path / "W", tiny.config())
    (tmp_path / "prompts.txt").write_text("a red cube\ntwo cats\n")
    how = ["--steps=2", "--device=cpu", "--batch_size=2"]
    made = [pipeline, "prompts.txt", "--samples=2", "--output=generated", *how]
    generate.main(made)
    assert "4 images of 2 prompts" in capsys.readouterr().out
    generate.main(made)
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds results of other predictions or flags"):
        generate.main([*made, "--guidance=3"])
    with pytest.raises(SystemExit, match="which has no option order; it has steps,"):
        generate.main([*made, "--order=halton"])
    with pytest.raises(SystemExit):
        generate.main([*made, "--split=test"])
    assert "--split is for a Muse" in capsys.readouterr().err

    predict.main(["--checkpoint=W", "generated", "--output=predictions"])
    select.main(["predictions", "--by=plausibility", "--output=chosen"])
    # The model has learned nothing: the threshold is low, so that there are masks.
    masks.main(["predictions", "--threshold=0.0001", "--output=masks"])
    assert len(list((tmp_path / "masks" / "masks").glob("*.png"))) == 4
    mended = ["predictions", "--checkpoint=W", f"--generator={pipeline}", *how]
    mended += ["--threshold=0.0001", "--tries=2", "--rounds=1", "--output=mended"]
    mend.main(mended)
    assert "of 4 images mended" in capsys.readouterr().out
    jobs = read_jobs(["mended"])
    assert [job.prompt for job in jobs] == ["a red cube"] * 2 + ["two cats"] * 2
    assert all(read_size(job.image) == (SIDE, SIDE) for job in jobs)
    predict.main(["--checkpoint=W", "mended", "--output=judged"])
    rank.main(["judged", "--sort_by=plausibility", "--output=sheet"])
    assert (tmp_path / "sheet" / "index.html").is_file()
    Image.open(tmp_path / "mended" / jobs[0].image).verify()
