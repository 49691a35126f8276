"""Agreement against worked examples, second implementations and a whole run."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from rahf.annotation import agreement, coefficients
from rahf.bin import agreement as main
from rahf.datasets.ratings.rating_files import ImageRatings
from rahf.datasets.scenes import Scenes
from rahf.evaluation.metrics import heatmaps as heatmap_metrics

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four
# observers of twelve units, "." where one is absent.


def triples():
    rows = (
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    )
    return [
        (str(rater), unit, int(value))
        for rater, row in enumerate(rows)
        for unit, value in enumerate(row.split())
        if value != "."
    ]


def test_alpha_equals_krippendorffs_own_example():
    data = triples()
    units = [unit for _, unit, _ in data]
    paired = [value for _, unit, value in data if units.count(unit) > 1]
    for distance, expected in (
        (coefficients.nominal_distance, 0.743),
        (coefficients.ordinal_distance(paired), 0.815),
        (coefficients.interval_distance, 0.849),
    ):
        alpha = coefficients.krippendorff_alpha(data, distance)
        assert alpha == pytest.approx(expected, abs=5e-4)


def test_the_table_has_alpha_of_intervals_and_of_ranks():
    rated = {}
    for rater, unit, value in triples():
        image = rated.setdefault(unit, ImageRatings(f"{unit}", "", None, []))
        image.ratings.append({"rater": str(rater), "scores": {"overall": value}})
    found = agreement.compute_agreement(list(rated.values())).scores["overall"]
    assert found["alpha"] == pytest.approx(0.849, abs=5e-4)
    assert found["alpha_ordinal"] == pytest.approx(0.815, abs=5e-4)


def test_alpha_where_nothing_can_be_compared():
    same = [("a", 1, 3), ("b", 1, 3), ("a", 2, 4)]
    assert coefficients.krippendorff_alpha(same, coefficients.interval_distance) is None
    assert coefficients.krippendorff_alpha([], coefficients.interval_distance) is None


def test_kappa_equals_scikit_learns():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2, 200)
    other = np.where(rng.random(200) < 0.3, 1 - one, one)
    kappa = coefficients.cohen_kappa(
        list(zip(one.tolist(), other.tolist(), strict=True))
    )
    assert kappa == pytest.approx(sklearn_metrics.cohen_kappa_score(one, other))
    assert coefficients.cohen_kappa([(0, 0), (0, 0)]) is None
    assert coefficients.cohen_kappa([(0, 1), (0, 0)]) == 0


def rated(name, *ratings, prompt="a b c d"):
    named = [{"rater": f"r{i}"} | rating for i, rating in enumerate(ratings)]
    return ImageRatings(name, prompt, None, named)


def compute(*images, **options):
    return agreement.compute_agreement(images, progress=False, **options)


def test_scores_by_hand():
    found = compute(
        rated("one", *({"scores": {"overall": v}} for v in (3, 3, 3))),
        rated("two", *({"scores": {"overall": v}} for v in (3, 4, 4))),
        rated("three", *({"scores": {"overall": v}} for v in (1, 3, 5))),
        rated("four", {"scores": {"overall": 5}}),
    )
    scores = found.scores["overall"]
    assert scores["perfect"] == pytest.approx(1 / 3)
    assert scores["within_one"] == pytest.approx(2 / 3)
    assert scores["pairs_perfect"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert scores["pairs_within_one"] == pytest.approx((1 + 1 + 0) / 3)
    assert (scores["n"], scores["n_answers"]) == (3, 9)
    assert found.answers == {"overall": {"1": 1, "2": 0, "3": 5, "4": 2, "5": 2}}
    assert set(found.scores) == {"overall"}
    assert not found.heatmaps and not found.words and not found.ious
    first = found.raters["r0"]
    # Own 3, 3, 1 against the means 3, 4, 4 of the others.
    assert first["bias"] == pytest.approx(-4 / 3)
    assert first["deviation"] == pytest.approx(4 / 3)
    assert first["plcc"] == pytest.approx(np.corrcoef([3, 3, 1], [3, 4, 4])[0, 1])
    assert first["n_ratings"] == 4
    same = [
        rated(str(i), *({"scores": {"overall": v}} for v in (3, i, i)))
        for i in (1, 3, 5)
    ]
    raters = compute(*same).raters
    assert "plcc" not in raters["r0"]  # who always says 3 follows no one
    assert raters["r1"]["plcc"] == pytest.approx(1)
    assert found.facts["fewest_ratings"] == 1


def test_heatmaps_by_hand():
    def clicks(*points):
        return {"implausible_points": list(points)}

    here, there = [0.25, 0.5], [0.75, 0.5]
    found = compute(
        rated("same", clicks(here), clicks(here)),
        rated("apart", clicks(here), clicks(there)),
        rated("half", clicks(here, there), clicks(here)),
        rated("none", clicks(), clicks()),
        rated("one", clicks(here), clicks()),
        rated("unasked", {"scores": {"overall": 3}}, clicks(here)),
    )
    maps = found.heatmaps["implausibility"]
    assert maps["iou"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert maps["same_presence"] == pytest.approx(4 / 5)
    assert (maps["n"], maps["n_pairs"]) == (5, 4)
    assert found.ious == {"implausibility": [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]}
    # A rater who marks nothing has no say against an empty map: 7 comparisons.
    disk = np.zeros((128, 128))
    disk[58:70, 26:38] = 1
    assert heatmap_metrics.auc_judd(disk, disk) == 1
    assert 0.5 < maps["auc_judd"] < 1
    wide = compute(rated("wide", clicks(here), clicks(here)), aspects={"wide": 3.0})
    assert wide.heatmaps["implausibility"]["auc_judd"] == 1


def test_words_by_hand():
    found = compute(
        rated("one", *({"misaligned_words": w} for w in ([0], [0], [0, 1]))),
        rated("two", *({"misaligned_words": w} for w in ([], [], [3]))),
        rated(
            "no words", {"misaligned_words": []}, {"misaligned_words": []}, prompt=""
        ),
    )
    row = found.words["misaligned_words"]
    labels = np.array(
        [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0, 1],
        ]
    )
    kappa = sklearn_metrics.cohen_kappa_score
    pairs = [kappa(labels[i], labels[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert row["kappa"] == pytest.approx(np.mean(pairs))
    assert (row["n"], row["n_words"], row["n_misaligned"]) == (2, 8, 1)
    assert 0 < row["alpha_nominal"] < 1
    assert found.raters["r2"]["kappa"] == pytest.approx(
        kappa(labels[2], labels[:2].min(axis=0))
    )


def test_one_rater_an_image_is_no_agreement():
    with pytest.raises(ValueError, match="needs an image with two raters, got none"):
        compute(rated("one", {"scores": {"overall": 3}}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The files of a run on simulated raters, one of them of a hostile name."""
    folder = tmp_path_factory.mktemp("agreement")
    records = Scenes("test", 64, num_examples=12)
    with (folder / "ratings.jsonl").open("w") as file:
        for index, record in enumerate(records):
            for rating in record["ratings"]:
                row = {"image": f"{index}.png", "prompt": record["prompt"]} | rating
                if row["rater"] == record["ratings"][0]["rater"] and index == 0:
                    row["rater"] = "<script>alert(1)</script>"
                file.write(json.dumps(row) + "\n")
    main.main([str(folder / "ratings.jsonl"), f"--output={folder}"])
    return folder


