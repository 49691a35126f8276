"""The labelled batches of a split, with predictions from disk beside them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets, words
from rahf.evaluation.evaluate import Batch, Infos
from rahf.evaluation.predicted_images import PredictedImage, PredictedImages
from rahf.targets import Kind

#: The key of a batch that holds its predictions.
PREDICTED = "predicted"
_MEASURED = (Kind.HEATMAP, Kind.SCORE, Kind.WORDS)


@dataclasses.dataclass
class Matching:
    """Which labelled images have predictions.

    Attributes:
      images: the predictions.
      matched: the ids of the predictions of labelled images.
      unmatched: the labelled images that have none.
      lacking: by target, the labelled images whose prediction lacks it.
      unread: the labelled images whose prediction has fewer words than were read.
    """

    images: PredictedImages
    matched: set[str] = dataclasses.field(default_factory=set)
    unmatched: dict[str, None] = dataclasses.field(default_factory=dict)
    lacking: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    unread: set[str] = dataclasses.field(default_factory=set)

    def has(self, name: str) -> bool:
        """Whether any prediction has a target."""
        return _has_any(self.images, name)

    def counts(self) -> dict[str, int]:
        """Returns how many labelled images have predictions, and how many not."""
        return {
            "matched": len(self.matched),
            "labelled_without_prediction": len(self.unmatched),
            "predictions_without_label": len(self.images) - len(self.matched),
            "unread_images": self.images.errors,
        }

    def notes(self) -> list[str]:
        """Returns a line for each thing that is not measured."""
        found, lines = self.counts(), []
        total = found["matched"] + found["labelled_without_prediction"]
        if self.unmatched:
            first = next(iter(self.unmatched))
            lines.append(
                f"{len(self.unmatched):,} of {total:,} labelled images have no "
                f"prediction and are not measured, the first {first!r}"
            )
        if left := found["predictions_without_label"]:
            lines.append(f"{left:,} predictions are of no labelled image")
        if self.images.errors:
            lines.append(
                f"{self.images.errors:,} images could not be read when they were "
                "predicted"
            )
        for name, uids in targets.ordered(self.lacking).items():
            lines.append(
                f"{name}: {len(uids):,} predictions of labelled images lack it"
            )
        if self.unread:
            lines.append(
                f"{len(self.unread):,} predictions end before the prompt's last words; "
                "those are not measured"
            )
        return lines


class PredictedBatches:
    """Iterates over `(batch, infos)` of a split as `make_eval_batches` does.

    Each batch has its predictions under `PREDICTED`, named and shaped as the model's
    outputs; weights are 0 where there is none.
    """

    def __init__(self, batches: Any, names: Sequence[str], matching: Matching):
        """Wraps the batches of `rahf.input.loader.make_eval_batches`.

        Args:
          batches: the labelled batches.
          names: the targets to fill in.
          matching: gets what has been found.
        """
        self._batches, self._matching = batches, matching
        self._rows = targets.select(names)

    @property
    def bad_records(self) -> int:
        return self._batches.bad_records

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Batch, Infos]]:
        for batch, infos in self._batches:
            yield self._fill(dict(batch), infos), infos

    def _fill(self, batch: dict[str, Any], infos: Infos) -> Batch:
        weights = {k: np.array(v, np.float32) for k, v in batch["weights"].items()}
        batch |= {"weights": weights, "word_ends": np.array(batch["word_ends"])}
        batch[PREDICTED] = {row.name: _blank(batch, row) for row in self._rows}
        for index, info in enumerate(infos):
            uid, found = str(info["uid"]), self._find(info)
            for row in self._rows:
                if not weights[row.name][index] > 0:
                    continue
                if found is None or not _has(found, row.name):
                    weights[row.name][index] = 0
                    if found is not None:
                        self._matching.lacking.setdefault(row.name, set()).add(uid)
                    continue
                if row.kind is Kind.WORDS:
                    self._fill_words(batch, row.name, index, info, found)
                    continue
                place = batch[PREDICTED][row.name]
                place[index] = (
                    found.scores[row.name]
                    if row.kind is Kind.SCORE
                    else found.heatmap(row.name, place.shape[1:])
                )
        return batch

    def _find(self, info: Mapping[str, Any]) -> PredictedImage | None:
        uid = str(info["uid"])
        found = self._matching.images.find(uid, str(info["prompt"]))
        if found is None:
            self._matching.unmatched[uid] = None
        else:
            self._matching.matched.add(found.id)
        return found

    def _fill_words(self, batch, name: str, index: int, info, found) -> None:
        """Words beyond the prediction's end are no longer ends of words to measure."""
        written = words.split(str(info["prompt"]))
        # Other tools may leave a comma with its word.
        texts = [text.strip(words.DELIMITERS) for text in found.texts]
        if texts != written[: len(texts)]:
            raise ValueError(
                f"{found.place}: expected the words {written} of the prompt, in order, "
                f"got {list(found.texts)}"
            )
        ends = np.flatnonzero(batch["word_ends"][index] > 0)
        known = min(len(ends), len(found.words))
        batch[PREDICTED][name][index, ends[:known]] = found.words[:known]
        if known < len(ends):
            batch["word_ends"][index, ends[known:]] = 0
            self._matching.unread.add(str(info["uid"]))


def _blank(batch: Mapping[str, Any], row: targets.Target) -> np.ndarray:
    like = batch["prompt"] if row.kind is Kind.WORDS else batch["targets"][row.name]
    return np.zeros(np.shape(like), np.float32)


def _has(found: PredictedImage, name: str) -> bool:
    kind = targets.get(name).kind
    if kind is Kind.WORDS:
        return found.words is not None
    return name in (found.scores if kind is Kind.SCORE else found.heatmaps)


def _has_any(images: PredictedImages, name: str) -> bool:
    kind = targets.get(name).kind
    if kind is Kind.WORDS:
        return images.has_words
    return kind in _MEASURED and name in (
        images.scores if kind is Kind.SCORE else images.heatmaps
    )
