"""A teacher is asked once, and what it says is kept, whole or not at all."""

import dataclasses
import json

import numpy as np
import pytest

import rahf
from rahf.datasets import distilled
from rahf.datasets.scenes import Scenes
from rahf.inference import teaching, unlabelled
from rahf.inference.teaching import TeachRequest, teach
from rahf.input.augmentation import may_mirror
from tests.support import captions_fixture, disk, tiny

RECORDS = Scenes("train", 64, difficulty="simple", num_examples=10)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    config = tiny.config()
    config.input.image_size = 64
    return tiny.write_workdir(tmp_path_factory.mktemp("T"), config)


@pytest.fixture(scope="module")
def predictor(teacher):
    return rahf.load(teacher)


@pytest.fixture(autouse=True)
def quick(predictor, monkeypatch):
    """Small parts, and a teacher that is compiled once."""
    monkeypatch.setattr(unlabelled, "PART", 4)
    monkeypatch.setattr(rahf, "load", lambda workdir, step: predictor)


def pictures(records=RECORDS, **identity):
    return unlabelled.of_records(records, {"kind": "test"} | identity)


def ask(teacher, folder, given=None, **options):
    request = TeachRequest(str(teacher), None, str(folder), batch_size=4, **options)
    return teach(request, given or pictures())


def read(folder, split="train", **options):
    return distilled.distilled_records(
        split, {"distilled": {"path": str(folder)} | options}
    )


def test_records_are_what_the_teacher_says(teacher, predictor, tmp_path):
    report = ask(teacher, tmp_path)
    assert f"10 pictures with what {teacher}, step 1, says of them; 0 could" in report
    found = read(tmp_path)
    assert len(found) == 10
    expected = predictor.predict(
        [r["image"] for r in RECORDS], [r["prompt"] for r in RECORDS], batch_size=4
    )
    for record, own, prediction in zip(found, RECORDS, expected, strict=True):
        assert record["uid"] == own["uid"] and record["prompt"] == own["prompt"]
        assert (record["image"] == own["image"]).all()
        assert record["artifact_score"] == pytest.approx(
            prediction.scores["plausibility"], abs=1e-5
        )
        chances = [word.probability for word in prediction.words]
        np.testing.assert_allclose(
            record["prompt_misalignment_chance"], chances, atol=1e-5
        )
        assert record["prompt_misalignment_label"].tolist() == [
            int(chance <= 0.5) for chance in chances
        ]
        np.testing.assert_allclose(
            record["artifact_map"],
            prediction.heatmaps["implausibility"],
            atol=0.5 / 255 + 1e-5,
        )
    only = read(tmp_path, targets=("plausibility",))[0]
    assert set(only) == {"uid", "image", "prompt", "artifact_score"}


def test_goes_on_where_it_was_killed(teacher, tmp_path, monkeypatch):
    whole = ask(teacher, tmp_path / "a")
    asked = []

    class Killed(Exception):
        pass

    def killed(predictor, request, batch):
        asked.append(len(batch))
        if len(asked) == 2:
            raise Killed
        return answers(predictor, request, batch)

    answers = teaching._answers
    with monkeypatch.context() as patch:
        patch.setattr(teaching, "_answers", killed)
        with pytest.raises(Killed):
            ask(teacher, tmp_path / "b")
    (tmp_path / "b" / ".part-00001.arrow.xyz").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"b is not complete \(no complete.json\): run"
    ):
        read(tmp_path / "b")
    kept = (tmp_path / "b" / "part-00000.arrow").stat()
    assert ask(teacher, tmp_path / "b") == whole.replace("/a:", "/b:")
    assert (tmp_path / "b" / "part-00000.arrow").stat().st_ino == kept.st_ino
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert [name for name in names if not name.startswith(".rahf")] == [
        "complete.json",
        *(f"part-0000{n}.arrow" for n in range(3)),
        "teacher.json",
    ]
    for one, other in zip(read(tmp_path / "a"), read(tmp_path / "b"), strict=True):
        assert {k: np.asarray(v).tolist() for k, v in one.items()} == {
            k: np.asarray(v).tolist() for k, v in other.items()
        }


