"""Task features: what every kind of target becomes, missing labels, truncation, errors."""

import numpy as np
import pytest

from rahf import targets, words
from rahf.datasets.scenes import Scenes
from rahf.input import vocabulary
from rahf.input.features import FEATURES, FeatureMaker
from rahf.targets import FEEDBACK

V = vocabulary.load()
RECORD = {
    "uid": "r1",
    "image": np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3),
    "prompt": "a red fish, one star",
    "artifact_map": np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6),
    "misalignment_map": np.zeros((4, 6), np.float32),
    "artifact_score": 0.25,
    "misalignment_score": 0.5,
    "aesthetics_score": 0.75,
    "overall_score": 1.0,
    "prompt_misalignment_label": np.array([1, 0, 1, 1, 0], np.int8),
}
SIZES = {"image_size": 8, "text_length": 32, "target_length": 24}


def ask(record, names, *, augment, task="", **options):
    maker = FeatureMaker(**{"vocabulary": V} | SIZES | options)
    return maker.make(record, names, augment=augment, task=task)


def one(name, record=RECORD, **options):
    return ask(record, (name,), **{"augment": True} | options)


def seven(record=RECORD, **options):
    return ask(record, FEEDBACK, **{"augment": False} | options)


def test_every_task_has_the_same_features():
    examples = [one(name) for name in (*FEEDBACK, "caption")] + [seven()]
    for example in examples:
        assert tuple(example) == tuple(FEATURES)
        for name, (dtype, rank) in FEATURES.items():
            value = example[name]
            assert value.ndim == rank
            assert value.dtype.kind == "U" if dtype == "str" else value.dtype == dtype
        assert example["uid"].tolist() == ["r1"]
        assert example["text"].tolist() == [RECORD["prompt"]]
        assert example["truncated"].tolist() == [0]
        assert V.decode(example["prompt"]) == RECORD["prompt"]
        assert example["prompt"][-1] == example["inputs"][-1] == vocabulary.EOS_ID


def test_a_model_that_reads_no_prompt_cuts_none():
    names = [name for name in FEEDBACK if name != "misaligned_words"]
    record = RECORD | {"prompt": "a red cat " * 50}
    example = ask(record, names, augment=False, prompts="none", text_length=2)
    assert example["inputs"].tolist() == [vocabulary.EOS_ID]
    assert example["prompt"].tolist() == [vocabulary.EOS_ID]
    assert example["truncated"].tolist() == [0]
    assert example["text"].tolist() == [record["prompt"]]
    assert example["target_names"].tolist() == names


@pytest.mark.parametrize("name", FEEDBACK)
def test_the_augmented_prompt(name):
    example = one(name)
    text = targets.get(name).prompt + RECORD["prompt"]
    assert example["inputs"].tolist() == [*V.encode(text), 1]
    assert example["target_names"].tolist() == [name]


def test_multihead_asks_with_the_plain_prompt():
    example = seven()
    assert example["inputs"].tolist() == [*V.encode(RECORD["prompt"]), 1]
    assert example["target_names"].tolist() == list(FEEDBACK)
    np.testing.assert_array_equal(example["scores"], [0.25, 0.5, 0.75, 1.0])
    assert example["heatmaps"].shape == (2, 8, 8)


def test_a_caption_is_asked_without_the_prompt():
    example = one("caption")
    assert example["inputs"].tolist() == [*V.encode("<output> CAPTION </output> "), 1]
    assert V.decode(example["targets"]) == RECORD["prompt"]
    assert example["targets"].tolist() == example["prompt"].tolist()


def test_words():
    example = one("misaligned_words")
    assert V.decode(example["targets"]) == "a red_0 fish, one star_0"
    labels = RECORD["prompt_misalignment_label"]
    assert V.decode(example["targets"]) == words.mark(RECORD["prompt"], labels)
    ends = example["word_ends"].astype(bool)
    assert (1 - example["word_labels"][ends]).tolist() == labels.tolist()
    assert example["word_labels"][~ends].sum() == 0
    assert one("overall")["targets"].tolist() == [0]
    assert one("overall")["word_labels"].sum() == 0
    assert one("overall")["word_ends"].sum() == 5


def test_images_and_maps_are_resized_bilinearly():
    example = one("implausibility")
    assert example["image"].shape == (8, 8, 3)
    assert example["heatmaps"].shape == (1, 8, 8)
    field = RECORD["artifact_map"]
    assert example["heatmaps"].mean() == pytest.approx(field.mean(), abs=1e-6)
    assert 0 <= example["heatmaps"].min() < example["heatmaps"].max() <= 1
    # Halving a linear ramp averages pairs, away from the border.
    ramp = np.tile(np.arange(16, dtype=np.float32) / 16, (16, 1))
    record = RECORD | {"artifact_map": ramp}
    middle = one("implausibility", record)["heatmaps"][0, 4, 2:6]
    np.testing.assert_allclose(middle, (np.arange(2, 6) * 2 + 0.5) / 16, atol=1e-6)
    assert one("overall")["heatmaps"].shape == (0, 8, 8)
    assert one("implausibility")["scores"].shape == (0,)


