"""What a run of rahf.bin.improve found: results.json, and a page to look at.

The page has the side-by-side tables, curves over steps, held-out images before and after
with the judge's heatmaps, and which images were chosen and refused.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from rahf import durable, images
from rahf.applications.predictions import read_predictions
from rahf.evaluation.image_statistics import MovedStatistic, Tokenize
from rahf.evaluation.predicted_images import PredictedImage, PredictedImages
from rahf.evaluation.side_by_side import VERDICTS, Estimate
from rahf.images import overlays
from rahf.improvement import measuring
from rahf.improvement.cycle import ARMS, ImproveRequest, Point
from rahf.improvement.measuring import Improvement, JudgedPoint
from rahf.inference import image_places
from rahf.reports import cards, charts, run_page

FILES = ("results.json", "report.html")
#: The scores of tables and curves; others are in results.json.
SCORES = ("plausibility", "alignment", "aesthetics", "overall")
#: Held-out prompts, and chosen and refused images, that the page shows.
_SHOWN = 12
#: Scores whose tables are not folded away: what is chosen by, and alignment.
_OPEN = 2
_COLORS = {"chosen": 0, "random": 7, "weighted": 2, "rounds": 1}
_STATISTICS = {
    measuring.AREA: "share of the pixels that the judge marks as implausible",
    "diversity": "how far two images of a prompt lie apart, pixel by pixel",
    "dark_share": "share of dark pixels",
    "edge_density": "share of pixels at an edge",
    "colour_entropy": "bits, of an image's colours",
    "token_entropy": "bits, of an image's tokens",
}


def write(
    request: ImproveRequest, points: Sequence[Point], tokenize: Tokenize | None = None
) -> str:
    """Measures all points, and writes both files.

    Args:
      request: what was made.
      points: from `rahf.improvement.cycle.improve`.
      tokenize: the generator's tokenizer, for a statistic.

    Returns:
      The tables as text, and where the files are.

    Raises:
      ValueError: predictions cannot be read or paired.
    """
    found = measuring.measure(request, points, tokenize)
    by = list(request.rule.by.weights)
    scores = [*dict.fromkeys([*by, "alignment", *SCORES])]
    results = json.dumps(found.as_json(), indent=1) + "\n"
    durable.write_text(request.path(FILES[0]), results)
    sections = [
        run_page.section("Side by side", _tables(found, scores), "tables"),
        run_page.section("After each round", _curves(found, scores), "charts"),
        run_page.section("Before and after", _pairs(request, points), "examples"),
        run_page.section("Mended", _mended(request, points), "examples"),
        run_page.section("Chosen and refused", _choices(request), "choices"),
    ]
    run_page.write_page(
        request.path(FILES[1]),
        title="A generator that learns from feedback",
        facts=_facts(request, found),
        sections=sections,
        style=(resources.files("rahf.reports") / "improvement.css").read_text("utf-8"),
    )
    said = measuring.describe(found, [*dict.fromkeys([*by, "alignment"])])
    return f"{said}\n\nwritten: {' '.join(str(request.path(name)) for name in FILES)}"


def _facts(request: ImproveRequest, found: Improvement) -> dict[str, Any]:
    judged = len(request.held_out) * request.judged_samples
    drawn = len(request.prompts) * request.samples
    return {
        "Generator": request.generator,
        "Chosen by": f"{request.rule.by}, predicted by {request.rewards}",
        "Judge": found.judge,
        "Learned from": f"{len(request.prompts):,} prompts, {drawn:,} images a round",
        "Judged on": f"{len(request.held_out):,} other prompts, {judged:,} images",
        "Training": f"{request.rounds} x {request.config.training_steps:,} steps",
    }


def _tables(found: Improvement, scores: Sequence[str]) -> str:
    """Draws a table for each score: the verdicts as a bar, and numbers."""
    key = "".join(
        f'<li><i class="v{i}"></i>{escape(verdict.replace("_", " "))}</li>'
        for i, verdict in enumerate(VERDICTS)
    )
    parts, folded = [f'<ul class="verdicts key">{key}</ul>'], []
    for number, name in enumerate(scores):
        rows = "".join(
            _table_row(each, name)
            for each in (*found.found, *found.direct)
            if name in each.side.scores
        )
        if rows:
            heads = ("better − worse", "pairs", "mean before", "after", "implausible")
            head = "".join(f'<th scope="col">{text}</th>' for text in heads)
            (parts if number < _OPEN else folded).append(
                f"<h3>{escape(name)}</h3>"
                f'<div class="scroll" tabindex="0" role="region" '
                f'aria-label="{escape(name)}"><table><thead><tr><td></td>{head}</tr>'
                f"</thead><tbody>{rows}</tbody></table></div>"
            )
    arms = "; ".join(f"<b>{arm}</b>: {escape(text)}" for arm, text in ARMS.items())
    note = (
        '<p class="lead">Against the generator as it was, on the same held-out prompts '
        "and seeds, unless another arm is named. Intervals are of 95 %, over prompts; "
        f"an asterisk marks those without 0. {arms}.</p>"
    )
    return note + "".join(parts) + _folded("other scores", "".join(folded))


def _folded(what: str, body: str) -> str:
    return f"<details><summary>{what}</summary>{body}</details>" if body else ""


def _table_row(judged: JudgedPoint, name: str) -> str:
    side = judged.side.scores[name]
    shares = [100 * side.shares[verdict].value for verdict in VERDICTS]
    spoken = ", ".join(
        f"{share:.1f} % {verdict.replace('_', ' ')}"
        for share, verdict in zip(shares, VERDICTS, strict=True)
    )
    bar = "".join(
        f'<i class="v{i}" style="width:{share:.2f}%"></i>'
        for i, share in enumerate(shares)
    )
    mean, area = judged.means[name], judged.means.get(measuring.AREA)
    moved = _percent(area.before) + " → " + _percent(area.after) if area else "–"
    return (
        f'<tr class="run"><th scope="row">{escape(measuring.name_of(judged))}</th>'
        f"<td>{_net(side.better_minus_worse)}</td>"
        f'<td><span class="bar" role="img" aria-label="{spoken}" title="{spoken}">'
        f"{bar}</span></td>"
        f"<td>{mean.before.value:.3f}</td><td>{mean.after.value:.3f}</td>"
        f"<td>{moved}</td></tr>"
    )


def _net(share: Estimate) -> str:
    star = "*" if share.clear else ""
    return (
        f"<b>{100 * share.value:+.1f}{star}</b> "
        f"<small>{100 * share.low:+.1f} to {100 * share.high:+.1f}</small>"
    )


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} %"


def _curves(found: Improvement, scores: Sequence[str]) -> str:
    """Draws what moved over the steps: a panel for each number, a line for each arm."""
    panels = []
    trained = [each for each in found.found if each.point.steps]
    for name in scores:
        lines: dict[str, list[tuple[float, float]]] = {}
        for each in (p for p in trained if name in p.side.scores):
            net = 100 * each.side.scores[name].better_minus_worse.value
            lines.setdefault(each.point.arm, [(0.0, 0.0)])
            lines[each.point.arm].append((each.point.steps, net))
        note = "share of the pairs better, less that of those worse"
        panel = f"{name}: better − worse", note, "% of pairs", _with_start(lines)
        panels.append(panel)
    for name in scores:
        lines = _levels(trained, [each.means for each in trained], name)
        panels.append((f"{name}: mean", "by the judge, in [0, 1]", "score", lines))
    for name, note in _STATISTICS.items():
        measured = [{**each.side.statistics, **each.means} for each in trained]
        title = name.replace("_", " ")
        panels.append((title, note, title, _levels(trained, measured, name)))
    drawn = [
        charts.line_chart(lines, title=title, note=note, label=label, colors=_COLORS)
        for title, note, label, lines in panels
        if lines
    ]
    return f'<div class="panels">{"".join(drawn)}</div>' if drawn else ""


def _levels(
    trained: Sequence[JudgedPoint],
    measured: Sequence[Mapping[str, MovedStatistic]],
    name: str,
) -> dict[str, list[tuple[float, float]]]:
    """Returns `{arm: [(steps, value), ...]}`, from the base on."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for each, values in zip(trained, measured, strict=True):
        if name in values:
            start = (0.0, values[name].before.value)
            line = lines.setdefault(each.point.arm, [start])
            line.append((each.point.steps, values[name].after.value))
    return _with_start(lines)


