"""The model card (README.md) of an exported model: targets, data, metrics, licence.

Its head is YAML for the Hugging Face hub, so that the folder can be uploaded there.
"""

import itertools

from rahf import storage, targets
from rahf.checkpoints import provenance
from rahf.evaluation import results as eval_results
from rahf.evaluation import text_tables
from rahf.evaluation.metrics.accumulator import CONVENTIONS
from rahf.inference import score_guide
from rahf.targets import Kind

_RANGES = {
    Kind.HEATMAP: "[0, 1] at each pixel, higher is worse",
    Kind.SCORE: "[0, 1], higher is better",
    Kind.WORDS: "probability in [0, 1] of each word",
}
_WHAT = (
    "Predicts what people would say about a generated image and its prompt "
    "(Rich Human Feedback for Text-to-Image Generation, CVPR 2024)."
)
_NOT_MEASURED = (
    "Not measured. `rahf.bin.eval_scores`, `eval_heatmaps` and `eval_keywords` "
    "measure a checkpoint; an export copies the results from its workdir."
)
_UNKNOWN = (
    "Unknown: none was given at export (`--licence`). Ask the author of the model "
    "before you use it."
)


def write(predictor, source, *, params, licence: str, usage: str) -> str:
    """Returns the model card.

    Args:
      predictor: the model.
      source: the workdir of the model, whose evaluation results are copied.
      params: the model's parameters, which are counted.
      licence: an identifier of the hub ("apache-2.0"), or "unknown".
      usage: how to use the files, as Markdown.
    """
    config = predictor.config
    facts = eval_results.describe(
        storage.place(source).name, config, params, predictor.step
    )
    facts["Checkpoint"] = f"step {predictor.step}"
    return "\n".join(
        [
            "---",
            f"license: {licence}",
            "library_name: rahf",
            "tags: [rich-human-feedback, text-to-image, reward-model]",
            "---",
            "",
            f"# RAHF, trained on {config.task.name}",
            "",
            _WHAT,
            "",
            "## Targets",
            "",
            *_table(
                ("target", "kind", "says", "range", "threshold"),
                [
                    (
                        row.name,
                        row.kind.value,
                        row.description,
                        _RANGES[row.kind],
                        "-" if row.threshold is None else f"{row.threshold:g}",
                    )
                    for row in targets.select(predictor.targets)
                ],
            ),
            "",
            score_guide.COMPARE,
            "",
            "## Model",
            "",
            *_table(("", ""), list(facts.items())),
            "",
            "## Data",
            "",
            *_table(("", ""), _data(config, predictor.step)),
            "",
            *_warn(config),
            "## Metrics",
            "",
            *_metrics(source, predictor.step),
            "",
            "## Use",
            "",
            usage,
            "",
            "## Licence",
            "",
            _UNKNOWN if licence == "unknown" else f"{licence}, for the weights.",
            "",
        ]
    )


def _warn(config) -> list[str]:
    text = provenance.warning(config)
    return [f"**Note:** {text}.", ""] if text else []


def _data(config, step: int) -> list[tuple[str, str]]:
    """Returns what is known about the data: the task and its options."""
    i = config.input
    rows = [
        ("Task or mixture", f"`{config.task.name}`"),
        ("Registered by", ", ".join(f"`{m}`" for m in config.task.modules) or "-"),
        ("Learned from", provenance.describe(config)),
        ("Examples seen", f"{step * i.batch_size:,}"),
        ("Prompts", f"{i.text_length} pieces, {i.target_length} in the decoder"),
    ]
    for name, options in i.items():
        if hasattr(options, "to_dict"):
            rows.append((f"`input.{name}`", f"`{options.to_dict()}`"))
    return rows


def _metrics(source, step: int) -> list[str]:
    lines = []
    folders = sorted(storage.place(source).glob("eval/*"))
    for folder, convention in itertools.product(folders, CONVENTIONS):
        results = eval_results.read_results(
            folder, step=step, convention=convention, examples=0
        )
        if results.metrics:
            lines += [f"On the {folder.name} split, {convention} convention:", ""]
            lines += ["```", text_tables.render(results.metrics), "```", ""]
    return lines[:-1] or [_NOT_MEASURED]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(x.replace('|', '/') for x in row)} |" for row in cells]
