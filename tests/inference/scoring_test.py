"""`rahf.bin.score` on shards, with a real, tiny, untrained model."""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rahf
from rahf import durable
from rahf.applications import scored_shards
from rahf.bin import score
from rahf.checkpoints import feature_distance, restore
from rahf.inference import image_places, scoring
from rahf.inference.decoders import DIED, Decoders
from tests.inference.decoders_test import dying
from tests.support import captions_fixture, disk, tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tiny.write_workdir(tmp_path_factory.mktemp("W"), tiny.config())


def _call(workdir, output, *args):
    score.main([f"--checkpoint={workdir}", f"--output={output}", *map(str, args)])


def _outputs(output):
    return sorted(output.glob("*.parquet"))


def test_shards_of_each_kind(workdir, tmp_path, capsys):
    tar = captions_fixture.write_shard(tmp_path / "a.tar", 0, 3)
    (tmp_path / "0.png").write_bytes(captions_fixture.encoded(0))
    (tmp_path / "bad.png").write_bytes(b"broken")
    rows = [{"image": f"{n}.png", "prompt": "x", "id": n} for n in ("0", "bad")]
    lines = tmp_path / "b.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"image": 3}]))
    table = tmp_path / "c.parquet"
    cells = {"jpg": [captions_fixture.encoded(1)], "caption": ["a cat"]}
    pq.write_table(pa.table(cells), table)
    output = tmp_path / "out"
    _call(workdir, output, tar, lines, table, "--heatmaps=native", "--batch_size=2")
    assert "7 images scored" in capsys.readouterr().out
    a, b, c = [pq.read_table(path).to_pylist() for path in _outputs(output)]
    assert (len(a), len(b), len(c)) == (3, 3, 1)
    assert [row["error"] is None for row in b] == [True, False, False]
    [expected] = rahf.load(workdir).predict([captions_fixture.encoded(1)], "a cat")
    assert c[0]["plausibility"] == pytest.approx(
        expected.scores["plausibility"], abs=1e-5
    )
    assert [word["text"] for word in c[0]["words"]] == ["a", "cat"]
    found = np.frombuffer(c[0]["misalignment"], np.uint8).reshape(32, 32) / 255
    np.testing.assert_allclose(found, expected.heatmaps["misalignment"], atol=2 / 255)
    # Again: skipped; with other settings: refused.
    _call(workdir, output, tar, lines, table, "--heatmaps=native")
    assert "0 images scored; 3 shards done before" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="expected an output of heatmaps none"):
        _call(workdir, output, tar)


def test_the_distance_from_the_training_images_has_a_column(tmp_path):
    config, shard = (
        tiny.config(),
        captions_fixture.write_shard(tmp_path / "a.tar", 0, 2),
    )
    workdir = tiny.write_workdir(tmp_path / "W", config)
    _call(workdir, tmp_path / "before", shard)
    [path] = _outputs(tmp_path / "before")
    assert "distance" not in pq.read_schema(path).names
    params = restore.restore_for_inference(workdir)[1]
    width = 2 * config.model.t5.embed_dim
    features = feature_distance.FeatureSummary(  # the distance is the features' length
        mean=np.zeros(width, np.float32),
        scale=np.ones(width, np.float32),
        directions=np.zeros((1, width), np.float16),
        variances=np.ones(2, np.float32),
        distances=np.linspace(0, 40, 1000, dtype=np.float32),
    )
    feature_distance.write(workdir, 1, params, features)
    _call(workdir, tmp_path / "after", shard)
    [path] = _outputs(tmp_path / "after")
    found = pq.read_table(path).column("distance").to_pylist()
    pictures = [captions_fixture.encoded(number) for number in (0, 1)]
    expected = [p.distance for p in rahf.load(workdir).predict(pictures, ["", ""])]
    assert found == pytest.approx(expected, abs=0.2)
    assert all(0 < each < 100 for each in found)
    with scored_shards.ScoredShard(path) as scored:
        assert [line["distance"] for line in scored.lines()] == pytest.approx(found)
        assert "distance" not in scored.scores
    with pytest.raises(SystemExit, match="expected an output of distance percent"):
        _call(workdir, tmp_path / "before", shard)


