"""The HTML page: self-contained, escaped, and it says what it was given."""

import html.parser
import re

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.reports import charts
from rahf.reports.run_page import read_curves, read_log, write_report

HEATMAPS = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.HEATMAP)]
SCORES = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.SCORE)]
VOID = {"meta", "link", "img", "path", "circle", "br"}


class Page(html.parser.HTMLParser):
    """Checks nesting; collects tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def find(self, tag, **attrs):
        return [
            found
            for name, found in self.tags
            if name == tag and attrs.items() <= found.items()
        ]


def write(path, **kwargs):
    text = write_report(path / "page.html", title="A <run>", **kwargs).read_text(
        "utf-8"
    )
    return text, Page(text)


def example(prompt="a red, cat", truth=True, size=(20, 30), **kwargs):
    rng = np.random.default_rng(0)
    known = {
        "true_scores": dict.fromkeys(SCORES, 0.25),
        "true_heatmaps": {name: np.zeros((8, 8)) for name in HEATMAPS},
        "true_words": [0, 1, 0],
    }
    predicted = {
        "prompt": prompt,
        "name": "n0",
        "scores": dict.fromkeys(SCORES, 0.625),
        "heatmaps": {name: rng.random((8, 8)).astype(np.float32) for name in HEATMAPS},
        "words": np.array([0.9, 0.3, 0.01]),
    }
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    return JudgedExample(image=image, **(predicted | (known if truth else {}) | kwargs))


def test_nothing_is_fetched_and_the_page_is_well_formed(tmp_path):
    text, page = write(
        tmp_path,
        facts={"Task": "x"},
        curves={"train/loss": [(1, 2.0), (2, 1.0)]},
        results=Results({SCORES[0]: {"plcc": 0.5, "n": 3}}),
        examples=[example(), example(truth=False)],
    )
    assert not re.findall(r"https?://|<script|@import|url\(", text)
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith("data:")
    assert all(image["alt"] for image in page.find("img"))
    assert page.find("meta", name="viewport")


def test_all_text_is_escaped(tmp_path):
    nasty = '<img src=x onerror="alert(1)">&amp;'
    text, page = write(
        tmp_path,
        facts={nasty: nasty},
        curves={f"eval/{nasty}/plcc": [(1, 0.5)]},
        results=Results({nasty: {"plcc": 0.5, "n": 3}}),
        ceiling={f"{nasty} {nasty}": {"plcc": 0.9}},
        examples=[
            example(prompt=nasty, name=nasty, scores={nasty: 0.5}, heatmaps={}),
            example(heatmaps={nasty: np.ones((2, 2))}, true_heatmaps=None),
        ],
    )
    assert 'src=x onerror="' not in text
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert page.text.count(nasty) >= 5


def test_words_show_prediction_and_truth(tmp_path):
    text, page = write(tmp_path, examples=[example()])
    card = text[text.index("<article") :]
    assert '<mark class="word" style="--p:0.90"' in card  # predicted misaligned
    assert "<u>red</u>" in card  # so say the raters
    assert "30% likely misaligned; raters: misaligned" in card
    assert '<span title="1% likely misaligned">cat</span>' in card
    assert "a.90 red.30, cat" in page.text


def test_words_are_marked_above_the_cut(tmp_path):
    text, _ = write(tmp_path, examples=[example(cut=0.0, truth=False)])
    assert text[text.index("<article") :].count("<mark") == 3
    text, _ = write(tmp_path, examples=[example(cut=0.95, truth=False)])
    assert "<mark" not in text[text.index("<article") :]


def test_what_was_not_measured_is_said(tmp_path):
    facts = {"not_measured": {SCORES[1]: "no example has its label"}, "bad_records": 2}
    results = Results({SCORES[0]: {"plcc": 0.5, "mse": 0.1, "n": 3}}, facts=facts)
    _, page = write(tmp_path, results=results)
    assert f"{SCORES[1]}: not measured, no example has its label." in page.text
    assert f"{SCORES[0]}: no example defines SRCC." in page.text
    assert "2 bad records were skipped" in page.text


def test_targets_come_in_the_order_of_the_table(tmp_path):
    names = [*reversed(SCORES)]
    shown = example(scores=dict.fromkeys(names, 0.5))
    metrics = {name: {"plcc": 0.5, "n": 3} for name in names}
    text, _ = write(tmp_path, results=Results(metrics), examples=[shown])
    rows = re.findall(r'<tr class="run"><th scope="row">([^<]+)', text)
    bars = re.findall(r'<li title="[^"]*"><span>([^<]+)', text)
    assert rows == bars == SCORES


def test_garbled_lines_of_the_log_are_counted(tmp_path):
    lines = [
        b'{"step": 1, "train/loss": 3.0}',
        b'{"step": 2, "train/lo',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b'{"train/loss": 1.0}',
        b'{"step": NaN, "train/loss": 1.0}',
        b'{"step": 3, "train/loss": "low"}',
        b'{"step": 4, "train/loss": 2.0}',
        b'{"ste',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_log(tmp_path) == ({"train/loss": [(1, 3.0), (4, 2.0)]}, 7)
    assert read_log(tmp_path / "none") == ({}, 0)


def test_words_beyond_the_text_length_and_words_not_asked(tmp_path):
    text, _ = write(tmp_path, examples=[example(words=[0.9], truth=False)])
    assert text.count("beyond the text length") == 2
    text, _ = write(tmp_path, examples=[example(words=[], truth=False)])
    assert text.count("words were not predicted") == 3
    _, page = write(tmp_path, examples=[example(prompt="", words=[], truth=False)])
    assert "no prompt" in page.text


def test_pictures_and_scores_with_and_without_truth(tmp_path):
    _, page = write(tmp_path, examples=[example()])
    assert len(page.find("img")) == 1 + 2 * len(HEATMAPS)
    labels = [span["aria-label"] for span in page.find("span", role="img")]
    assert labels == ["predicted 0.62, truth 0.25"] * len(SCORES)
    assert "truth, empty" in page.text
    _, page = write(tmp_path, examples=[example(truth=False)])
    assert len(page.find("img")) == 1 + len(HEATMAPS)
    assert "raters" not in page.text


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (1200, 900)])
def test_images_of_any_size_keep_their_shape(tmp_path, size):
    _, page = write(tmp_path, examples=[example(size=size)])
    width, height = (int(page.find("img")[0][side]) for side in ("width", "height"))
    assert max(width, height) <= 512
    assert width / height == pytest.approx(size[1] / size[0], rel=0.35)


def test_tables_hold_the_results_and_what_is_possible(tmp_path):
    _, page = write(
        tmp_path,
        results=Results(
            {SCORES[0]: {"plcc": 0.5, "n": 30}, SCORES[1]: {"plcc": 0.25, "n": 30}},
            facts={"split": "dev", "step": 1500},
        ),
        ceiling={f"oracle {SCORES[0]}": {"plcc": 0.875}},
    )
    assert "Dev split, rahf convention, checkpoint at step 1,500" in page.text
    assert "0.500" in page.text
    assert "0.250" in page.text
    assert page.text.count("oracle") == 1
    assert "0.875" in page.text


def test_an_empty_report_has_no_empty_section(tmp_path):
    _, page = write(tmp_path)
    assert not page.find("section")
    assert "A <run>" in page.text


def test_curves_keep_the_last_of_a_step_and_drop_what_is_not_finite():
    rows = [
        {"step": 2, "train/loss": 1.0},
        {"step": 1, "train/loss": 3.0, "eval/a/plcc": float("nan")},
        {"step": 2, "train/loss": 0.5},
    ]
    assert read_curves(rows) == {"train/loss": [(1, 3.0), (2, 0.5)]}


def test_one_panel_for_the_loss_its_parts_and_each_headline(tmp_path):
    curves = {
        "train/loss": [(1, 2.0)],
        f"train/loss/{SCORES[0]}": [(1, 2.0), (2, 0.001)],
        f"eval/{SCORES[0]}/plcc": [(2, 0.5)],
        f"eval/{HEATMAPS[0]}/cc": [(2, 0.25)],
        f"eval/{HEATMAPS[0]}/n": [(2, 10)],
        "train/gradient_norm": [(1, 1.0)],
    }
    _, page = write(tmp_path, curves=curves)
    assert len(page.find("svg")) == 4
    assert any("at the end: total 2" in svg["aria-label"] for svg in page.find("svg"))


@pytest.mark.parametrize(
    "values", [[0.0], [5.0, 5.0], [-1.0, 1.0], [1e-9, 1.0], [0.3, 0.31], [1e6, 2e6]]
)
@pytest.mark.parametrize("log", [False, True])
def test_charts_stay_within_their_frame(values, log):
    points = list(enumerate(values))
    svg = charts.line_chart({"a": points}, title="t", colors={"a": 0}, log=log)
    path = re.search(r'<title>a</title><path d="M([^"]+)"', svg)
    for pair in path[1].split("L"):
        x, y = map(float, pair.split())
        assert 0 <= x <= 360
        assert 0 <= y <= 210
    assert svg.count('class="grid"') >= 2


def test_long_curves_are_thinned_without_losing_their_end():
    points = [(i, float(i % 2)) for i in range(10_000)]
    svg = charts.line_chart({"a": points}, title="t", colors={"a": 0})
    assert svg.count("L") < 200
    assert "<b>1</b>" in svg


def test_ticks_are_round():
    assert charts.nice_ticks([0.21, 0.79]) == [0.2, 0.4, 0.6, 0.8]
    assert charts.nice_ticks([0, 6000]) == [0, 2000, 4000, 6000]
    assert charts.nice_ticks([-1, 1]) == [-1, -0.5, 0, 0.5, 1]
    assert charts.log_ticks(0.0003, 4) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert charts.log_ticks(0.4, 5) == pytest.approx([0.5, 1, 2, 5])
