"""The agreement report as one HTML page, in the style of `rahf.reports.run_page`."""

import pathlib
from collections.abc import Sequence

from rahf.annotation.agreement import RaterAgreement
from rahf.reports import agreement_charts, run_page


def write_page(
    path: str | pathlib.Path, agreement: RaterAgreement, *, title: str, source: str
) -> pathlib.Path:
    """Writes the page, which makes no requests and needs no scripts.

    Args:
      path: the HTML file; its folders are created.
      agreement: the agreement to show.
      title: the title of the page.
      source: the raters' file, which the page names.

    Returns:
      The path.
    """
    sections = [
        run_page.section("Scores", _scores(agreement), "tables"),
        run_page.section("Heatmaps", _heatmaps(agreement), "tables"),
        run_page.section("Words", _words(agreement), "tables"),
        run_page.section("Raters", _raters(agreement), "tables"),
    ]
    return run_page.write_page(
        path, title=title, facts=_facts(agreement, source), sections=sections
    )


def _facts(agreement: RaterAgreement, source: str) -> dict[str, str]:
    facts = agreement.facts
    fewest, most = facts["fewest_ratings"], facts["most_ratings"]
    each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return {
        "File": pathlib.Path(source).name,
        "Images": f"{facts['images']:,}",
        "Ratings": f"{facts['ratings']:,}",
        "Raters": f"{facts['raters']:,}, {each} per image",
    }


def _scores(agreement: RaterAgreement) -> str:
    if not agreement.scores:
        return ""
    parts = {
        name: (
            found["pairs_perfect"],
            found["pairs_within_one"] - found["pairs_perfect"],
            1 - found["pairs_within_one"],
        )
        for name, found in agreement.scores.items()
        if "pairs_perfect" in found
    }
    panels = []
    if parts:
        panels.append(
            agreement_charts.stacked_bars(
                parts,
                labels={"equal": 0, "1 apart": 4, "more": 1},
                title="Two raters of the same image",
                note="how far apart their answers are, averaged over images",
            )
        )
    panels += [
        agreement_charts.columns(
            counts,
            title=f"Answers: {name}",
            note="how often each answer was given; 5 is best",
            color=index,
        )
        for index, (name, counts) in enumerate(agreement.answers.items())
    ]
    return _panels(panels) + run_page.metric_tables(agreement.scores)


def _heatmaps(agreement: RaterAgreement) -> str:
    if not agreement.heatmaps:
        return ""
    panels = [
        agreement_charts.columns(
            {f".{index}": count for index, count in enumerate(bins)},
            title=f"IoU: {name.replace('_', ' ')}",
            note="pairs of raters, by the overlap of their disks, 0 to 1",
            color=index,
        )
        for index, (name, bins) in enumerate(agreement.ious.items())
    ]
    lead = (
        '<p class="lead">AUC-Judd and CC compare each rater\'s map with the mean of '
        "the others, as a model's is compared with all: the human ceiling.</p>"
    )
    return _panels(panels) + lead + run_page.metric_tables(agreement.heatmaps)


def _words(agreement: RaterAgreement) -> str:
    return run_page.metric_tables(agreement.words) if agreement.words else ""


def _raters(agreement: RaterAgreement) -> str:
    followed = {
        rater: (found["bias"], found["plcc"], found["n_ratings"])
        for rater, found in agreement.raters.items()
        if "plcc" in found
    }
    panels: list[str] = []
    if followed:
        panels.append(
            agreement_charts.dots(
                followed,
                title="Each rater against the others",
                note="right: more lenient; up: closer to the others' order (PLCC)",
                x_label="bias",
            )
        )
    weighed = {
        rater: found["weight"]
        for rater, found in agreement.raters.items()
        if "weight" in found
    }
    if weighed:
        panels.append(
            agreement_charts.bars(
                dict(sorted(weighed.items(), key=lambda pair: -pair[1])),
                title="Reliability weights",
                note="1 is an average rater",
            )
        )
    table = run_page.metric_tables(agreement.raters, rows="rater")
    return _panels(panels) + table


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>' if panels else ""
