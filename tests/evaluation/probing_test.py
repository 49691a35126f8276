"""From a table to a probe to predictions. Its eyes are the installed ones."""

import json

import numpy as np
import pytest
from PIL import Image

import rahf
from configs import rated_images
from rahf.baselines import probe as probes
from rahf.bin import compare, eval_scores, predict
from rahf.evaluation import probing

NUMBER = 48


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Images of 12 prompts, rated by how dark they are; `luck` is noise."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    lines = ["image,prompt,dark,luck"]
    for i in range(NUMBER):
        level = rng.uniform(0, 1)
        pixels = np.clip(255 * level + rng.normal(0, 20, (40, 30, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,prompt {i % 12},{1 - level:.4f},{rng.uniform():.4f}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    return folder / "ratings.csv"


def _config(table, columns="dark:0-1->overall,luck:0-1->aesthetics", **options):
    config = rated_images.get_config(columns)
    config.input.rated_images.update(path=str(table), **options)
    return config


@pytest.fixture(scope="module")
def made(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    text = probing.run(
        _config(table), folder, eyes="efficientnet_lite0", side=32, folds=3
    )
    return folder, text


def test_what_it_says_of_itself(made):
    folder, text = made
    lines = {line.partition(":")[0]: line for line in text.splitlines()}
    assert "NOT SHOWN" not in lines["overall"]
    assert lines["aesthetics"].endswith("NOT SHOWN TO BE BETTER THAN THE MEAN")
    saved = json.loads((folder / "scores.json").read_text())
    assert saved["metrics"]["overall, pooled"]["n"] == NUMBER
    assert saved["metrics"]["overall, pooled"]["plcc"] > 0.95
    assert abs(saved["metrics"]["aesthetics, pooled"]["plcc"]) < 0.5
    rows = (folder / "scores.examples.jsonl").read_text().splitlines()
    rows = [json.loads(row) for row in rows]
    assert len(rows) == 2 * NUMBER
    folds = {}
    for row in rows:
        folds.setdefault(row["prompt"], set()).add(row["fold"])
    assert all(len(each) == 1 for each in folds.values()), "prompts stay together"


def test_it_predicts_as_a_checkpoint_does(made, table, tmp_path, capsys):
    folder, _ = made
    images = [str(table.parent / f"{i}.png") for i in range(4)]
    predict.main(
        [f"--checkpoint={folder}", *images, "--prompt=x", f"--output={tmp_path / 'p'}"]
    )
    assert "4 predicted" in capsys.readouterr().out
    rows = (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(row) for row in rows]
    assert [set(row["scores"]) for row in rows] == [{"overall", "aesthetics"}] * 4
    assert all(row["words"] == [] and row["heatmaps"] == {} for row in rows)
    levels = [np.asarray(Image.open(path)).mean() for path in images]
    scores = [row["scores"]["overall"] for row in rows]
    assert np.argsort(scores).tolist() == np.argsort(levels)[::-1].tolist()
    found = rahf.load(folder).predict(images, "x")
    assert [each.scores["overall"] for each in found] == pytest.approx(scores, abs=1e-5)
    ranked = rahf.load(folder).rank(images, "x", by="overall")
    assert ranked[0].index == int(np.argmin(levels))
    with pytest.raises(ValueError, match="is a probe, which has no steps"):
        rahf.load(folder, step=3)
    for measure in (
        lambda: eval_scores.main([f"--checkpoint={folder}"]),
        lambda: compare.main([str(folder), str(tmp_path), f"--output={tmp_path}/c"]),
    ):
        with pytest.raises(SystemExit, match="is a probe, .* predict first"):
            measure()


def test_official_splits_keep_their_test(table, tmp_path):
    lines = table.read_text().splitlines()
    split = ["split", *(("train", "dev", "test")[i % 3] for i in range(NUMBER))]
    own = table.parent / "official.csv"
    lines = [f"{line},{name}" for line, name in zip(lines, split, strict=True)]
    own.write_text("\n".join(lines))
    config = _config(own, "dark:0-1->overall", split="split")
    text = probing.run(config, tmp_path, eyes="efficientnet_lite0", side=32)
    assert "overall: PLCC" in text
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["metrics"]["overall"]["n"] == NUMBER // 3
    # What the test part says changes nothing in the probe.
    weights = probes.read(tmp_path).weights
    cells = [line.split(",") for line in own.read_text().splitlines()]
    for row in cells[1:]:
        row[2] = "0.5" if row[-1] == "test" else row[2]
    own.write_text("\n".join(map(",".join, cells)))
    probing.run(config, tmp_path, eyes="efficientnet_lite0", side=32)
    np.testing.assert_array_equal(probes.read(tmp_path).weights, weights)


def test_mistakes_are_clear(table, tmp_path):
    from configs import scenes

    with pytest.raises(ValueError, match="learns from a table of rated images"):
        probing.run(scenes.get_config(), tmp_path, eyes="efficientnet_lite0", side=32)
    few = table.parent / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:3]))
    with pytest.raises(ValueError, match="there are only 2 groups"):
        probing.run(_config(few), tmp_path, eyes="efficientnet_lite0", side=32)
