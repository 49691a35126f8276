"""A teacher's probabilities as a target of the decoder: the text and the way not taken."""

import numpy as np
import pytest

from rahf.input import soft_words, vocabulary
from rahf.input.features import FeatureMaker

V = vocabulary.load()
MARK = list(V.mark_ids)
PROMPT = "a red fish, one star"
CHANCES = np.array([0.1, 0.8, 0.3, 0.0, 0.9], np.float32)
RECORD = {
    "uid": "r",
    "image": np.zeros((8, 8, 3), np.uint8),
    "prompt": PROMPT,
    "prompt_misalignment_chance": CHANCES,
}


def make(record, target_length=40):
    maker = FeatureMaker(
        vocabulary=V, image_size=8, text_length=40, target_length=target_length
    )
    return maker.make(record, ("soft_words",), augment=True)


def choices(example):
    """[(token, other token, the other's probability)] where there are two ways."""
    soft = example["soft_words"]
    return [(int(a), int(b), round(float(p), 3)) for a, b, p in soft if a != b]


def test_the_text_is_marked_as_the_teacher_would_mark_it():
    example = make(RECORD)
    ids, _, marks = V.encode_words(PROMPT, [1, 0, 1, 1, 0])
    marked = [*V.interleave(ids, marks), vocabulary.EOS_ID]
    assert example["targets"].tolist() == marked
    assert example["soft_words"][:, 0].astype(int).tolist() == marked
    assert example["word_labels"].tolist() == [*marks, 0]
    assert example["soft_words"].dtype == np.float32
    assert example["target_names"].tolist() == ["soft_words"]


def test_each_word_has_the_way_not_taken_with_its_probability():
    ids, ends, _ = V.encode_words(PROMPT)
    after = [*ids[1:], vocabulary.EOS_ID]
    after = [after[i] for i, end in enumerate(ends) if end]
    assert choices(make(RECORD)) == [
        (after[0], MARK[0], 0.1),
        (MARK[0], after[1], 0.2),
        (after[2], MARK[0], 0.3),
        (after[3], MARK[0], 0.0),
        (MARK[0], after[4], 0.1),
    ]
    assert after[4] == vocabulary.EOS_ID


@pytest.mark.parametrize("length", range(3, 24))
def test_a_text_that_is_cut_keeps_its_choices_in_place(length):
    whole, cut = make(RECORD), make(RECORD, target_length=length)
    size = len(cut["targets"])
    assert size <= length and len(cut["soft_words"]) == size
    assert cut["soft_words"][:, 0].tolist() == cut["targets"].tolist()
    # Up to the end of sequence it is the beginning of the whole.
    assert (cut["soft_words"][: size - 1] == whole["soft_words"][: size - 1]).all()
    assert bool(cut["truncated"][0]) == (length < len(whole["targets"]))


def test_labels_are_what_the_decoder_would_mark():
    assert soft_words.labels(np.array([0.5, 0.51, 0.0])).tolist() == [1, 0, 1]


def test_missing_or_short_chances():
    unknown = RECORD | {"prompt_misalignment_chance": np.array([-1.0])}
    assert not len(make(unknown)["target_names"])
    assert not len(
        make({k: RECORD[k] for k in ("uid", "image", "prompt")})["targets"][1:]
    )
    with pytest.raises(ValueError, match="record 'r': expected one label for each of"):
        make(RECORD | {"prompt_misalignment_chance": CHANCES[:3]})
