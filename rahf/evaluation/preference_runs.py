"""Compares scores with human choices as rahf.bin.eval_preferences does."""

import dataclasses
import json
from typing import Any

from rahf import storage
from rahf.checkpoints.restore import split_step
from rahf.datasets.preference_pairs import Preferences
from rahf.evaluation import preference_scores, text_tables
from rahf.inference.predictor import load
from rahf.targets import ordered


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceRequest:
    """What to compare; the fields match the flags of rahf.bin.eval_preferences."""

    pairs: str
    checkpoint: str | None = None
    scores: str | None = None
    step: str | None = None
    split: str = ""
    tune_split: str | None = None
    tie_threshold: float = 0.0
    candidates: str = "all"
    examples: int = 0
    batch_size: int = 16
    resamples: int = 2000
    on_error: str = "fail"
    output: str | None = None


def compare_preferences(request: PreferenceRequest) -> str:
    """Compares scores with human choices, writes the files and returns the table.

    Raises:
      ValueError: an input is malformed, or the output cannot be written.
    """
    workdir, step = request.checkpoint, request.step
    if workdir:
        workdir, step = split_step(workdir, step)
    folder = request.output or (workdir and f"{workdir}/eval/preferences")
    if folder:
        storage.check_folder(folder, _PREFERENCES)
    if request.scores:
        scorer = preference_scores.by_file(request.scores, on_error=request.on_error)
        facts: dict[str, Any] = {"scores": request.scores}
    else:
        if workdir is None:
            raise ValueError("expected a checkpoint or a score file")
        predictor = load(workdir, step)
        scorer = preference_scores.by_model(
            predictor, batch_size=request.batch_size, on_error=request.on_error
        )
        facts = {"checkpoint": workdir, "step": predictor.step}

    def read(split: str, examples: int) -> Preferences:
        source = Preferences(request.pairs, split, images=not request.scores)
        preference_scores.check_pairs(source, examples=examples)
        return source

    def score(source: Preferences, examples: int) -> preference_scores.Scored:
        return preference_scores.score_pairs(
            source,
            scorer,
            examples=examples,
            at_once=max(1, request.batch_size // 2),
        )

    pairs = read(request.split, request.examples)
    tuning = score(read(request.tune_split, 0), 0) if request.tune_split else None
    scored = score(pairs, request.examples)
    agreements = preference_scores.compare(
        scored,
        tuning,
        threshold=request.tie_threshold,
        candidates=request.candidates,
        resamples=request.resamples,
    )
    facts |= {
        "pairs": request.pairs,
        "split": request.split,
        "tune_split": request.tune_split,
        "unlabelled": scored.unlabelled,
        "skipped": scored.skipped,
        "metrics": {
            name: dataclasses.asdict(a) for name, a in ordered(agreements).items()
        },
    }
    if folder:
        print("written:", *_write_preferences(folder, facts, scored.rows))
    return (
        f"{text_tables.render(facts['metrics'])}\n\n"
        f"{scored.unlabelled} rows without a label, {len(scored.skipped)} pairs "
        "skipped. ^ higher is better."
    )


_PREFERENCES = ("preferences.json", "preferences.examples.jsonl")


def _write_preferences(folder: str, facts, rows) -> list[str]:
    paths = [storage.place(folder) / name for name in _PREFERENCES]
    storage.write_text(paths[0], json.dumps(facts, indent=2) + "\n")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    storage.write_text(paths[1], "".join(lines))
    return [str(path) for path in paths]
