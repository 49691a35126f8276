"""Equal to PyTorch: outputs to 1e-4, gradients to 1e-3; tests/parity/make_fixtures.py
says how the fixtures were made."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import richhf_release
from rahf.checkpoints import importing, restore
from rahf.checkpoints import workdir as workdirs
from rahf.inference.predict_step import make_predict_step
from rahf.input import vocabulary
from rahf.models.heads import HeadConfig, PaperScoreHead
from rahf.models.rahf import make_model
from rahf.models.t5 import T5
from rahf.models.t5_layers import T5Config, relative_position_bucket
from rahf.training import losses
from rahf.weights import export_layout, export_torch, huggingface, matching
from tests.parity import reference

OUTPUTS = 1e-4
GRADIENTS = 1e-3
POOLER = 1024 * 1024 + 1024


def small_config():
    """`configs/richhf_release.py` in the sizes of the fixtures."""
    c = richhf_release.get_config()
    c.input.update(image_size=reference.IMAGE, text_length=reference.PROMPT)
    c.input.update(target_length=reference.SAID, batch_size=2)
    c.input.vocabulary = str(vocabulary.SCENES)  # never asked for its pieces
    c.model.vit.update(**reference.VIT, patch_size=reference.PATCH)
    layers = reference.T5["layers"]
    t5 = {name: value for name, value in reference.T5.items() if name != "layers"}
    c.model.t5.update(encoder_layers=layers, decoder_layers=layers, **t5)
    c.model.t5.vocab_size = reference.VOCABULARY
    return c


def close(found, expected, tolerance=OUTPUTS):
    """Equal relative to the largest value."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope="module", name="release")
def _release():
    with np.load(reference.FIXTURES / "release.npz") as fixture:
        return dict(fixture)


@pytest.fixture(scope="module", name="imported")
def _imported(release, tmp_path_factory):
    """The state dict as a `.pt`, imported: (config, params)."""
    folder = tmp_path_factory.mktemp("release")
    state = {
        f"module.{name}": value for name, value in reference.unpack(release).items()
    }
    table = state["module.t5.shared.weight"]  # under all of its names, as PyTorch does
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        state[f"module.t5.{name}.weight"] = table
    export_torch.write_state_dict(folder / "rahf_model.pt", state)
    config = small_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workdirs, "check_vocabulary", lambda config: None)
        report = importing.import_weights(
            config, folder / "W", richhf=str(folder / "rahf_model.pt")
        )
    assert not report.names("missing") and not report.names("resized")
    assert report.names("unexpected") == [
        "vit.pooler.dense.bias",
        "vit.pooler.dense.weight",
    ]
    restored, params, step = restore.restore_for_inference(folder / "W")
    assert step == 0
    assert restored.model.decoding == "free"
    return config, params


@pytest.fixture(scope="module", name="ran")
def _ran(imported):
    """Everything in one compilation: stages, loss and gradients."""
    config, params = imported
    model, given = make_model(config), reference.inputs()
    truth = {name: given["heatmap"] for name in ("implausibility", "misalignment")}
    truth |= dict.fromkeys(
        ("plausibility", "alignment", "aesthetics", "overall"), given["score"]
    )
    truth["misaligned_words"] = given["said"]
    weights = {name: np.ones(2, np.float32) for name in truth}
    batch = {"image": given["image"], "inputs": given["inputs"]}
    batch |= {"targets": truth, "weights": weights}
    counts = dict.fromkeys(truth, np.float32(2))

    def compute(params):
        bound = model.bind({"params": params})
        outputs = model.apply({"params": params}, batch)
        loss, _ = losses.total(outputs, batch, dict.fromkeys(truth, 1.0), counts)
        tokens = bound.encode_image(batch["image"])
        encoding = bound.encode(tokens, batch["inputs"])
        stages = {
            "tokens": tokens,
            "feature_map": encoding.feature_map,
            "memory": encoding.memory,
        }
        return loss, outputs | stages

    run = jax.jit(jax.value_and_grad(compute, has_aux=True))
    (loss, outputs), gradients = jax.device_get(run(params))
    return loss, outputs, matching.flatten(gradients)


