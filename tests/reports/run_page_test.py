"""The HTML page: self-contained, escaped, and it says what it was given."""

import html.parser
import json
import re

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.reports.run_page import RunReport, write_report

HEATMAPS = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.HEATMAP)]
SCORES = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.SCORE)]
VOID = {"meta", "link", "img", "path", "circle", "br", "input"}


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
    report = RunReport(title="A <run>", **kwargs)
    text = write_report(path / "page.html", report).read_text("utf-8")
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
    assert not re.findall(r"https?://|<script [^>]*src|@import|url\(|fetch\(", text)
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
    bars = re.findall(r"<li><span>([^<]+)<small>", text)
    assert rows == bars == SCORES


def test_words_beyond_the_text_length_and_words_not_asked(tmp_path):
    text, _ = write(tmp_path, examples=[example(words=[0.9], truth=False)])
    assert text.count('<span class="unread">') == 2
    assert text.count("beyond the text length") == 1  # said once, in sight
    text, _ = write(tmp_path, examples=[example(words=[], truth=False)])
    assert text.count('<span class="unread">') == 3
    assert text.count("Words were not predicted") == 1
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
    lead = "Dev split, 30 images, rahf convention, checkpoint at step 1,500"
    assert lead in page.text
    assert "0.500" in page.text
    assert "0.250" in page.text
    assert page.text.count("oracle") == 1
    assert "0.875" in page.text


def test_an_empty_report_has_no_empty_section(tmp_path):
    _, page = write(tmp_path)
    assert not page.find("section")
    assert "A <run>" in page.text


def test_the_page_begins_with_three_examples_and_ends_with_training(tmp_path):
    text, page = write(
        tmp_path,
        facts={"Hardware": "2 cores"},
        details={"Seed": "7"},
        notes=["Mind <this>."],
        examples=[example()] * 5,
        results=Results({SCORES[0]: {"plcc": 0.5, "n": 3}}),
        curves={"train/loss": [(1, 2.0)], f"eval/{SCORES[0]}/plcc": [(1, 0.5)]},
        split="dev",
    )
    headings = re.findall(r"<h2>([^<]+)", text)
    assert headings == ["Examples", "Results", "Curves", "Training", "The run"]
    first, others = text.split("2 more examples")
    assert (first.count("<article"), others.count("<article")) == (3, 2)
    assert text.index("2 cores") < text.index("<main>") < text.index("<dt>Seed")
    assert text.count("<details>") == 3
    assert "Mind <this>." in page.text


def test_what_columns_mean_stands_below_them(tmp_path):
    words = {"average_precision": 0.4, "f1_micro": 0.5, "n": 30, "n_words": 90}
    text, page = write(tmp_path, results=Results({"misaligned_words": words}))
    assert "ranked by probability" in page.text
    assert "P micro and R micro" in page.text
    assert "<details" not in text
    assert not page.find("th", title="")


def test_own_images_can_be_sorted_and_are_large(tmp_path):
    mine = example(truth=False, size=(300, 400), intervals={SCORES[0]: (0.4, 0.8)})
    _, page = write(tmp_path, own=True, examples=[mine] * 4)
    assert len(page.find("article")) == 4
    assert not page.find("details")
    values = json.loads(page.find("article")[0]["data-values"])
    assert values[SCORES[0]] == 0.625
    assert values["misaligned words"] == 1
    assert 0.9 < values[f"peak of {HEATMAPS[0]}"] <= 1
    assert page.find("form", hidden=None)
    assert "0.40 to 0.80" in page.text


def test_sorting_filtering_and_enlarging(tmp_path, browser):
    prompts = {"a red cat": 0.3, "a blue dog": 0.9, "a red dog": 0.6}
    shown = [
        example(prompt=prompt, scores={"overall": value}, truth=False, name=prompt)
        for prompt, value in prompts.items()
    ]
    path = write_report(
        tmp_path / "p.html", RunReport(title="t", own=True, examples=shown)
    )
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{path}")

    def names():
        return page.locator(".card:not([hidden]) .name").all_inner_texts()

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("[name=by]").select_option(label="overall, lowest first")
    assert names() == ["a red cat", "a red dog", "a blue dog"]
    page.locator("[name=text]").fill("dog RED")
    assert names() == ["a red dog"]
    page.locator("[name=text]").fill("")
    page.locator("[name=of]").select_option(label="overall from .50")
    assert names() == ["a red dog", "a blue dog"]
    assert page.locator(".found").inner_text() == "2 of 3 images"
    page.locator(".card:not([hidden]) .maps img").first.tap()
    large = page.locator("dialog[open] img")
    assert "highest value" in large.get_attribute("alt")
    page.get_by_role("button", name="next picture").tap()
    page.get_by_role("button", name="next picture").tap()
    assert large.get_attribute("alt").startswith("image for the prompt")
    large.tap()
    assert not page.locator("dialog[open]").count()
    assert not wrong
    context.close()
