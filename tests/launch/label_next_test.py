"""The parts of launch/label_next.sh that choose images, and compare what came of it."""

import json
import pathlib

import pytest

from rahf import targets
from rahf.bin import export_scenes
from rahf.evaluation.metrics import table
from tests.support import embedded


@pytest.fixture
def run(tmp_path, monkeypatch):
    return embedded.programs_of("launch/label_next.sh", tmp_path, monkeypatch)


def _images(path: pathlib.Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in path.read_text("utf-8").splitlines():
        image = json.loads(line)["image"]
        found[image] = found.get(image, 0) + 1
    return found


def test_the_next_images_come_beside_the_earlier_ones_with_all_their_ratings(
    tmp_path, run
):
    pool, first, more = tmp_path / "pool", tmp_path / "first", tmp_path / "more"
    export_scenes.main([f"--output={pool}", "--examples=7", "--size=64"])
    whole = _images(pool / "ratings.jsonl")
    run(0, pool, "random", "", 1, 3, "", first)
    run(0, pool, "random", "", 1, 2, first, more)
    assert len(_images(first)) == 3 and len(_images(more)) == 5
    assert more.read_text("utf-8").startswith(first.read_text("utf-8"))
    assert _images(more).items() <= whole.items()
    other = tmp_path / "other"
    run(0, pool, "random", "", 2, 3, "", other)
    assert _images(other).keys() != _images(first).keys()


def test_differences_are_of_a_seed_and_the_interval_is_student_s(tmp_path, run, capsys):
    def write(name: str, value: float) -> None:
        for kind, file in (
            (targets.Kind.SCORE, "scores"),
            (targets.Kind.HEATMAP, "heatmaps"),
            (targets.Kind.WORDS, "keywords"),
        ):
            values = dict.fromkeys(table.NAMES[kind], value)
            metrics = {t.name: values for t in targets.rows() if t.kind is kind}
            path = tmp_path / f"{name}.test" / f"{file}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"metrics": metrics}))

    write("demo", 0.05)
    for seed, value in (("1", 0.1), ("2", 0.5), ("3", 0.3)):
        write(f"first{seed}", 0.0)
        write(f"random{seed}", value)
        write(f"uncertain{seed}", value + 0.1 * int(seed))
    run(1, tmp_path, "test", "1 2 3", "300")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["demo", "first", "random", "uncertain"]
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in lines[2:]}
    found = rows["plausibility", "plcc", "^"]
    assert found[:4] == ["0.050", "0.000", "0.300", "0.500"]
    # 4.303, the quantile for two degrees of freedom, times .1 by the root of 3.
    assert found[4:] == ["+0.200", "±", "0.248", "+0.100", "+0.200", "+0.300"]
    assert ("misaligned_words", "f1_micro", "^") in rows
    assert ("implausibility", "kld", "v") in rows