def _with_start(lines):
    """Prepends to "rounds" the first round, which is that of "chosen"."""
    if "rounds" in lines and "chosen" in lines:
        lines["rounds"].insert(1, lines["chosen"][1])
    return lines


def _last(points: Sequence[Point]) -> dict[str, Point]:
    """Returns the last point of each arm, and the base."""
    return {each.arm: each for each in points if each.arm != "mended"}


def _pairs(request: ImproveRequest, points: Sequence[Point]) -> str:
    """Shows the first image of some held-out prompts, by each arm's last generator."""
    found = {
        arm: PredictedImages(request.path(point.folder, "judged"))
        for arm, point in _last(points).items()
    }
    every = {arm: {each.id: each for each in some} for arm, some in found.items()}
    ids = list(dict.fromkeys(_first_of_prompts(found["base"])))[:_SHOWN]
    articles = [
        _card({arm: known[id_] for arm, known in every.items() if id_ in known})
        for id_ in ids
    ]
    lead = (
        '<p class="lead">The same prompt and seed, drawn by the generator as it was and '
        "after the last round of each arm; below, where the judge finds it implausible. "
        "The first prompts, not chosen ones.</p>"
    )
    return lead + "".join(articles) if articles else ""


def _first_of_prompts(found: PredictedImages) -> list[str]:
    first: dict[str, str] = {}
    for each in found:
        first.setdefault(each.prompt or "", each.id)
    return list(first.values())


