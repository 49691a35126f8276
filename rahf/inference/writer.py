"""Predictions -> a folder of JSON lines, heatmaps and overlays; resumable.

DIR/predictions.jsonl                  one line per image
DIR/heatmaps/<name>.<target>.png       16-bit grey, the image's own size
DIR/overlays/<name>.<target>.jpg       the same over the image, to look at
"""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from rahf import images
from rahf.inference.jobs import Job

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction


class PredictionWriter:
    """Writes predictions to a folder, and knows which of them are there already.

    A line is written after the files it names, so an image whose line is there is
    complete. A line that a crash cut in half is dropped, and so are the lines of
    images that could not be read: both are tried again.
    """

    def __init__(self, output_dir: str | os.PathLike, *, checkpoint: str = ""):
        """Opens the folder, making it if need be.

        Args:
          output_dir: the folder.
          checkpoint: what makes the predictions; noted in every line.

        Raises:
          ValueError: the folder holds predictions of another checkpoint.
        """
        self.path = pathlib.Path(output_dir) / "predictions.jsonl"
        self._checkpoint = checkpoint
        if self.path.parent.exists() and not self.path.parent.is_dir():
            raise ValueError(f"--output={self.path.parent}: expected a folder")
        for folder in ("heatmaps", "overlays"):
            (self.path.parent / folder).mkdir(parents=True, exist_ok=True)
        self._done = self._repair()
        self._file = self.path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def _repair(self) -> dict[str, tuple[str, str]]:
        """Keeps the whole lines of finished images: {id: (image, prompt)}."""
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        kept, done = [], {}
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                continue  # the last one, cut in half
            try:
                row = json.loads(line)
                id_, job = row["id"], (row["image"], row["prompt"])
                checkpoint = row["checkpoint"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}: not a line that predict wrote "
                    f"({error!r}); choose another --output"
                ) from error
            if checkpoint != self._checkpoint:
                raise ValueError(
                    f"{self.path}, line {number}: holds predictions of checkpoint "
                    f"{checkpoint!r}, not of {self._checkpoint!r}; choose another "
                    "--output"
                )
            if "error" not in row:
                kept.append(line)
                done[id_] = job
        whole = b"".join(kept)
        if whole != data:
            temporary = self.path.with_suffix(".tmp")
            temporary.write_bytes(whole)
            temporary.replace(self.path)
        return done

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of the jobs that are not done yet.

        Raises:
          ValueError: an id is done already, but with another image or prompt.
        """
        missing = []
        for job in jobs:
            done = self._done.get(job.id)
            if done is None:
                missing.append(job)
            elif done != (job.image, job.prompt):
                raise ValueError(
                    f"{self.path} holds id {job.id!r} already, for image {done[0]} "
                    f"and prompt {done[1]!r}, not {job.image} and {job.prompt!r}; "
                    "choose another --output"
                )
        return missing

    def write(self, job: Job, image: np.ndarray, prediction: "Prediction") -> dict:
        """Writes one prediction: its files, then its line; see `write_files`."""
        return self.append(self.write_files(job, image, prediction))

    def write_files(
        self, job: Job, image: np.ndarray, prediction: "Prediction"
    ) -> dict:
        """Writes the pictures of one prediction; may run in several threads at once.

        Args:
          job: whose it is.
          image: uint8[H, W, 3], for the overlays and the heatmaps' size.
          prediction: as the predictor returned it.

        Returns:
          The line, for `append`.

        Raises:
          ValueError: a score is not finite, or a heatmap is outside [0, 1].
        """
        _check_finite(job, prediction)
        root = self.path.parent
        heatmaps, overlays = {}, {}
        for target, heatmap in prediction.heatmaps.items():
            heatmap = images.resize(np.asarray(heatmap), image.shape[:2])
            heatmaps[target] = f"heatmaps/{job.name}.{target}.png"
            overlays[target] = f"overlays/{job.name}.{target}.jpg"
            images.write_heatmap(root / heatmaps[target], heatmap)
            picture = Image.fromarray(images.overlay(image, heatmap))
            picture.thumbnail((65500, 65500))  # JPEG's limit on a side
            picture.save(root / overlays[target], "JPEG", quality=90)
        return {
            "id": job.id,
            "image": job.image,
            "image_size": [int(n) for n in image.shape[:2]],
            "prompt": job.prompt,
            "prompt_truncated": bool(prediction.prompt_truncated),
            "scores": {k: round(float(v), 6) for k, v in prediction.scores.items()},
            "words": [
                {
                    "text": word.text,
                    "probability": round(float(word.probability), 6),
                    "misaligned": bool(word.misaligned),
                }
                for word in prediction.words
            ],
            "heatmaps": heatmaps,
            "overlays": overlays,
            "checkpoint": self._checkpoint,
        }

    def write_error(self, job: Job, error: Exception) -> dict:
        """Notes an image that could not be read; it is tried again the next time."""
        return self.append(
            {
                "id": job.id,
                "image": job.image,
                "prompt": job.prompt,
                "error": str(error),
                "checkpoint": self._checkpoint,
            }
        )

    def append(self, row: dict) -> dict:
        """Writes one line, to the disk at once; returns it."""
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        # backslashreplace turns what UTF-8 cannot say (a file name in another
        # encoding) into JSON's own escape for it.
        self._file.write(line.encode("utf-8", "backslashreplace"))
        self._file.flush()
        return row


def _check_finite(job: Job, prediction: "Prediction") -> None:
    numbers = dict(prediction.scores)
    numbers |= {word.text: word.probability for word in prediction.words}
    wrong = {name: value for name, value in numbers.items() if not np.isfinite(value)}
    if wrong:
        raise ValueError(
            f"{job.image}: expected finite predictions, got {wrong}; the checkpoint's "
            "parameters are probably not finite either"
        )