def test_every_stage(release, ran):
    _, outputs, _ = ran
    close(outputs["tokens"], release["out/tokens"])
    count = outputs["tokens"].shape[1]
    encoded = release["out/encoded"]
    close(outputs["memory"], encoded[:, count:])
    close(outputs["feature_map"].reshape(2, count - 1, -1), encoded[:, 1:count])
    for name in ("misaligned_words", "implausibility", "misalignment"):
        close(outputs[name], release[f"out/{name}"])
    for name in ("plausibility", "alignment", "aesthetics", "overall"):
        close(outputs[name], release[f"out/{name}"])


def test_gradients_by_group(release, ran):
    loss, _, gradients = ran
    close(loss, release["loss"])
    groups = {}
    for row in export_layout.make_rows(gradients):
        ours = reference.sample(row.turn.out(gradients[row.ours]))
        theirs = release[f"gradient/{row.theirs[0]}"]
        group = "/".join(row.ours.split("/")[: 2 if row.ours.startswith("t5") else 1])
        groups.setdefault(group, []).append((ours, theirs))
    assert len(groups) == 1 + 1 + 3 + 2 + 4  # vit, projection, t5's parts, heads
    errors = {}
    for group, pairs in groups.items():
        ours, theirs = (np.concatenate(side) for side in zip(*pairs, strict=True))
        errors[group] = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert max(errors.values()) < GRADIENTS, errors


def test_a_score_head_of_two_channels():
    """Wider than the release's fixture, whose last norm has one: outputs, gradients."""
    with np.load(reference.FIXTURES / "score_head.npz") as loaded:
        fixture = dict(loaded)
    prefix = "score_predictor.overall."
    state = {prefix + k: v for k, v in reference.unpack(fixture).items()}
    head, x = PaperScoreHead(HeadConfig()), reference.feature_map()
    shapes = jax.eval_shape(head.init, jax.random.key(0), x)["params"]
    shapes = matching.flatten({"score_predictor_overall": unbox(shapes)})
    params = export_layout.from_release(state, {k: v.shape for k, v in shapes.items()})

    @jax.jit
    @jax.value_and_grad
    def run(params):
        params = matching.unflatten(params)["score_predictor_overall"]
        return head.apply({"params": params}, x).sum()

    total, gradients = jax.device_get(run(params))
    close(total, fixture["out"].sum())
    assert np.ptp(fixture["out"]) > 0.01  # it says something
    for row in export_layout.make_rows(gradients):
        ours = reference.sample(row.turn.out(gradients[row.ours]))
        theirs = fixture["gradient/" + row.theirs[0].removeprefix(prefix)]
        error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        assert error < GRADIENTS, (row.ours, error)


def test_free_speech(release, imported):
    config, params = imported
    given = reference.inputs()
    batch = {name: given[name] for name in ("image", "inputs")} | {
        "prompt": given["said"],
        "word_ends": (given["said"] > 1).astype(np.int32),
    }
    predict = make_predict_step(config, (5,), ["misaligned_words"])
    said = np.asarray(predict._predict(params, batch)["misaligned_words"])
    spoken = release["spoken"]
    ended = np.cumsum(spoken == 1, axis=1) - (spoken == 1) > 0
    np.testing.assert_array_equal(
        said[:, : spoken.shape[1]], np.where(ended, 0, spoken)
    )
    found = predict(params, batch)["misaligned_words"]
    assert found.shape == given["said"].shape and found.dtype == np.float32
    assert set(np.unique(found)) <= {0.0, 1.0}


@pytest.fixture(scope="module", name="t5_1_1")
def _t5_1_1():
    with np.load(reference.FIXTURES / "t5_1_1.npz") as fixture:
        return dict(fixture)


