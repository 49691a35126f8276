import json

import numpy as np
import pytest

from rahf import images
from rahf.bin import export_scenes
from rahf.datasets.scenes import Scenes
from rahf.inference.jobs import read_jobs


def test_files_are_the_records_and_predict_takes_them(tmp_path, capsys):
    output = tmp_path / "scenes"
    export_scenes.main([f"--output={output}", "--examples=3", "--size=64"])
    records = list(Scenes("test", 64, num_examples=3))
    jobs = read_jobs([str(output)])
    assert [job.id for job in jobs] == [record["uid"] for record in records]
    for job, record in zip(jobs, records, strict=True):
        assert job.prompt == record["prompt"]
        np.testing.assert_array_equal(images.read_image(job.image), record["image"])
    assert "3 scenes" in capsys.readouterr().out
    lines = (output / "prompts.jsonl").read_text("utf-8").splitlines()
    assert set(json.loads(lines[0])) == {"image", "prompt"}


def test_another_seed_has_other_scenes(tmp_path):
    for seed in (0, 1):
        flags = ("--examples=2", "--size=64", f"--seed={seed}")
        export_scenes.main([f"--output={tmp_path / str(seed)}", *flags])
    records = list(Scenes("test", 64, num_examples=2, seed=1))
    lines = (tmp_path / "1" / "prompts.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [
        record["prompt"] for record in records
    ]
    assert lines != (tmp_path / "0" / "prompts.jsonl").read_text("utf-8").splitlines()


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="error: --output=.*/file cannot be written"):
        export_scenes.main([f"--output={tmp_path}/file"])


def test_a_wrong_size_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        export_scenes.main([f"--output={tmp_path}", "--size=8"])
    assert "64 to 512 pixels" in capsys.readouterr().err
