"""The vocabulary: T5's conventions, the canonical tokenisation, marks both ways."""

import pickle
import random

import numpy as np
import pytest
import sentencepiece

from rahf import targets, words
from rahf.datasets.scenes import grammar
from rahf.input import vocabulary, vocabulary_training
from tests.words_test import NASTY, random_prompts

SCENES = vocabulary.load()


@pytest.fixture(scope="module", name="web")
def _web(tmp_path_factory):
    """A vocabulary whose pieces do reach over word ends, such as "cat)."."""
    rng = random.Random(0)
    nouns = ("cat", "dog", "3", "v", "e", "naïve", "x_0", "東京")
    ends = (").", '."', "?!", "...", ".", ",", ":)", "),")
    lines = [
        " ".join(rng.choice(nouns) + rng.choice(ends) for _ in range(8))
        for _ in range(300)
    ]
    path = tmp_path_factory.mktemp("vocabulary") / "web.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=90,
            hard_vocab_limit=False,
            split_by_unicode_script=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            required_chars="_0()",
            num_threads=1,
            minloglevel=2,
        )
    return vocabulary.Vocabulary(path)


def plain(path):
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_conventions():
    assert SCENES.size == len(SCENES) == plain(SCENES.path).get_piece_size() + 100
    assert SCENES.mark_ids == (5,)
    assert SCENES.encode("") == []
    assert SCENES.decode([]) == ""
    assert SCENES.path.stat().st_size < 100_000


def test_ordinary_text_has_the_ids_of_sentencepiece():
    processor = plain(SCENES.path)
    prompts = list(grammar.corpus(500, 3))
    prompts += [targets.get(n).prompt + prompts[0] for n in targets.FEEDBACK]
    prompts += [
        "  two  spaces ",
        "a photo of an astronaut, riding (a horse)!?",
        "Zürich",
    ]
    for prompt in prompts:
        assert SCENES.encode(prompt) == processor.encode(prompt), prompt


def test_words_of_the_grammar_and_of_the_targets_are_single_pieces():
    seen = {word for p in grammar.corpus(4000, 9) for word in words.split(p)}
    for name in (*targets.FEEDBACK, "caption"):
        seen |= set(words.split(targets.get(name).prompt)) - {"<output>", "</output>"}
    assert [word for word in sorted(seen) if len(SCENES.encode(word)) > 1] == []


def test_decode_inverts_encode_for_ordinary_text():
    for prompt in grammar.corpus(200, 4):
        ids = SCENES.encode(prompt)
        assert SCENES.decode([*ids, 1, 7, 7]) == prompt
        assert SCENES.decode(np.array([*ids, 0, 0])) == prompt
        assert SCENES.decode([*ids, SCENES.size - 1, SCENES.size + 30]) == prompt


@pytest.mark.parametrize("which", ["scenes", "web"])
def test_every_word_has_one_end_and_marks_come_back(which, web):
    v = SCENES if which == "scenes" else web
    rng = random.Random(1)
    for prompt in [
        *NASTY,
        *random_prompts(600, seed=2),
        "(cat). dog?! 3.5",
        "\ud800 x",
    ]:
        count = len(words.split(prompt))
        labels = [rng.randrange(2) for _ in range(count)]
        ids, ends, marks = v.encode_words(prompt, labels)
        assert len(ids) == len(ends) == len(marks)
        assert [m for m, end in zip(marks, ends, strict=True) if end] == [
            1 - label for label in labels
        ], repr(prompt)
        assert sum(marks) == labels.count(0)
        assert (ids, ends, [0] * len(ids)) == v.encode_words(prompt)
        tokens = v.interleave(ids, marks)
        assert len(tokens) == len(ids) + sum(marks) * len(v.mark_ids)
        assert v.separate(tokens, ids, ends) == marks, repr(prompt)