def test_bad_shards_stop_nothing_else(workdir, tmp_path):
    shards = [
        captions_fixture.write_shard(tmp_path / f"{n}.tar", n, 2) for n in range(3)
    ]
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[: len(whole) // 3])
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"0\.tar: ") as caught:
        _call(
            workdir,
            output,
            *shards,
            tmp_path / "gone.parquet",
            tmp_path / "{3..4}.tar",  # of which neither is there
            f"{tmp_path}/./2.tar",  # once more
        )
    for name in ("gone.parquet", "3.tar", "4.tar"):
        assert f"{tmp_path / name}: " in str(caught.value)
    assert "4 images scored; 0 shards done before, 0 in" in str(caught.value)
    assert [path.name[0] for path in _outputs(output)] == ["1", "2"]
    assert not [p for p in output.iterdir() if p.name.startswith(".0")]


def test_no_shard_at_all_is_found_before_the_model_is_loaded(tmp_path):
    with pytest.raises(SystemExit, match=r"none of the 3 shards is there: .*0\.tar, "):
        _call("nowhere", tmp_path / "out", tmp_path / "{0..2}.tar")


def test_a_damaged_output_is_named(workdir, tmp_path):
    shard = captions_fixture.write_shard(tmp_path / "a.tar", 0, 2)
    _call(workdir, tmp_path / "out", shard)
    [path] = _outputs(tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SystemExit, match="damaged, or not .*; remove it to score its"):
        _call(workdir, tmp_path / "out", shard)
    path.unlink()
    _call(workdir, tmp_path / "out", shard)
    assert pq.read_table(path).num_rows == 2


def test_parts_and_shards_in_other_hands(workdir, tmp_path, capsys):
    shards = [
        captions_fixture.write_shard(tmp_path / f"{n}.tar", n, 1) for n in range(3)
    ]
    output = tmp_path / "out"
    held = output / ".locks" / scoring.output_name(str(shards[2]))[: -len(".parquet")]
    with durable.locked(held, "scoring"):
        _call(workdir, output, *shards, "--shard=0/2")
    assert "1 images scored; 0 shards done before, 1 in" in capsys.readouterr().out
    (output / f".{scoring.output_name(str(shards[2]))}.x").write_bytes(b"half")
    _call(workdir, output, *shards, "--shard=0/2")
    assert [path.name[0] for path in _outputs(output)] == ["0", "2"]
    assert not list(output.glob(".*parquet*"))


def test_outputs_of_another_checkpoint_are_refused(workdir, tmp_path):
    shard = captions_fixture.write_shard(tmp_path / "a.tar", 0, 1)
    output = tmp_path / "out"
    _call(workdir, output, shard)
    [path] = _outputs(output)
    before = path.read_bytes()
    moved = shutil.copytree(workdir, tmp_path / "moved")
    _call(moved, output, shard)  # the same parameters elsewhere: done before
    other = tiny.write_workdir(tmp_path / "V", tiny.config(), seed=1)
    for another in (other, moved):
        with pytest.raises(SystemExit, match="expected an output of checkpoint_digest"):
            _call(another, output, shard)
        # For the second round: a folder whose model changed between two runs.
        shutil.rmtree(moved)
        shutil.copytree(other, moved)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_half_output(workdir, tmp_path, capsys, monkeypatch):
    shards = [
        captions_fixture.write_shard(tmp_path / f"{n}.tar", 30 * n, n * 27 + 3)
        for n in range(2)
    ]
    flags = ("--heatmaps=native", "--decoders=0")
    predictor = rahf.load(workdir)
    monkeypatch.setattr(rahf, "load", lambda *_: predictor)
    _call(workdir, tmp_path / "alone", shards[0], *flags)  # compiles, too
    [alone] = _outputs(tmp_path / "alone")
    output, size = tmp_path / "out", alone.stat().st_size
    # Full before the first byte, within the first shard, within the second.
    for room, whole in ((0, 0), (size - 100, 0), (size, 1)):
        with (
            disk.room_for(room),
            pytest.raises(SystemExit, match="--output=.* cannot be written to"),
        ):
            _call(workdir, output, *shards, *flags)
        assert len(_outputs(output)) == whole
        assert not list(output.glob(".*.parquet*"))
    _call(workdir, output, *shards, *flags)
    assert "30 images scored; 1 shards done before" in capsys.readouterr().out
    assert [pq.read_table(path).num_rows for path in _outputs(output)] == [3, 30]


