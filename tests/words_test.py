"""The words codec: exact for every prompt, forgiving for a decoder's free text."""

import random

import numpy as np
import pytest

from rahf import words

NASTY = [
    "",
    " ",
    "  ,.?!  ",
    "a yellow cat",
    "a  yellow   cat ",
    "cat_0",
    "cat_0 _0 _0_0, _0",
    "cat_0_0 cat cat_0",
    'say "hello": then; go!?',
    "...wait...what?!",
    "été à la plage, 东京 塔 — 😀 cafe\u0301",
    "tab\tinside and\nnewline",
    "\t \n",
    "it's well-known (really).",
    "3.5 1,000 a.b.c",
    "nul\0byte",
]
ALPHABET = "ab_0,.?!\":; \t\n'-(é京😀\u0301\u00a0"


def random_prompts(count, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choices(ALPHABET, k=rng.randrange(24)))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dog, and", ["a", "dog", "and"]),
        ('".;:!?, ', []),
        ("x\ty it's a-b", ["x\ty", "it's", "a-b"]),
        ("1.5", ["1", "5"]),
    ],
)
def test_split(prompt, expected):
    assert words.split(prompt) == expected
    assert [prompt[start:end] for start, end in words.spans(prompt)] == expected


def test_the_paper_example():
    assert words.mark("a yellow cat", [1, 0, 1]) == "a yellow_0 cat"


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_mark_and_unmark_are_inverse(p):
    rng = random.Random(0)
    for prompt in [*NASTY, *random_prompts(1000)]:
        count = len(words.split(prompt))
        labels = np.array([rng.random() >= p for _ in range(count)], np.int8)
        marked = words.mark(prompt, labels)
        assert len(marked) == len(prompt) + 2 * int((labels == 0).sum())
        for read in (words.unmark(marked, prompt), words.align(marked, prompt)):
            assert read.dtype == np.int8
            np.testing.assert_array_equal(read, labels, err_msg=repr(prompt))


def test_different_labels_give_different_texts():
    for prompt in random_prompts(100, seed=1):
        count = min(len(words.split(prompt)), 6)
        rest = [1] * (len(words.split(prompt)) - count)
        texts = {
            words.mark(prompt, [*(i >> k & 1 for k in range(count)), *rest])
            for i in range(2**count)
        }
        assert len(texts) == 2**count, repr(prompt)


def test_ten_thousand_words():
    prompt = "word, " * 10_000
    labels = np.arange(10_000) % 3 > 0
    np.testing.assert_array_equal(
        words.unmark(words.mark(prompt, labels), prompt), labels
    )


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1, 0]])
def test_mark_names_a_wrong_label_count(labels):
    with pytest.raises(ValueError, match=rf"3 words of 'a red cat', got {len(labels)}"):
        words.mark("a red cat", labels)


@pytest.mark.parametrize(
    "marked", ["a cat", "a red_0 cat ", "a red_1 cat", "A red cat"]
)
def test_unmark_refuses_another_text(marked):
    with pytest.raises(ValueError, match="is not the prompt 'a red cat'"):
        words.unmark(marked, "a red cat")


@pytest.mark.parametrize(
    ("said", "prompt", "labels"),
    [
        ("a red_0 cat", "a red cat", [1, 0, 1]),
        ("A Red_0  cat!", "a red cat", [1, 0, 1]),  # case, spaces, punctuation
        ("red_0 cat", "a red cat", [1, 0, 1]),  # dropped a word
        ("a a red_0 red cat_0", "a red cat", [1, 0, 0]),  # repeated words
        ("", "a red cat", [1, 1, 1]),
        ("something_0 else_0", "a red cat", [1, 1, 1]),
        ("x_0 dog_0", "x_0, dog", [1, 0]),  # the prompt's own suffix is no mark
        ("x_0_0 dog", "x_0, dog", [0, 1]),
        ("anything_0", "", []),
    ],
)
def test_align(said, prompt, labels):
    np.testing.assert_array_equal(words.align(said, prompt), labels)