def test_nothing_is_resized_that_fits():
    record = RECORD | {"image": np.full((8, 8, 3), 7, np.uint8)}
    assert one("overall", record)["image"] is record["image"]


@pytest.mark.parametrize("name", FEEDBACK)
def test_a_missing_label_leaves_the_target_out(name):
    field = targets.get(name).field
    kind = targets.get(name).kind.value
    absent = {k: v for k, v in RECORD.items() if k != field}
    stand_in = {
        "heatmap": np.zeros((0, 0), np.float32),
        "score": np.float32("nan"),
        "words": np.array([-1], np.int8),
    }[kind]
    for record in (absent, absent | {field: None}, absent | {field: stand_in}):
        assert one(name, record)["target_names"].tolist() == []
        example = seven(record)
        rest = [other for other in FEEDBACK if other != name]
        assert example["target_names"].tolist() == rest
        assert len(example["heatmaps"]) == 2 - (kind == "heatmap")
        assert len(example["scores"]) == 4 - (kind == "score")


def test_a_prompt_that_was_cut_does_not_teach_what_is_shown():
    options = SIZES | {"vocabulary": V, "augment": False}
    whole = ask(RECORD, ("overall", "word_presence"), **options)
    assert whole["target_names"].tolist() == ["overall", "word_presence"]
    cut = ask(RECORD, ("overall", "word_presence"), **options | {"target_length": 4})
    assert cut["truncated"][0] == 1
    assert cut["target_names"].tolist() == ["overall"]


@pytest.mark.parametrize("prompt", ["", "  ,", "red fish " * 5000, "京" * 300])
def test_any_prompt(prompt):
    count = len(words.split(prompt))
    labels = np.zeros(count, np.int8)
    record = RECORD | {"prompt": prompt, "prompt_misalignment_label": labels}
    for example in (one("misaligned_words", record), seven(record)):
        assert len(example["inputs"]) <= 32
        assert max(len(example[n]) for n in ("prompt", "targets")) <= 24
        assert len(example["prompt"]) == len(example["word_ends"])
        assert bool(example["truncated"][0]) == (len(V.encode(prompt)) > 23)
        assert example["inputs"][-1] == example["targets"][-1] == 1


def test_truncation_keeps_no_half_mark_and_says_so():
    labels = RECORD["prompt_misalignment_label"]
    whole = seven()["targets"]
    for length in range(3, 16):
        example = seven(target_length=length)
        said = example["targets"]
        assert len(said) <= length
        assert said[-1] == 1
        assert said[:-1].tolist() == whole[: len(said) - 1].tolist()
        assert len(example["prompt"]) == min(length, 7)
        assert bool(example["truncated"][0]) == (length < len(whole))
    assert len(whole) == 7 + int((labels == 0).sum())
    example = seven(target_length=3)  # a red | _0 does not fit, so red goes as well
    assert V.decode(example["targets"]) == "a"
    assert example["word_ends"].sum() == 2
    short = seven(text_length=4)
    assert V.decode(short["inputs"]) == "a red fish"
    assert short["truncated"].tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": np.zeros((4, 4), np.uint8)},
            r"'image' must be .* got uint8\[4, 4\]",
        ),
        ({"image": np.zeros((4, 4, 3))}, "'image' must be .* got float64"),
        (
            {"image": np.zeros((0, 4, 3), np.uint8)},
            r"'image' must be .* at least one pixel, got uint8\[0, 4, 3\]",
        ),
        (
            {"artifact_map": np.zeros((4, 4), np.uint8)},
            "'artifact_map' must be .*uint8",
        ),
        (
            {"artifact_map": np.full((4, 4), 2.0)},
            r"'artifact_map' must be in \[0, 1\]",
        ),
        ({"artifact_map": np.full((4, 4), np.nan)}, r"'artifact_map' must be"),
        ({"overall_score": 4.0}, r"scores must be .*'overall_score': 4.0"),
        ({"prompt_misalignment_label": [1]}, "each of the 5 words .* got 1"),
    ],
)
def test_malformed_records_are_named(change, message):
    with pytest.raises(ValueError, match=f"task t1, record 'r1': .*{message}"):
        seven(RECORD | change, task="t1")


def test_wrong_questions():
    with pytest.raises(
        ValueError, match="field 'prompt' is missing; the record has uid"
    ):
        one("overall", {"uid": "r1", "image": RECORD["image"]})
    with pytest.raises(ValueError, match="asks for one target, got 7"):
        seven(augment=True)
    with pytest.raises(ValueError, match="unknown target 'warm'; known: implausib"):
        one("warm")
    with pytest.raises(ValueError, match="text_length=8 has no room .* 7 tokens"):
        one("overall", text_length=8)
    with pytest.raises(ValueError, match="misaligned_words and caption"):
        options = {"vocabulary": V, "augment": False} | SIZES
        ask(RECORD, ("misaligned_words", "caption"), **options)


def test_scenes_fit_the_lengths_of_the_configs():
    for index in range(60):
        record = Scenes("test", 64)[index]
        for name in FEEDBACK:
            example = one(name, record, image_size=64, text_length=48, target_length=48)
            assert example["target_names"].tolist() == [name]
            assert example["truncated"].tolist() == [0]
