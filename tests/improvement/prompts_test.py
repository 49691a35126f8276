"""Which prompts are drawn, and which are held out."""

import pytest

from rahf.improvement.prompts import read_lists


class _Generator:
    """Has ten records of each split, of which every second repeats the one before."""

    def __init__(self):
        self.asked = []

    def prompts(self, split, count):
        self.asked.append((split, count))
        shared = ["a tree", "a tree"]
        return (shared + [f"{split} {n // 2}" for n in range(8)])[:count]


def test_the_first_different_ones_of_a_split():
    generator = _Generator()
    learned, held = read_lists("train:2", "test:2", lambda: generator)
    assert learned == ["a tree", "train 0"]
    assert held == ["test 0", "test 1"]  # not the tree
    # Only where few records have too few different prompts are more read.
    assert generator.asked == [("train", 4), ("test", 4), ("test", 24)]


def test_a_file(tmp_path):
    path = tmp_path / "held.txt"
    path.write_text("a dog\na cat\na dog \n")
    learned, held = read_lists("train:1", str(path), _Generator)
    assert (learned, held) == (["a tree"], ["a dog", "a cat"])
    learned, held = read_lists(str(path), "test:2", _Generator)
    assert held == ["a tree", "test 0"]


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="--held_out=test:9: 4 different prompts are"):
        read_lists("train:1", "test:9", _Generator)
    path = tmp_path / "held.txt"
    path.write_text("a tree\n")
    with pytest.raises(ValueError, match="has 1 prompts of --prompts=train:1, such as"):
        read_lists("train:1", str(path), _Generator)
    with pytest.raises(ValueError, match="no such file"):
        read_lists("train:0", "test:1", _Generator)
