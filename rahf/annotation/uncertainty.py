"""How unsure a model is of an image, and what to label next.

The measure is the entropy of what the model says: of each word's probability and of each
pixel of its heatmaps. On scenes that the demo was not trained on, 400 of them, the rank
of this measure goes with the rank of its true error (Spearman .53 over all seven targets;
.27 on scenes like those of its training). Asking again about mirrored, shifted, darker and
lighter copies of the image, and comparing the answers, was tried and tells less (.19,
.14) at several times the cost; so does a second model, unless it is much the better one.
Scores have no distribution, and nothing that was tried foretells their errors.
docs/results_log.md has the figures, and that labels chosen so taught no more than random ones.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.stats import rankdata
from tqdm import tqdm

from rahf import durable, images, strict_json, words
from rahf.annotation import task_files

FILE = "uncertainty.json"
# Images per batch, and batches between two writings of the file.
_BATCH, _KEPT = 16, 64


class Predicted(Protocol):
    """What is needed of `rahf.inference.predictor.Prediction`."""

    @property
    def words(self) -> Sequence[Any]: ...

    @property
    def heatmaps(self) -> Mapping[str, np.ndarray]: ...


def entropies(prediction: Predicted) -> dict[str, float]:
    """Returns the mean entropy, in nats, of words and of each heatmap's pixels.

    Args:
      prediction: one image's; without words or heatmaps, these are absent.
    """
    found = {name: _entropy(each) for name, each in prediction.heatmaps.items()}
    chances = [word.probability for word in prediction.words]
    return found | ({"words": _entropy(chances)} if chances else {})


def _entropy(chances: Any) -> float:
    chances = np.clip(np.asarray(chances, np.float64), 1e-6, 1 - 1e-6)
    away = 1 - chances
    return float(-np.mean(chances * np.log(chances) + away * np.log(away)))


def combine(parts: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Returns one number an image, float64[N] in (0, 1], higher for less sure.

    Each entropy counts by its rank among the images, so that none outweighs the others
    by its unit; an image without one (no words, say) has the middle rank in it.

    Args:
      parts: of each image, what `entropies` returns.
    """
    total = np.zeros(len(parts))
    names = sorted({name for part in parts for name in part})
    for name in names:
        has = np.array([name in part for part in parts])
        ranks = np.full(len(parts), 0.5)
        values = [part[name] for part in parts if name in part]
        ranks[has] = rankdata(values) / len(values)
        total += ranks / len(names)
    return total


def order(unsure: np.ndarray, prompts: Sequence[str]) -> list[int]:
    """Returns the indices of images, those to label first at the beginning.

    Every prompt's least sure image comes before any prompt's second, so that the first
    images are not one prompt eight times. Prompts of the same words are the same.

    Args:
      unsure: float[N], as `combine` returns it.
      prompts: the N prompts.
    """
    turns: dict[tuple[str, ...], int] = {}
    keys = []
    for index in sorted(range(len(prompts)), key=lambda i: (-unsure[i], i)):
        said = tuple(words.split(prompts[index].casefold()))
        turn = turns.get(said, 0)
        turns[said] = turn + 1
        keys.append((turn, -unsure[index], index))
    return [index for *_, index in sorted(keys)]


def measure(
    listed: Sequence[tuple[str, str]],
    folder: pathlib.Path,
    predictor: Any,
    path: pathlib.Path,
    digest: str,
) -> dict[str, dict[str, float]]:
    """Returns the entropies of images by name, and keeps them in a file.

    What the file has of the same checkpoint, prompt and image file is not computed
    again, also after this was interrupted.

    Args:
      listed: (name, prompt) of each image.
      folder: the folder of the images.
      predictor: a `rahf.inference.predictor.Predictor`.
      path: the file.
      digest: of the predictor's checkpoint.

    Returns:
      `entropies` by image; images that cannot be read are absent.

    Raises:
      ValueError: the file is damaged, or an image lies outside the folder.
    """
    kept = _read(path, digest)
    asked = {name: _asked(name, prompt, folder) for name, prompt in listed}
    todo = [
        each for each in listed if kept.get(each[0], {}).get("of") != asked[each[0]]
    ]
    for name, _ in todo:
        kept.pop(name, None)
    with tqdm(total=len(todo), desc="uncertainty", unit="image") as bar:
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            for name, found in _predict(predictor, batch, folder).items():
                kept[name] = {"of": asked[name], "entropies": found}
            bar.update(len(batch))
            if (start // _BATCH + 1) % _KEPT == 0 or start + _BATCH >= len(todo):
                whole = {"checkpoint": digest, "images": kept}
                durable.write_text(path, json.dumps(whole) + "\n")
    return {name: kept[name]["entropies"] for name, _ in listed if name in kept}


def _asked(name: str, prompt: str, folder: pathlib.Path) -> list[Any]:
    """What an image's entropies are of: its prompt, and its file's size and time."""
    try:
        found = task_files.find_image(folder, name).stat()
    except OSError:
        return [prompt]
    return [prompt, found.st_size, found.st_mtime_ns]


def _predict(
    predictor: Any, batch: Iterable[tuple[str, str]], folder: pathlib.Path
) -> dict[str, dict[str, float]]:
    names, prompts, pictures = [], [], []
    for name, prompt in batch:
        try:
            pictures.append(images.read_image(task_files.find_image(folder, name)))
        except images.ImageError:
            continue
        names.append(name)
        prompts.append(prompt)
    if not names:
        return {}
    predictions = predictor.predict(pictures, prompts, batch_size=_BATCH)
    return dict(zip(names, map(entropies, predictions), strict=True))


def _read(path: pathlib.Path, digest: str) -> dict[str, dict[str, Any]]:
    try:
        kept = strict_json.loads(path.read_text("utf-8"))
        if kept["checkpoint"] != digest:
            return {}
        names = ("of", "entropies")
        return {i: {n: row[n] for n in names} for i, row in kept["images"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); remove it") from error
