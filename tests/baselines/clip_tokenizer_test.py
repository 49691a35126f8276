"""CLIP's byte pairs: ids as transformers', and which tokens belong to which word."""

import gzip
import json

import pytest

from rahf import words
from rahf.baselines.clip_tokenizer import OPENAI_FILE, ClipTokenizer
from tests.parity import clip_reference
from tests.parity.reference import FIXTURES

SAID = json.loads((FIXTURES / "clip_tokens.json").read_text("utf-8"))
LENGTH = 400


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    clip_reference.write_vocabulary(folder, SAID["merges"])
    return ClipTokenizer.read(folder)


def _ids(tokenizer, text):
    encoded = tokenizer.encode(text, LENGTH)
    end = encoded.ids.tolist().index(tokenizer.end_id, 1) if text else 1
    while end + 1 < LENGTH and encoded.ids[end + 1]:  # an end within the text
        end += 1
    return encoded.ids[: end + 1].tolist()


@pytest.mark.parametrize("index", range(len(clip_reference.TEXTS)))
def test_ids_are_those_of_transformers(tokenizer, index):
    text = clip_reference.TEXTS[index]
    assert _ids(tokenizer, text) == SAID["ids"][index], text


def test_openais_file_is_the_same_vocabulary(tokenizer, tmp_path):
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2']
    lines += [" ".join(pair) for pair in SAID["merges"]]
    path = tmp_path / OPENAI_FILE
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    for where in (path, tmp_path):
        other = ClipTokenizer.read(where)
        assert len(other) == len(tokenizer)
        for text in clip_reference.TEXTS:
            assert _ids(other, text) == _ids(tokenizer, text)


def test_openais_file_lists_more_merges_than_clip_has(tmp_path, monkeypatch):
    monkeypatch.setattr("rahf.baselines.clip_tokenizer._MERGES", 10)
    merges = ["#", *(" ".join(pair) for pair in SAID["merges"])]
    (tmp_path / OPENAI_FILE).write_bytes(gzip.compress("\n".join(merges).encode()))
    assert len(ClipTokenizer.read(tmp_path)) == 512 + 10 + 2


def test_tokens_belong_to_words(tokenizer):
    prompt = "a Red boat's, -left- house!"
    encoded = tokenizer.encode(prompt, 30)
    assert len(encoded.words) == len(words.split(prompt)) == 5
    alone = [tokenizer.encode(word, 30).ids for word in words.split(prompt)]
    for places, ids in zip(encoded.words[:3], alone, strict=False):
        end = ids.tolist().index(tokenizer.end_id)
        assert encoded.ids[list(places)].tolist() == ids[1:end].tolist()
    used = [place for places in encoded.words for place in places]
    assert used == sorted(set(used)) and min(used) == 1


@pytest.mark.parametrize("text", clip_reference.TEXTS)
def test_every_word_has_tokens_of_its_own(tokenizer, text):
    encoded = tokenizer.encode(text, LENGTH)
    assert len(encoded.words) == len(words.split(text))
    used = [place for places in encoded.words for place in places]
    assert len(used) == len(set(used))
    # Words of spaces and of what joins a neighbour's punctuation have none.
    solid = [word for word in words.split(text) if any(map(str.isalnum, word))]
    assert sum(bool(places) for places in encoded.words) >= len(solid)


def test_long_text_is_cut_before_its_end(tokenizer):
    encoded = tokenizer.encode("house " * 50, 10)
    whole = tokenizer.encode("house " * 50, 400)
    assert encoded.truncated and not whole.truncated
    assert encoded.ids[:9].tolist() == whole.ids[:9].tolist()
    assert encoded.ids[9] == tokenizer.end_id
    assert not encoded.words[-1] and encoded.words[0] == whole.words[0]
    assert max(place for places in encoded.words for place in places) <= 8


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "does not exist"),
        ({"vocab.json": "{", "merges.txt": ""}, "vocab.json is not JSON"),
        ({"vocab.json": '{"a": 1.5}', "merges.txt": ""}, "token and number"),
        ({"vocab.json": '{"a": 1}', "merges.txt": "x"}, "vocab.json|two tokens"),
        ({"vocab.json": '{"a": 1}', "merges.txt": "a b"}, "lacks .* tokens"),
        ({OPENAI_FILE: "#\na b c\n"}, "line 2: expected two tokens"),
        ({OPENAI_FILE: ""}, "cannot be read as text"),
        ({OPENAI_FILE: "\x1f\x8bno"}, "cannot be read as text"),
    ],
)
def test_bad_files(tmp_path, files, what):
    for name, text in files.items():
        (tmp_path / name).write_text(text, "latin-1")
    with pytest.raises(ValueError, match=what):
        ClipTokenizer.read(tmp_path)


def test_a_bomb_is_not_unpacked(tmp_path):
    bomb = gzip.compress(b"a b\n" * (20 << 20))
    (tmp_path / OPENAI_FILE).write_bytes(bomb)
    with pytest.raises(ValueError, match="expected 1 to"):
        ClipTokenizer.read(tmp_path)