def _mended(request: ImproveRequest, points: Sequence[Point]) -> str:
    """Shows mended images that changed, beside what they were."""
    if not any(each.arm == "mended" for each in points):
        return ""
    text = request.path("mended", "images", "metadata.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    changed = [row["id"] for row in rows if len(row["scores"]) > 1][:_SHOWN]
    sides = {
        name: {each.id: each for each in PredictedImages(request.path(*place))}
        for name, place in {
            "base": ("base", "judged"),
            "mended": ("mended", "judged"),
        }.items()
    }
    articles = [
        _card({name: known[i] for name, known in sides.items()}) for i in changed
    ]
    why = {
        name: sum(row["why"] == name for row in rows)
        for name in dict.fromkeys(row["why"] for row in rows)
    }
    told = ", ".join(f"{count:,} {name}" for name, count in why.items())
    lead = f'<p class="lead">{len(rows):,} images; how each ended: {escape(told)}.</p>'
    return lead + "".join(articles)


def _card(sides: Mapping[str, PredictedImage]) -> str:
    """Draws images of one prompt and seed, with the judge's heatmaps under them."""
    first = next(iter(sides.values()))
    figures = "".join(_figure(name, each) for name, each in sides.items())
    return (
        f'<article class="card sides"><header><p class="prompt">'
        f'{escape(first.prompt or "")}</p><p class="name">{escape(first.id)}</p>'
        f'</header><div class="row" style="--n:{len(sides)}">{figures}</div></article>'
    )


def _figure(name: str, judged: PredictedImage) -> str:
    pixels = overlays.fit(images.read_image(image_places.read(judged.image)))
    score = judged.scores.get("plausibility")
    told = name if score is None else f"{name}, plausibility {score:.2f}"
    figure = f"{cards.picture(pixels, f'{name}: {judged.prompt}')}"
    if "implausibility" in judged.heatmaps:
        heatmap = judged.heatmap("implausibility", pixels.shape[:2])
        figure += cards.overlay_figure(pixels, "implausibility", "judge", heatmap)
    return f'<div class="side"><h4>{escape(told)}</h4>{figure}</div>'


def _choices(request: ImproveRequest) -> str:
    """Shows chosen images of the first round, and the best of refused prompts."""
    manifest = request.path("chosen", "selected", "manifest.jsonl")
    if not manifest.is_file():
        return ""
    found = read_predictions([manifest])
    rows = list(found.rows(range(len(found))))
    chosen = [row for row in rows if row["chosen"]][:_SHOWN]
    kept = {row["prompt"] for row in rows if row["chosen"]}
    best = [row for row in rows if row["rank"] == 1 and row["prompt"] not in kept]
    rest = [row for row in rows if not row["chosen"] and row["prompt"] in kept]
    parts = [
        ("Chosen", chosen),
        ("The best of prompts that keep none", best[:_SHOWN]),
        ("Refused beside a chosen one", rest[:_SHOWN]),
    ]
    curve = manifest.with_name("yield.svg")
    drawn = ""
    if curve.is_file():  # as a picture: it has a style of its own
        data = base64.b64encode(curve.read_bytes()).decode("ascii")
        alt = "the share of the prompts that keep an image, by threshold"
        drawn = (
            f'<img class="yield" alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        )
    return drawn + "".join(
        f'<h3>{title}</h3><ul class="thumbs">{"".join(map(_thumb, some))}</ul>'
        for title, some in parts
        if some
    )


def _thumb(row: Mapping[str, Any]) -> str:
    pixels = images.read_image(image_places.read(row["image"]))
    picture = cards.picture(overlays.fit(pixels), f"image for: {row['prompt']}")
    return (
        f"<li>{picture}<p>{escape(row['prompt'])}</p>"
        f"<small>{escape(row['reason'])}</small></li>"
    )
