"""What `rahf.bin.score` wrote, put to use as what `rahf.bin.predict` wrote."""

import io
import json
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rahf.applications import scored_shards
from rahf.applications.predictions import read_predictions
from rahf.bin import masks, rank, score, select
from rahf.evaluation.preference_scores import by_file
from rahf.inference import scoring
from tests.support import captions_fixture, tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tiny.write_workdir(tmp_path_factory.mktemp("W"), tiny.config())


@pytest.fixture(scope="module")
def scored(workdir, tmp_path_factory):
    """A folder of four images in a tar, one in a Parquet file, two in files."""
    folder = tmp_path_factory.mktemp("S")

    def two_prompts(number, parts):
        return parts | {"txt": b"a cat" if number < 2 else b"a dog"}

    captions_fixture.write_shard(folder / "a.tar", 0, 4, two_prompts)
    (folder / "4.png").write_bytes(captions_fixture.encoded(4))
    (folder / "5.png").write_bytes(b"broken")
    lines = [{"image": f"{n}.png", "prompt": "a house", "id": str(n)} for n in (4, 5)]
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    cells = {"jpg": [captions_fixture.encoded(6)], "caption": ["a tree"]}
    pq.write_table(pa.table(cells), folder / "c.parquet")
    shards = [str(folder / name) for name in ("a.tar", "b.jsonl", "c.parquet")]
    flags = [f"--checkpoint={workdir}", f"--output={folder / 'out'}"]
    score.main([*shards, *flags, "--heatmaps=native"])
    return folder


def _copy(scored, tmp_path):
    return pathlib.Path(shutil.copytree(scored, tmp_path / "S"))


def _pixel(data):
    return tuple(np.asarray(Image.open(io.BytesIO(data)))[0, 0])


def test_rows_are_those_of_predict(scored):
    found = read_predictions([scored / "out"], ["plausibility", "overall"])
    assert (len(found), found.errors) == (6, 1)
    assert found.prompts.tolist() == [0, 0, 1, 1, 2, 3]
    table = pq.read_table(found.files[0]).to_pylist()
    row = found.row(1)
    assert row["scores"]["overall"] == pytest.approx(table[1]["overall"], abs=1e-6)
    assert (row["image_size"], row["prompt"]) == ([24, 24], "a cat")
    assert [row["id"] for row in found.rows([5, 0])] == ["c/0", "a/000000000"]
    assert found.row(4)["image"] == str(scored / "4.png")
    json.dumps(list(found.rows(range(6))))  # so that a manifest can hold them
    with scored_shards.ScoredShard(found.files[0]) as shard:
        assert shard.line(1)["id"] == row["id"]
        with pytest.raises(ValueError, match="no row 4"):
            shard.line(4)


def test_files_folders_and_globs(scored):
    folder = scored / "out"
    whole = read_predictions([folder])
    for sources in ([folder / "*.parquet"], sorted(folder.glob("*.parquet"))):
        assert read_predictions(sources).digest == whole.digest
    with pytest.raises(ValueError, match=r"no such file; expected the predictions"):
        read_predictions([folder / "*.pq"])


@pytest.mark.parametrize("kind", ["images", "shards", "pairs"])
def test_images_are_copied_out_of_shards(scored, tmp_path, kind):
    output = tmp_path / "chosen"
    flags = ["--by=overall", f"--format={kind}", f"--output={output}"]
    select.main([str(scored / "out"), *flags])
    lines = [
        json.loads(s) for s in (output / "manifest.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 6
    if kind == "images":
        expected = {0: "a cat", 1: "a cat", 2: "a dog", 3: "a dog", 4: "a house"}
        chosen = [line for line in lines if line["chosen"]]
        assert len(chosen) == 4
        for line in chosen:
            number = _pixel((output / line["file"]).read_bytes())[0]
            assert line["prompt"] == (expected | {6: "a tree"})[number]
    # The manifest is a file of predictions too: masks and rankings of the chosen.
    manifest = str(output / "manifest.jsonl")
    masks.main([manifest, "--chosen", f"--output={tmp_path / 'masks'}"])
    ranked = tmp_path / "ranked"
    rank.main([manifest, "--sort_by=overall", f"--output={ranked}"])
    assert len(list((ranked / "pictures").glob("*.jpg"))) == 6


def test_masks_of_native_heatmaps(scored, tmp_path):
    output = tmp_path / "masks"
    masks.main([str(scored / "out"), "--threshold=0.01", f"--output={output}"])
    lines = [json.loads(s) for s in (output / "masks.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    with Image.open(output / lines[0]["mask"]) as mask:
        assert mask.size == (24, 24)
    row = read_predictions([scored / "out"]).row(0)
    place = row["heatmaps"]["implausibility"]
    cell = pq.read_table(place.rpartition("#")[0])["implausibility"][0].as_py()
    np.testing.assert_array_equal(
        np.round(scored_shards.read_heatmap(place) * 255).ravel(), list(cell)
    )


def test_images_that_changed_or_are_gone(scored, tmp_path):
    folder = _copy(scored, tmp_path)
    flags = ["--by=overall", f"--output={tmp_path / 'chosen'}"]
    for path in (folder / "out").glob("*.parquet"):
        table = pq.read_table(path)
        cells = [
            p and p.replace(str(scored), str(folder))
            for p in table["image"].to_pylist()
        ]
        number = table.schema.get_field_index("image")
        table = table.set_column(number, "image", pa.array(cells, pa.string()))
        pq.write_table(table, path)
    captions_fixture.write_shard(folder / "a.tar", 40, 4)
    with pytest.raises(SystemExit, match="the image has changed since"):
        select.main([str(folder / "out"), *flags])
    (folder / "a.tar").unlink()
    with pytest.raises(SystemExit, match="cannot be read"):
        select.main([str(folder / "out"), *flags])
    select.main([str(folder / "out"), *flags, "--on_error=skip"])
    with pytest.raises(SystemExit, match="--link cannot link"):
        flags = ["--by=overall", "--link", f"--output={tmp_path / 'linked'}"]
        select.main([str(scored / "out"), *flags])


def test_preferences_by_scores(scored):
    files = str(scored / "out" / "a-*.parquet")
    [pair] = by_file(files)([_Pair("a/000000000", "a/000000001")])
    table = pq.read_table(scored_shards.find_files(files, "")[0]).to_pylist()
    assert pair[1]["overall"] == pytest.approx(table[1]["overall"], abs=1e-6)


class _Pair:
    where = "pair 0"

    def __init__(self, *uids):
        self.uids = uids


def test_files_of_others(scored, tmp_path, workdir):
    with pytest.raises(ValueError, match=r"c\.parquet: not written by rahf.bin.score"):
        read_predictions([scored / "c.parquet"])
    one, *_ = scored_shards.list_files(scored / "out")
    table = pq.read_table(one)
    pq.write_table(table.drop_columns(["image"]), tmp_path / "old.parquet")
    with pytest.raises(ValueError, match="does not name its images"):
        read_predictions([tmp_path / "old.parquet"])
    about = json.loads(table.schema.metadata[scoring.MADE_BY])
    about |= {"checkpoint_digest": "files:other", "checkpoint": "other"}
    other = table.replace_schema_metadata({scoring.MADE_BY: json.dumps(about)})
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="cannot be compared"):
        read_predictions([one, tmp_path / "other.parquet"])
    both = _copy(scored, tmp_path) / "out"
    (both / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="has both predictions.jsonl and"):
        read_predictions([both])