def test_no_piece_reaches_over_a_word_end(web):
    text = "cat). dog?!"
    assert len(plain(web.path).encode(text)) == 2  # each with the end of a word inside
    ids, ends, _ = web.encode_words(text)
    assert web.decode(ids) == text
    done, read = 0, []
    for index, end in enumerate(ends):
        if end:
            read.append(web.decode(ids[done : index + 1]))
            done = index + 1
    # What was cut off before each word is delimiters, and nothing after it.
    assert [piece.lstrip(words.DELIMITERS) for piece in read] == words.split(text)


def test_marked_text_is_what_the_words_codec_writes():
    for prompt in grammar.corpus(100, 6):
        labels = [i % 3 > 0 for i in range(len(words.split(prompt)))]
        ids, _, marks = SCENES.encode_words(prompt, labels)
        assert SCENES.decode(SCENES.interleave(ids, marks)) == words.mark(
            prompt, labels
        )


def test_separate_refuses_other_tokens():
    ids, ends, _ = SCENES.encode_words("a red fish")
    for tokens in ([], ids[:2], [*ids, 9], [5, *ids], [*ids, 5, 5]):
        with pytest.raises(ValueError, match="are not the prompt"):
            SCENES.separate(tokens, ids, ends)


def test_label_count_is_checked():
    with pytest.raises(ValueError, match="each of the 3 words .* got 2"):
        SCENES.encode_words("a red fish", [1, 1])


def test_long_prompts():
    for prompt in ("red fish, " * 5000, "x" * 100_000, "," * 10_000, " " * 10_000):
        ids, ends, _ = SCENES.encode_words(prompt)
        assert sum(ends) == len(words.split(prompt))
        assert len(ids) == len(ends)


def test_no_character_is_tokenised_twice(monkeypatch):
    """What makes it fast: pieces are remembered, and a long text is cut but once."""
    fresh, tokenised = vocabulary.Vocabulary(), []
    encode = fresh._encode

    def counting_encode(chunk, start, end):
        tokenised.append(end - start)
        return encode(chunk, start, end)

    monkeypatch.setattr(fresh, "_encode", counting_encode)
    prompts = list(grammar.corpus(300, 8))
    for prompt in prompts:
        fresh.encode_words(prompt)
    chunks = {chunk for prompt in prompts for chunk in prompt.split(" ")}
    assert sum(tokenised) == sum(map(len, chunks))
    tokenised.clear()
    fresh.encode_words("fish," * 1000)
    assert sum(tokenised) == 5000


def test_pickles_and_saves(tmp_path):
    SCENES.save(tmp_path / "vocabulary.model")
    again = vocabulary.load(str(tmp_path / "vocabulary.model"))
    assert again.encode("a red fish, (what)") == SCENES.encode("a red fish, (what)")
    assert pickle.loads(pickle.dumps(SCENES)).mark_ids == SCENES.mark_ids


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"\0" * 99])
def test_a_corrupt_file(tmp_path, content):
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"spiece.model' is not .*{len(content)} bytes"
    ):
        vocabulary.Vocabulary(path)


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.model", tmp_path):
        with pytest.raises(
            ValueError, match="config.input.vocabulary=.*cannot be read"
        ):
            vocabulary.Vocabulary(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"= \(-1, 2, 0\); expected T5's \(0, 1, 2\)"),
        ({"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, "cannot spell '_0'"),
        (
            {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
            | {"add_dummy_prefix": False, "required_chars": "_0"},
            "add_dummy_prefix",
        ),
    ],
)
def test_other_conventions_are_refused(tmp_path, options, message):
    path = tmp_path / "other.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a red cat and a dog"] * 30),
            model_writer=file,
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
    with pytest.raises(ValueError, match=message):
        vocabulary.Vocabulary(path)


def test_training_needs_text():
    with pytest.raises(ValueError, match="no text"):
        vocabulary_training.train(["", " "], 100)
    with pytest.raises(ValueError, match="cannot make 20 pieces of these 1 lines"):
        vocabulary_training.train(["a red cat"], 20)
