"""Scoring on Apache Beam, where it is installed, is scoring without it."""

import importlib.util
import json

import pyarrow.parquet as pq
import pytest

from rahf.bin import score
from tests.support import captions_fixture, tiny

BEAM = importlib.util.find_spec("apache_beam") is not None


@pytest.mark.skipif(BEAM, reason="Apache Beam is installed")
def test_a_missing_beam_names_the_extra(tmp_path):
    flags = ["--checkpoint=W", f"--output={tmp_path}", "--runner=DirectRunner"]
    with pytest.raises(SystemExit, match=r'pip install "rahf\[beam\]"'):
        score.main(["a.jsonl", *flags])


def test_options_of_beam_need_a_runner(tmp_path):
    with pytest.raises(SystemExit, match="needs --runner"):
        score.main(["a.jsonl", "--checkpoint=W", "--output=o", "--beam_options=--x"])


@pytest.mark.skipif(not BEAM, reason="Apache Beam is not installed (rahf[beam])")
@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_beam_writes_the_same_files(tmp_path, capsys):
    workdir = tiny.write_workdir(tmp_path / "W", tiny.config())
    tar = captions_fixture.write_shard(tmp_path / "a.tar", 0, 5)
    (tmp_path / "0.png").write_bytes(captions_fixture.encoded(0))
    rows = [{"image": f"{n}.png", "prompt": "x", "id": str(n)} for n in (0, 1)]
    lines = tmp_path / "b.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cut = captions_fixture.write_shard(tmp_path / "c.tar", 0, 3)
    cut.write_bytes(cut.read_bytes()[:4000])
    shards = [str(tar), str(lines)]
    flags = [f"--checkpoint={workdir}", "--heatmaps=native", "--batch_size=2"]
    score.main([*shards, *flags, f"--output={tmp_path / 'one'}"])
    flags += [f"--output={tmp_path / 'two'}", "--runner=DirectRunner"]
    with pytest.raises(SystemExit, match="7 images scored.* 1 unreadable") as caught:
        score.main([*shards, str(cut), *flags])
    assert "c.tar" in str(caught.value)
    one, two = [sorted((tmp_path / n).glob("*.parquet")) for n in ("one", "two")]
    assert [path.name for path in one] == [path.name for path in two]
    for path, other in zip(one, two, strict=True):
        found, expected = pq.read_table(other), pq.read_table(path)
        assert found.schema.equals(expected.schema, check_metadata=True)
        for row, wanted in zip(found.to_pylist(), expected.to_pylist(), strict=True):
            exact = ("id", "prompt", "image", "image_sha256", "error", "heatmap_side")
            assert {k: row[k] for k in exact} == {k: wanted[k] for k in exact}
            if row["error"] is None:
                assert row["overall"] == pytest.approx(wanted["overall"], abs=1e-5)
                texts = [[word["text"] for word in r["words"]] for r in (row, wanted)]
                assert texts[0] == texts[1]
    capsys.readouterr()
    score.main([*shards, *flags])
    assert "0 images scored; 2 shards done before" in capsys.readouterr().out
