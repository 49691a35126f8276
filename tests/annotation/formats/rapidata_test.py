"""Rapidata's public layout becomes a dataset; its columns are those of Hugging Face."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rahf.annotation.formats import rapidata
from rahf.datasets.ratings.consolidated import Consolidated
from tests.support.rapidata_files import PROMPT, SCORES, make_row, write


def test_it_becomes_a_dataset_that_training_reads(tmp_path):
    other = make_row(
        prompt="two dogs", word_scores='[["two", 1], ["[No_mistakes]", 0]]'
    )
    empty = make_row(alignment_heatmap=[], coherence_score=None, style_score=5.0)
    write(tmp_path / "in/data/train-00000-of-00002.parquet", make_row(), other)
    write(tmp_path / "in/data/train-00001-of-00002.parquet", empty)
    report = rapidata.write_dataset(
        tmp_path / "in", tmp_path / "out", dev_share=0, test_share=0, map_size=8
    )
    assert report.images == 3 and report.splits == {"train": 3}
    assert report.labels == {
        "artifact_score": 2,
        "misalignment_score": 3,
        "aesthetics_score": 3,
        "artifact_map": 3,
        "prompt_misalignment_label": 2,
    }
    assert list(report.without_words) == ["train-00000-of-00002.parquet, row 1"]
    assert "nothing about" in str(report.without_words)
    assert "words of 1 images are unknown" in report.summary()
    kept = json.loads((tmp_path / "out/consolidated/consolidation.json").read_text())
    assert kept["images"] == 3
    records = {r["uid"]: r for r in Consolidated("train", tmp_path / "out")}
    first, second, third = (records[f"rapidata-{n:06d}"] for n in range(3))
    assert first["prompt"] == PROMPT
    scores = [first[f"{n}_score"] for n in ("artifact", "misalignment", "aesthetics")]
    assert scores == [0.75, 0.375, 0.0]
    assert not {"overall_score", "misalignment_map"} & first.keys()
    assert first["prompt_misalignment_label"].tolist() == [1, 0, 1, 0, 1]
    assert first["artifact_map"].shape == (8, 8)
    np.testing.assert_allclose(first["artifact_map"][2:4, 4:6].mean(), 0.5, atol=0.15)
    assert first["artifact_map"][6:].max() == 0
    assert "prompt_misalignment_label" not in second
    assert not {"artifact_score", "misalignment_map"} & third.keys()


def test_words_follow_the_prompt():
    assert rapidata.read_words(json.dumps(dict(SCORES)), PROMPT).tolist() == [
        1, 0, 1, 0, 1
    ]  # fmt: skip
    for text, error in (
        (None, "expected .*got None"),
        ("3", "expected"),
        ('[["a", "b"]]', "expected"),
        (json.dumps(SCORES[:-1]), "expected one"),
        (json.dumps(SCORES[1:]), "'yellow' does not follow"),
        (json.dumps([*SCORES[:-2], SCORES[-1]]), "nothing about ' the-mat'"),
    ):
        with pytest.raises(ValueError, match=error):
            rapidata.read_words(text, PROMPT)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"style_score": 0.4}, "column 'style_score': expected 1 to 5, got 0.4"),
        ({"coherence_heatmap": [[0.5, 0.5], [0.5]]}, "expected rows of one length"),
        ({"coherence_heatmap": [[2.0, 0.5]]}, "expected values from 0 to 1"),
        ({"coherence_heatmap": [[float("nan")]]}, "expected values from 0 to 1"),
        ({"coherence_heatmap": [None, [0.5]]}, "expected rows of one length"),
        ({"image": {"bytes": None, "path": "x"}}, "column 'image': expected bytes"),
        ({"image": {"bytes": b"x", "path": "x"}}, "row 1: "),
        ({"prompt": None}, "column 'prompt': expected text"),
    ],
)
def test_mistakes_name_file_row_and_column(tmp_path, fields, error):
    folder = write(tmp_path / "x.parquet", make_row(), make_row(**fields))
    with pytest.raises(ValueError, match=error) as raised:
        rapidata.write_dataset(folder, tmp_path / "out", dev_share=0, test_share=0)
    assert "x.parquet, row 1" in str(raised.value)
    assert not (tmp_path / "out/consolidated/1.0.0").exists()


def test_other_tables_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [1], "prompt": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no column 'word_scores', "):
        rapidata.write_dataset(tmp_path, tmp_path / "out")