def test_t5_1_1_from_sharded_safetensors(t5_1_1, tmp_path):
    """google/t5-v1_1 and flan: the encoder, the decoder and its cache."""
    weights = reference.unpack(t5_1_1)
    names = sorted(weights)
    places = {
        name: f"model-0000{1 + i % 3}-of-00003.safetensors"
        for i, name in enumerate(names)
    }
    for file in set(places.values()):
        part = {name: weights[name] for name in names if places[name] == file}
        save_file(part, tmp_path / file)
    index = {"metadata": {}, "weight_map": places}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    layers = reference.T5["layers"]
    sizes = {name: value for name, value in reference.T5.items() if name != "layers"}
    config = T5Config(
        vocab_size=reference.VOCABULARY,
        encoder_layers=layers,
        decoder_layers=layers,
        gated=True,
        **sizes,
    )
    model, given = T5(config), reference.inputs()

    def everything(module, inputs, said):
        mask = inputs > 0
        encoded = module.encode(module.embed(inputs), mask)
        return encoded, module.decode(said, encoded, mask)

    make = lambda: model.init(
        jax.random.key(0), given["inputs"], given["said"], method=everything
    )
    shapes = matching.flatten({"t5": unbox(jax.eval_shape(make)["params"])})
    wanted = {name: tuple(x.shape) for name, x in shapes.items()}
    found = huggingface.read(tmp_path, "t5", wanted)
    loaded, report = matching.match(shapes, found, source="flan")
    assert not report.names("unexpected")
    variables = {"params": matching.unflatten(loaded)["t5"]}

    @jax.jit
    def run(variables):
        encoded, logits = model.apply(
            variables, given["inputs"], given["said"], method=everything
        )
        cache = model.apply(variables, encoded, reference.SAID, method=T5.decode_start)
        mask = jnp.asarray(given["inputs"] > 0)
        shifted = jnp.pad(given["said"][:, :-1], ((0, 0), (1, 0)))

        def step(cache, at):
            token, index = shifted[:, at][:, None], jnp.full(len(shifted), at)
            logits, cache = model.apply(
                variables, token, cache, index, mask, method=T5.decode_step
            )
            return cache, logits[:, 0]

        _, by_step = jax.lax.scan(step, cache, jnp.arange(reference.SAID))
        return encoded, logits, by_step.swapaxes(0, 1)

    encoded, logits, by_step = run(variables)
    close(encoded, t5_1_1["encoded"])
    close(logits, t5_1_1["logits"])
    close(by_step, t5_1_1["logits"])


def unbox(tree):
    return jax.tree.map(
        lambda x: getattr(x, "value", x), tree, is_leaf=lambda x: hasattr(x, "value")
    )


def test_position_buckets(t5_1_1):
    distances = jnp.arange(-300, 301)
    for bidirectional, expected in zip((True, False), t5_1_1["buckets"], strict=True):
        found = relative_position_bucket(
            distances, bidirectional=bidirectional, num_buckets=32, max_distance=128
        )
        np.testing.assert_array_equal(found, expected)


def test_a_vit_of_hugging_face(release, imported, tmp_path):
    """The release's own ViT, in a file as google/vit-* has them."""
    config, params = imported
    weights = {
        name.removeprefix("vit."): value
        for name, value in reference.unpack(release).items()
        if name.startswith("vit.")
    }
    wanted = {
        name: shape
        for name, shape in importing.parameter_shapes(config).items()
        if name.startswith("vit/")
    }
    for prefix in ("", "vit."):  # of the bare model, and of the classifier
        named = {prefix + name: value for name, value in weights.items()}
        save_file(named, tmp_path / "model.safetensors")
        found = huggingface.read(tmp_path, "vit", wanted)
        for name in wanted:
            expected = matching.flatten(params)[name]
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_the_release_has_its_published_size():
    config = richhf_release.get_config()
    shapes = importing.parameter_shapes(config)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) + POOLER == 642_612_710


def test_tokens_are_those_of_transformers():
    fixture = json.loads((reference.FIXTURES / "tokens.json").read_text("utf-8"))
    words = vocabulary.Vocabulary(reference.FIXTURES / "spiece.model")
    assert words.size == fixture["size"] == fixture["extra_id_0"] + 1
    assert len(fixture["prompts"]) == 200
    differ = [
        (text, words.encode(text), ids)
        for text, ids in fixture["prompts"]
        if [*words.encode(text), vocabulary.EOS_ID] != ids
    ]
    assert not differ
    texts = [text for text, _ in fixture["prompts"]]
    assert sum(text.startswith("<output> ") for text in texts) > 40
    assert sum("_0 " in text for text in texts) > 40