def test_the_binary_writes_json_and_a_page(run, capsys):
    main.main([str(run / "ratings.jsonl")])
    printed = capsys.readouterr().out
    for expected in (
        "alpha ^",
        "kappa ^",
        "IoU ^",
        "AUC-Judd ^",
        "36 ratings of 12 im",
    ):
        assert expected in printed
    found = json.loads((run / "agreement.json").read_text())
    assert set(found["scores"]) == {
        "plausibility",
        "alignment",
        "aesthetics",
        "overall",
    }
    assert set(found["heatmaps"]) == {"implausibility", "misalignment"}
    assert found["scores"]["overall"]["n"] == 12
    assert 0 < found["scores"]["overall"]["alpha"] < 1


def test_the_page_is_whole_and_safe(run):
    page = (run / "agreement.html").read_text("utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
    for expected in ("Two raters of the same image", "Reliability weights", "IoU: mis"):
        assert expected in page
    for tag in ("figure", "svg", "table", "section", "g", "text"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(
            f"</{tag}>"
        )
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_output_is_tried_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="^error: --output=.*/file cannot be written"):
        main.main(["/none.jsonl", f"--output={tmp_path}/file"])


def test_mistakes_end_with_one_clear_line(tmp_path):
    with pytest.raises(SystemExit, match="error: .*no such file"):
        main.main([str(tmp_path / "none.jsonl")])
    path = tmp_path / "r.csv"
    path.write_text("rater,image,overall\n1,a,9\n")
    with pytest.raises(SystemExit, match="line 2, field 'overall': expected 1 to 5"):
        main.main([str(path)])
