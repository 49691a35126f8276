"""Prompts as the release reads them, and marks looked for in what was said."""

import itertools

import numpy as np
import pytest

from rahf import words
from rahf.inference import free_decoding
from rahf.input import features, vocabulary
from tests.support import tiny

VOCABULARY = vocabulary.load()


def _read(said, prompt):
    """What FreeWords makes of a text; float per word."""
    config = tiny.config()
    ids, ends, _ = VOCABULARY.encode_words(prompt)
    width = 40
    pad = lambda values: np.pad(np.int32(values), (0, width - len(values)))[None]
    spoken = pad([*VOCABULARY.encode(said), 1])
    step = free_decoding.FreeWords(config, lambda params, batch: {"w": spoken}, ["w"])
    batch = {"prompt": pad([*ids, 1]), "word_ends": pad(ends)}
    found = step(None, batch)["w"]
    assert found.shape == (1, width) and found.dtype == np.float32
    assert not found[batch["word_ends"] == 0].any()
    return found[batch["word_ends"] > 0].tolist()


def test_marks_are_found():
    assert _read("a yellow_0 cat", "a yellow cat") == [0, 1, 0]
    assert _read("a yellow cat", "a yellow cat") == [0, 0, 0]
    # Dropped, changed and added words move nothing.
    assert _read("red_0 cat_0 cat", "a red cat on a hill") == [0, 1, 1, 0, 0, 0]
    assert _read("", "a red cat") == [0, 0, 0]
    # Signs and unknown characters keep their words' places.
    assert _read("one red_0 fish", "one, red. 東京 fish!") == [0, 1, 0, 0]


@pytest.mark.parametrize("prompt", ["a red 猫 dog", "a caf猫 dog", "red, fish. 猫"])
def test_marks_behind_unknown_characters_are_found(prompt):
    ids, ends, _ = VOCABULARY.encode_words(prompt)
    ends = np.array(ends) > 0
    free = free_decoding.FreeWords(tiny.config(), lambda params, batch: {}, [])
    for labels in itertools.product((0, 1), repeat=int(ends.sum())):
        _, _, marks = VOCABULARY.encode_words(prompt, np.array(labels))
        said = [*VOCABULARY.interleave(ids, marks), 1, 0, 0]
        found = free.labels(np.array(said), np.array([*ids, 1]), np.append(ends, False))
        assert found.tolist() == list(labels)


def _ask(prompt, prompts):
    record = {"uid": "1", "image": np.zeros((8, 8, 3), np.uint8), "prompt": prompt}
    record["prompt_misalignment_label"] = np.array([1, 0, 1])
    maker = features.FeatureMaker(
        vocabulary=VOCABULARY,
        image_size=8,
        text_length=20,
        target_length=20,
        prompts=prompts,
    )
    return maker.make(record, ["misaligned_words"], augment=False)


def test_prompts_are_reduced_to_their_words():
    prompt = '"Red", fish!  one.'
    clean = _ask(prompt, "words")
    assert VOCABULARY.decode(clean["prompt"]) == "Red fish one"
    assert VOCABULARY.decode(clean["inputs"]) == "Red fish one"
    assert VOCABULARY.decode(clean["targets"]) == "Red fish_0 one"
    assert clean["text"][0] == prompt  # as it was written
    assert clean["word_ends"].sum() == 3
    whole = _ask(prompt, "whole")
    assert len(words.split(VOCABULARY.decode(whole["prompt"]))) == 3
    assert len(whole["prompt"]) > len(clean["prompt"])
    with pytest.raises(ValueError, match="config.input.prompts='clean'.*'words'"):
        _ask(prompt, "clean")


def test_an_unknown_decoding():
    config = tiny.config()
    assert not free_decoding.is_free(config)
    config.model.decoding = "beam"
    with pytest.raises(ValueError, match="config.model.decoding='beam'.*'free'"):
        free_decoding.is_free(config)
