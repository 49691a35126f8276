"""Predicts images into a folder by a published CLIP, as rahf.bin.predict_clip does."""

import dataclasses
import hashlib
import os
from typing import Any

from rahf.checkpoints import identity
from rahf.inference import stream
from rahf.inference.clip_predictor import USUAL_CLIP, ClipOptions, load_clip
from rahf.inference.jobs import unread_prompts
from rahf.inference.stream import Counts, Interrupted, Options, Sources
from rahf.inference.writer import PredictionWriter

_USUAL = Options()


@dataclasses.dataclass(frozen=True)
class ClipRequest:
    """What to predict, and by which weights.

    Attributes:
      sources: the images and prompts.
      output: the folder to write to.
      weights: see `load_clip`.
      clip: how the weights are used.
      score_only: whether to leave out heatmaps and words.
      options: how images are predicted, and what is written of them.
    """

    sources: Sources
    output: str
    weights: str
    clip: ClipOptions = USUAL_CLIP
    score_only: bool = False
    options: Options = _USUAL


def predict_clip_folder(request: ClipRequest) -> tuple[Counts, str]:
    """Predicts images into a folder; the same request again resumes.

    Returns:
      The counts, and a summary for people to read.

    Raises:
      ValueError: an input is invalid.
      Interrupted: the user pressed Ctrl-C.
    """
    jobs, options = request.sources.read(), request.options
    with PredictionWriter(
        request.output, checkpoint=None, pictures=options.pictures
    ) as out:
        try:
            missing = out.missing(jobs)
            stream.check_files(missing, options.on_error)
            predictor: Any = load_clip(
                request.weights, options=request.clip, maps=not request.score_only
            )
            out.use(*_identify(request, predictor.params))
            counts = stream.run(predictor, missing, out, options)
            counts.done_before = len(jobs) - len(missing)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {out.written} written; run the same command to continue"
            ) from None
    lines = [f"{out.path}: {counts.summary()}"]
    if number := counts.truncated:
        length = predictor.model.config.context_length
        verb = "prompt is" if number == 1 else "prompts are"
        lines.append(
            f"{number:,} {verb} longer than the {length} tokens that this CLIP reads; "
            "what was cut off does not count"
        )
    for folder, name in unread_prompts(request.sources.names, request.sources.prompt):
        lines.append(f"{folder}: --prompt is used for all images; {name} is ignored")
    return counts, "\n".join(lines)


def _identify(request: ClipRequest, params) -> tuple[str, str]:
    """Returns the name and the digest of what makes the predictions."""
    clip, name = request.clip, os.path.abspath(request.weights)
    how = clip.score
    if not request.score_only:
        how += f", map {clip.choice.definition}, {clip.choice.reading}"
    found = hashlib.sha256(identity.digest_of(request.weights, 0, params).encode())
    found.update(f"{how} {clip}".encode())
    return f"{name}, {how}", f"clip:{found.hexdigest()[:32]}"
