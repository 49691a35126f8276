"""The converter: static shapes, weights for any mix of tasks, errors with names."""

import numpy as np
import pytest

from rahf.input.converter import Converter
from rahf.targets import FEEDBACK
from tests.input.features_test import RECORD, SIZES, V, one, seven

NAMES = (*FEEDBACK, "caption")
CONVERT = Converter(targets=NAMES, task="mix", **SIZES)


def test_a_batch_of_all_kinds():
    examples = [one(name) for name in NAMES] + [seven()]
    batch = CONVERT(examples, 11)
    assert {k: (v.dtype.name, v.shape) for k, v in batch.items() if k[-1] != "s"} == {
        "image": ("uint8", (11, 8, 8, 3)),
        "prompt": ("int32", (11, 24)),
    }
    assert batch["inputs"].shape == (11, 32)
    assert batch["inputs"].dtype == batch["word_ends"].dtype == np.int32
    assert tuple(batch["targets"]) == tuple(batch["weights"]) == NAMES
    for row, name in enumerate(NAMES):
        expected = np.zeros(11, np.float32)
        expected[row] = 1
        expected[8] = name != "caption"
        np.testing.assert_array_equal(batch["weights"][name], expected)
        assert batch["weights"][name].dtype == np.float32
    multihead = examples[-1]
    for index, name in enumerate(("implausibility", "misalignment")):
        answer = batch["targets"][name]
        assert (answer.shape, answer.dtype) == ((11, 8, 8), np.float32)
        np.testing.assert_array_equal(answer[index], multihead["heatmaps"][index])
        np.testing.assert_array_equal(answer[8], multihead["heatmaps"][index])
        assert not answer[[2, 9, 10]].any()
    assert batch["targets"]["aesthetics"].tolist() == [0] * 4 + [0.75] + [0] * 3 + [
        0.75,
        0,
        0,
    ]
    for name, row in (("misaligned_words", 6), ("caption", 7)):
        said = batch["targets"][name][row]
        assert (
            V.decode(said)
            == {
                "caption": RECORD["prompt"],
                "misaligned_words": "a red_0 fish, one star_0",
            }[name]
        )
        assert (said[np.flatnonzero(said == 1)[0] + 1 :] == 0).all()
    assert batch["word_labels"].sum(axis=1).tolist() == [0] * 6 + [2, 0, 2, 0, 0]
    assert not any(batch[name][9:].any() for name in ("image", "inputs", "prompt"))


def test_rows_do_not_depend_on_each_other():
    examples = [one(name) for name in NAMES]
    whole = CONVERT(examples)
    alone = CONVERT([examples[3]])
    for name in ("image", "inputs", "prompt", "word_ends", "word_labels"):
        np.testing.assert_array_equal(whole[name][3], alone[name][0])
    for name in NAMES:
        np.testing.assert_array_equal(
            whole["targets"][name][3], alone["targets"][name][0]
        )


def test_infos():
    assert CONVERT.infos([one("overall"), seven(text_length=4)]) == [
        {
            "uid": "r1",
            "prompt": RECORD["prompt"],
            "truncated": False,
            "targets": ["overall"],
        },
        {
            "uid": "r1",
            "prompt": RECORD["prompt"],
            "truncated": True,
            "targets": list(FEEDBACK),
        },
    ]


def test_strings_may_be_bytes():
    example = seven(RECORD | {"uid": "é"})
    names = np.char.encode(example["target_names"], "utf-8")
    given = example | {
        "target_names": names.astype(object),
        "uid": np.array(["é".encode()], object),
    }
    assert CONVERT.infos([given]) == CONVERT.infos([example])
    np.testing.assert_array_equal(
        CONVERT([given])["weights"]["overall"], np.ones(1, np.float32)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": np.ones(40, np.int32)},
            "'inputs': expected at most 32 tokens, got 40; .*config.input.text_length",
        ),
        (
            {"targets": np.ones(40, np.int32)},
            "'targets': expected at most 24 .* config.input.target_length",
        ),
        ({"inputs": np.ones(4)}, "'inputs': expected int32 of rank 1, got float64"),
        (
            {"image": np.zeros((8, 8), np.uint8)},
            "'image': expected uint8 of rank 3, got uint8 of rank 2",
        ),
        (
            {"image": np.zeros((9, 8, 3), np.uint8)},
            r"'image': expected shape \(8, 8, 3\), got \(9, 8, 3\); config.input.image",
        ),
        (
            {"heatmaps": np.zeros((1, 4, 4), np.float32)},
            r"'heatmaps': expected shape \(1, 8, 8\)",
        ),
        (
            {"target_names": np.array(["overall", "alignment"])},
            r"'scores': expected one for each score in target_names=.*, got 1",
        ),
        ({"word_ends": np.zeros(3, np.int32)}, "'word_ends': .* the same length, got"),
        ({"target_names": np.zeros(1)}, "'target_names': expected str of rank 1"),
    ],
)
def test_errors_name_task_record_and_feature(change, message):
    with pytest.raises(ValueError, match=f"task mix, record 'r1', feature {message}"):
        CONVERT([one("overall") | change])


def test_a_missing_feature():
    example = one("overall")
    del example["scores"]
    with pytest.raises(ValueError, match=r"'scores': missing; .*'heatmaps'"):
        CONVERT([example])


def test_targets_are_checked():
    convert = Converter(targets=("overall",), task="mix", **SIZES)
    with pytest.raises(ValueError, match=r"'alignment' is not in config.task.targets="):
        convert([one("alignment")])
    with pytest.raises(ValueError, match="unknown target 'x'"):
        Converter(targets=("x",), **SIZES)
    with pytest.raises(ValueError, match="2 examples do not fit batch_size=1"):
        convert([one("overall")] * 2, 1)