def test_rows_are_written_in_groups(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "GROUP", 4)
    shard = captions_fixture.write_shard(tmp_path / "a.tar", 0, 7)
    _call(workdir, tmp_path / "out", shard, "--batch_size=2")
    file = pq.ParquetFile(_outputs(tmp_path / "out")[0])
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [4, 3]
    assert len({row["id"] for row in file.read().to_pylist()}) == 7


def test_an_image_that_kills_its_decoder_is_one_error(workdir, tmp_path, monkeypatch):
    def poisoned(number, parts):
        return parts | {"jpg": b"poison"} if number == 1 else parts

    shards = [
        captions_fixture.write_shard(tmp_path / f"{n}.tar", 3 * n, 3, poisoned)
        for n in range(2)
    ]
    fragile = functools.partial(Decoders, decode=dying)
    monkeypatch.setattr(scoring, "Decoders", fragile)
    output = tmp_path / "out"
    _call(workdir, output, *shards, "--batch_size=2", "--decoders=2")
    rows = [row for path in _outputs(output) for row in pq.read_table(path).to_pylist()]
    assert [row["error"] for row in rows] == [None, DIED, None, None, None, None]


def test_two_processes_on_one_shard(workdir, tmp_path):
    """The one that comes second is told, and no shard is done twice."""
    shards = [
        captions_fixture.write_shard(tmp_path / f"{n}.tar", 20 * n, 20)
        for n in range(3)
    ]
    output = tmp_path / "out"
    names = [scoring.output_name(str(shard)) for shard in shards]
    command = [sys.executable, "-m", "rahf.bin.score", *map(str, shards)]
    command += [f"--checkpoint={workdir}", f"--output={output}", "--decoders=0"]
    root = pathlib.Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    # The first shard is in the hands of a process that is alive: this one.
    with durable.locked(output / ".locks" / names[0].removesuffix(".parquet"), "x"):
        both = [
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    scored = [int(re.search(r"(\d+) images scored", text)[1]) for text in said]
    assert sum(scored) == 40, said
    for text in said:
        done = re.search(r"(\d+) shards done before, (\d+) in the hands of", text)
        assert int(done[2]) >= 1
    assert [path.name for path in _outputs(output)] == sorted(names[1:])


def test_shards_at_a_url(workdir, tmp_path):
    memory = fsspec.filesystem("memory")
    shard = captions_fixture.write_shard(tmp_path / "a.tar", 0, 2)
    memory.pipe("/rahf_score/a.tar", shard.read_bytes())
    memory.pipe("/rahf_score/1.png", captions_fixture.encoded(1))
    rows = [{"image": f"memory://rahf_score/{n}.png", "prompt": "x"} for n in (1, 2)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    memory.pipe("/rahf_score/b.jsonl", lines.encode())
    urls = ["memory://rahf_score/a.tar", "memory://rahf_score/b.jsonl"]
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"4 images scored.*1 unreadable") as caught:
        _call(workdir, output, *urls, "memory://rahf_score/gone.jsonl")
    assert "gone.jsonl" in str(caught.value)
    a, b = [pq.read_table(path).to_pylist() for path in _outputs(output)]
    assert [row["error"] is None for row in [*a, *b]] == [True, True, True, False]
    assert image_places.read(a[1]["image"]) == captions_fixture.encoded(1)
    assert image_places.read(b[0]["image"]) == captions_fixture.encoded(1)
    assert image_places.why_unusable(a[1]["image"], a[1]) == ""
    memory.rm("/rahf_score", recursive=True)
