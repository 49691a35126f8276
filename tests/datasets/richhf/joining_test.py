"""The join's parts without TensorFlow: shards, the store, what a process leaves."""

import os
import signal
import subprocess
import sys

import pytest

from rahf.datasets.richhf import build, joining, pickapic, picture_store, report
from tests.support import richhf_files as files


def read(path, wanted):
    [shard] = pickapic.find_shards(path.parent)
    with pickapic.ShardReader(shard) as reader:
        groups = [list(reader.read(i, wanted)) for i in range(reader.row_groups)]
    return [found for group in groups for found in group]


@pytest.mark.parametrize("nested", [False, True])
def test_it_finds_either_image_of_a_row(tmp_path, nested):
    path = tmp_path / "deep" / "x.parquet"
    rows = files.rows("train")
    # More rows than are decoded at a time.
    files.write_shard(path, rows * 4, nested=nested, row_group_size=40)
    wanted = {files.uid("train", 1), "other-train-3", "nobody"}
    found = read(path, wanted)
    assert len(found) == 8
    assert {uid for uid, _ in found} == wanted - {"nobody"}
    for uid, picture in found:
        assert picture.image == files.encode(files.pixels(uid), "JPEG")
        row = next(row for row in rows if uid in row.values())
        assert picture.prompt == row["caption"]


def test_missing_cells_are_no_pictures(tmp_path):
    row = {"image_0_uid": "a", "image_1_uid": None, "jpg_1": b"x", "jpg_0": None}
    files.write_shard(tmp_path / "x.parquet", [row | {"caption": None}])
    assert read(tmp_path / "x.parquet", {"a"}) == [("a", joining.Picture(None, None))]


def test_a_complete_picture_comes_before_one_that_is_not(tmp_path):
    good = joining.Picture(b"jpeg", "a dog")
    lame = [joining.Picture(None, "a dog"), joining.Picture(b"jpeg", None)]
    with picture_store.PictureStore(tmp_path / "shelf.sqlite", {"u", "v"}) as found:
        assert found.add("x", 1, 0, [("u", lame[0]), ("v", lame[1])]) == set()
        assert found.uids() == set()  # so both are looked for further
        assert found.get("v") == lame[1]  # and this is what is known of it
        assert found.add("x", 1, 1, [("u", good), ("u", lame[1])]) == {"u"}
        assert found.uids() == {"u"} and found.get("u") == good
    for pictures in ([good, *lame], [*lame, good]):  # as Beam joins them
        assert min(pictures, key=joining.preference) == good


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(ValueError, match=r"has no .parquet files; it must be a copy"):
        pickapic.find_shards(tmp_path)


def test_memory_does_not_grow_with_the_file(tmp_path):
    # 20 row groups of 20 rows with two images of 50 kB: 40 MB.
    code = """
import sys, numpy as np
from rahf.datasets.richhf import pickapic
from tests.support import richhf_files as files
import pyarrow as pa
if sys.argv[2] == "write":
    rng = np.random.default_rng(0)
    rows = [
        {"image_0_uid": f"a{i}", "image_1_uid": f"b{i}", "caption": "a dog"}
        | {"jpg_0": rng.bytes(50_000), "jpg_1": rng.bytes(50_000)}
        for i in range(400)
    ]
    files.write_shard(sys.argv[1] + "/x.parquet", rows, row_group_size=20)
else:
    [shard] = pickapic.find_shards(sys.argv[1])
    found = 0
    with pickapic.ShardReader(shard) as reader:
        for group in range(reader.row_groups):
            wanted = {f"{side}{i}" for side in "ab" for i in range(400)}
            found += sum(len(p.image) for _, p in reader.read(group, wanted))
    print(shard.size, found, pa.default_memory_pool().max_memory())
"""
    for step in ("write", "read"):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path, step],
            capture_output=True,
            text=True,
            check=True,
        )
    size, found, peak = map(int, done.stdout.split())
    assert size > found == 40_000_000
    # Twice the one page of a column chunk, 1 MB each, and a batch of images.
    assert peak < 4_500_000


def test_a_killed_process_leaves_whole_row_groups(tmp_path):
    files.write_pickapic(tmp_path)
    places = [tmp_path / "found.sqlite", tmp_path]
    code = """
import os, pathlib, signal, sys
from rahf.datasets.richhf import build, pickapic, picture_store, report
from tests.support import richhf_files as files

read = pickapic.ShardReader.read
count = 0

def killed(self, group, wanted):
    global count
    for found in read(self, group, wanted):
        yield found
        count += 1
        if count == 4:
            os.kill(os.getpid(), signal.SIGKILL)

pickapic.ShardReader.read = killed
shards = pickapic.find_shards(sys.argv[2])
with picture_store.PictureStore(pathlib.Path(sys.argv[1]), files.uids()) as opened:
    build.collect(shards, opened, files.uids(), report.BuildReport("fail", {}))
"""
    done = subprocess.run([sys.executable, "-c", code, *places], check=False)
    assert done.returncode == -signal.SIGKILL
    with picture_store.PictureStore(places[0], files.uids()) as opened:
        assert len(opened.uids()) == 3  # the fourth was not committed
        shards = pickapic.find_shards(tmp_path)
        done = [group for s in shards for group in opened.done(s.name, s.size)]
        assert len(done) == 3
        build.collect(shards, opened, files.uids(), report.BuildReport("fail", {}))
        assert opened.uids() == set(files.uids())
        for uid in files.uids():
            jpeg = files.encode(files.pixels(uid), "JPEG")
            assert opened.get(uid) == joining.Picture(jpeg, files.prompt(uid))


def test_the_store_is_one_process_alone_and_knows_what_it_looked_for(tmp_path):
    path = tmp_path / "found.sqlite"
    picture = joining.Picture(b"x", "a dog")
    with picture_store.PictureStore(path, {"a", "b"}) as opened:
        assert opened.add("x", 10, 0, [("a", picture), ("a", picture)]) == {"a"}
        assert (opened.done("x", 10), opened.done("x", 11)) == ({0}, set())
        with pytest.raises(ValueError, match="is another build writing"):
            picture_store.PictureStore(path, {"a", "b"})
    with picture_store.PictureStore(
        path, {"a", "c"}
    ) as opened:  # c may be where b was not
        assert (opened.done("x", 10), opened.uids()) == (set(), {"a"})
    os.truncate(path, 100)
    with pytest.raises(ValueError, match="remove the file and start again"):
        picture_store.PictureStore(path, {"a"})