def test_a_cache_is_of_one_teacher_and_some_pictures(teacher, tmp_path):
    ask(teacher, tmp_path)
    with pytest.raises(ValueError, match="the pictures was .*'test'.*choose another"):
        ask(teacher, tmp_path, pictures(number=3))
    with pytest.raises(ValueError, match="mirrored was False, now True"):
        ask(teacher, tmp_path, mirrored=True)
    with pytest.raises(ValueError, match="the side of pictures was 64, now 96"):
        ask(teacher, tmp_path, side=96)
    about = json.loads((tmp_path / "teacher.json").read_text())
    about["teacher"] |= {"digest": "files:other"}
    (tmp_path / "teacher.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="the teacher's digest was 'files:other'"):
        ask(teacher, tmp_path)


def test_mirrored_pictures_are_asked_about_unless_their_prompt_has_sides(
    teacher, tmp_path
):
    ask(teacher, tmp_path, mirrored=True)
    found = {record["uid"]: record for record in read(tmp_path)}
    sides = [r for r in RECORDS if not may_mirror(r["prompt"])]
    assert len(found) == 20 - len(sides) and sides
    for own in RECORDS:
        other = found.get(own["uid"] + distilled.MIRRORED)
        assert (other is not None) == may_mirror(own["prompt"])
        if other is not None:
            assert (other["image"] == own["image"][:, ::-1]).all()


def test_pictures_that_cannot_be_read(teacher, tmp_path):
    (tmp_path / "a.png").write_bytes(captions_fixture.encoded(0))
    (tmp_path / "b.png").write_bytes(b"broken")
    table = tmp_path / "p.jsonl"
    rows = [{"image": f"{n}.png", "prompt": "a cat"} for n in "ab"]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = unlabelled.of_sources([str(table)])
    assert given.total == 2
    with pytest.raises(ValueError, match=r"b: .*--on_error=skip records it"):
        ask(teacher, tmp_path / "c", given)
    assert "1 pictures with" in ask(teacher, tmp_path / "c", given, skip=True)
    assert [record["uid"] for record in read(tmp_path / "c")] == ["a"]
    bad = dataclasses.replace(
        given, parts=[lambda: iter([unlabelled.UnlabelledPicture("b", b"", "x")])]
    )
    with pytest.raises(ValueError, match="none of the 1 pictures could be read"):
        ask(teacher, tmp_path / "d", bad, skip=True)


def test_shards(teacher, tmp_path):
    shards = [
        str(captions_fixture.write_shard(tmp_path / f"{n}.tar", n, 2)) for n in (0, 1)
    ]
    given = unlabelled.of_sources(shards)
    assert given.total is None
    ask(teacher, tmp_path / "c", given)
    found = read(tmp_path / "c")
    assert len(found) == 4 and len({record["uid"] for record in found}) == 4
    assert found[0]["image"].shape == (64, 64, 3)
    with pytest.raises(ValueError, match="expected shards .* not both"):
        unlabelled.of_sources([*shards, "pictures"])


def test_prompts_are_held_out_whole(teacher, tmp_path):
    ask(teacher, tmp_path)
    train, dev = (read(tmp_path, split, dev_share=0.5) for split in ("train", "dev"))
    assert len(train) + len(dev) == 10 and len(train) and len(dev)
    assert not {r["prompt"] for r in train} & {r["prompt"] for r in dev}
    assert train.digest() != dev.digest()
    with pytest.raises(ValueError, match="have no split 'test'"):
        read(tmp_path, "test")
    with pytest.raises(
        ValueError, match="none of the 10 pictures is in the split 'dev'"
    ):
        read(tmp_path, "dev")
    with pytest.raises(ValueError, match="distilled.path is not set"):
        distilled.distilled_records("train", {})


def test_a_damaged_cache_is_told(teacher, tmp_path):
    ask(teacher, tmp_path)
    part = tmp_path / "part-00001.arrow"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"part-00001.arrow: cannot be read"):
        read(tmp_path)


def test_a_full_disk_leaves_whole_parts(teacher, tmp_path):
    ask(teacher, tmp_path / "whole")
    size = (tmp_path / "whole" / "part-00000.arrow").stat().st_size
    for room in (0, 4200, size // 2):
        with (
            disk.room_for(room),
            pytest.raises(ValueError, match="--cache=.* cannot be written to"),
        ):
            ask(teacher, tmp_path / "full")
        assert not list((tmp_path / "full").glob("*part*"))
    ask(teacher, tmp_path / "full")
    for name in ("part-00000.arrow", "complete.json"):
        whole, again = ((tmp_path / f / name).read_bytes() for f in ("whole", "full"))
        assert whole == again
