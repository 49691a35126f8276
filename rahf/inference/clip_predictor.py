"""A CLIP behind the interface of `rahf.load`: a score, a heatmap and words.

scorer = rahf.load_clip("PickScore_v1", tokenizer="CLIP-ViT-H-14", score="pickscore")
scorer.score(["cat.png"], ["a red cat"])  # float32[1]
[prediction] = scorer.predict(["cat.png"], ["a red cat"])
prediction.heatmaps["misalignment"]
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from rahf import targets
from rahf import words as words_lib
from rahf.baselines import clip_maps
from rahf.baselines.clip_inputs import (
    DEVIATION,
    MEAN,
    ClipInputs,
    PublishedInputs,
)
from rahf.baselines.clip_maps import USUAL_MAP, MapChoice
from rahf.baselines.clip_scores import ClipFormula, find_formula
from rahf.baselines.clip_tokenizer import ClipTokenizer
from rahf.inference import arguments, kept_programs
from rahf.inference.arguments import ImageLike
from rahf.inference.predictor import Prediction, Word
from rahf.models.clip import Clip, ClipConfig
from rahf.weights import clip as clip_weights
from rahf.weights import matching

#: What a CLIP's map and words are called in predictions.
HEATMAP, WORDS = "misalignment", "misaligned_words"


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """How published weights are read and used.

    Attributes:
      tokenizer: the folder or file of the tokenizer; "" = beside the weights.
      score: a name in `rahf.baselines.clip_scores.FORMULAS`.
      choice: the heatmap.
      activation: "quick_gelu" or "gelu"; "" = as the files say, or the score's.
      image_heads, text_heads: the numbers of heads; 0 = as the files say, or by width.
    """

    tokenizer: str = ""
    score: str = "clipscore"
    choice: MapChoice = USUAL_MAP
    activation: str = ""
    image_heads: int = 0
    text_heads: int = 0


#: CLIPScore, of weights that tell their activation and lie beside their tokenizer.
USUAL_CLIP = ClipOptions()


class ClipPredictor:
    """A CLIP ready to score and explain; keeps its parameters and compiled functions.

    Attributes:
      model: the network.
      params: its parameters.
      targets: the names of what it predicts.
      config, step: of a run, those that a `rahf.inference.predictor.Predictor` has.
      intervals, features: None, since a CLIP is not calibrated and does not measure how
        far images are from those of its training.
    """

    intervals = None
    features = None

    def __init__(
        self,
        model: Clip,
        params: Any,
        inputs: ClipInputs,
        formula: ClipFormula,
        choice: MapChoice = USUAL_MAP,
        *,
        maps: bool = True,
    ):
        """Prepares prediction.

        Args:
          model, params: the network.
          inputs: how images and texts enter it.
          formula: the score.
          choice: the heatmap.
          maps: whether `predict` computes heatmaps and words, for which the network is
            differentiated; the score alone takes about a third of the time.
        """
        self.model, self.params, self.maps = model, params, maps
        self.config: Any = None
        self.step = 0
        self.targets = (formula.name, *((HEATMAP, WORDS) if maps else ()))
        self._inputs, self._formula = inputs, formula
        self._sizes: set[int] = set()

        @jax.jit
        def score(params, images, tokens):
            variables = {"params": params}
            cosines = model.apply(variables, images, tokens, method=Clip.cosines)
            scale: Any = model.apply(variables, method=Clip.scale)
            return formula.compute(cosines, scale)

        @jax.jit
        def explain(params, images, tokens, owners):
            _, maps, match = clip_maps.explain(model, params, images, tokens, choice)
            return maps, clip_maps.doubt_words(match, owners)

        self._score, self._explain = score, explain

    def score(
        self,
        images: Iterable[ImageLike] | ImageLike,
        prompts: Iterable[str] | str,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Scores images; arguments and errors as in `Predictor.predict`.

        Returns:
          float32[B], one score per image, higher is better.
        """
        found = self._predict(images, prompts, batch_size, maps=False)
        scores = [each.scores[self._formula.name] for each in found]
        return np.array(scores, np.float32)

    def predict(
        self,
        images: Iterable[ImageLike] | ImageLike,
        prompts: Iterable[str] | str,
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Predicts images; arguments and errors as in `Predictor.predict`.

        Returns:
          One prediction per image: the score by the formula's name, "misalignment" as
          heatmap, float32[S, S] in [0, 1], and the words, whose probability says how
          little they move the cosine. Without maps, the score alone.
        """
        return self._predict(images, prompts, batch_size, maps=self.maps)

    def _predict(self, images, prompts, batch_size, *, maps: bool) -> list[Prediction]:
        batch_size = arguments.check_batch_size(batch_size)
        images = arguments.list_images(images)
        prompts = arguments.list_prompts(prompts, len(images))
        found = []
        for start in range(0, len(images), batch_size):
            chunk = range(start, min(start + batch_size, len(images)))
            pictures = [
                arguments.read_picture(images[i], f"images[{i}]") for i in chunk
            ]
            found += self._predict_batch(pictures, [prompts[i] for i in chunk], maps)
        return found

    def _predict_batch(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str], maps: bool
    ) -> list[Prediction]:
        rows = self._rows(len(pictures))
        encoded = [self._inputs.encode(prompt) for prompt in prompts]
        pad = functools.partial(_pad, rows=rows)
        tokens = pad([each.ids for each in encoded])
        crops = pad([self._inputs.crop(picture) for picture in pictures])
        scores = np.asarray(self._score(self.params, crops, tokens))
        heatmaps, doubts = None, None
        if maps:
            most = max([len(each.words) for each in encoded] + [1])
            # A power of two, so that few programs are compiled.
            owners = np.zeros(
                (rows, 1 << (most - 1).bit_length(), tokens.shape[1]), bool
            )
            for row, each in enumerate(encoded):
                for word, places in enumerate(each.words):
                    owners[row, word, list(places)] = True
            wholes = pad([self._inputs.whole(picture) for picture in pictures])
            explained = self._explain(self.params, wholes, tokens, owners)
            heatmaps, doubts = jax.device_get(explained)
        found = []
        for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            prediction = Prediction(
                prompt=prompt,
                scores={self._formula.name: float(scores[row])},
                words=[]
                if doubts is None
                else _words(prompt, encoded[row], doubts[row]),
                heatmaps={} if heatmaps is None else {HEATMAP: heatmaps[row]},
                image_size=picture.shape[:2],
                prompt_truncated=encoded[row].truncated,
            )
            found.append(prediction)
        return found

    def _rows(self, count: int) -> int:
        """Returns the rows to compute for `count` images; each new size compiles."""
        fitting = [size for size in self._sizes if size >= count]
        rows = min(fitting, default=1 << (count - 1).bit_length())
        self._sizes.add(rows)
        return rows


def _pad(arrays: Sequence[np.ndarray], rows: int) -> np.ndarray:
    return np.stack([*arrays, *[arrays[0]] * (rows - len(arrays))])


def _words(prompt: str, encoded, doubts: np.ndarray) -> list[Word]:
    cut = targets.get(WORDS).cut
    return [
        Word(text, float(doubt), bool(doubt > cut))
        for text, places, doubt in zip(
            words_lib.split(prompt), encoded.words, doubts, strict=False
        )
        if places or not encoded.truncated
    ]


def load_clip(
    weights: str | os.PathLike,
    tokenizer: str | os.PathLike = "",
    score: str = "clipscore",
    *,
    options: ClipOptions | None = None,
    maps: bool = True,
) -> ClipPredictor:
    """Loads published weights of a CLIP with a ViT, offline and without running code.

    Args:
      weights: OpenAI's `.pt`, a folder or file of Hugging Face's, or a file of
        open_clip's (`rahf.weights.clip`).
      tokenizer: `bpe_simple_vocab_16e6.txt.gz`, or the folder of `vocab.json` and
        `merges.txt`; by default beside the weights.
      score: "clipscore", "pickscore" or "hpsv2".
      options: all of these and more, instead of the two arguments before.
      maps: whether to predict heatmaps and words beside the score.

    Returns:
      The predictor. Keep it, so that loading and compiling happen only once.

    Raises:
      ValueError: files are missing, damaged or of another model, or do not tell the
        activation.
    """
    options = options or ClipOptions(os.fspath(tokenizer), score)
    formula = find_formula(options.score)
    beside = pathlib.Path(weights)
    beside = beside if beside.is_dir() else beside.parent
    reader = ClipTokenizer.read(options.tokenizer or beside)
    found = clip_weights.read(weights)
    known = dict(found.known)
    activation = options.activation or known.get("activation") or formula.activation
    if not activation:
        raise ValueError(
            f"{os.fspath(weights)} does not tell its activation: say "
            "activation='quick_gelu' (OpenAI's weights) or 'gelu' (LAION's and others')"
        )
    known["activation"] = activation
    for name in ("image_heads", "text_heads"):
        known[name] = getattr(options, name) or known.get(name)
    shapes = {name: value.shape for name, value in found.arrays.items()}
    config = ClipConfig.from_shapes(shapes, **known)
    if len(reader) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(reader):,} tokens, but the weights "
            f"{config.vocab_size:,}: they do not belong together"
        )
    inputs = PublishedInputs(
        reader,
        config.image_size,
        config.context_length,
        found.mean or MEAN,
        found.deviation or DEVIATION,
    )
    kept_programs.use()
    params = jax.device_put(matching.unflatten(found.arrays))
    return ClipPredictor(
        Clip(config), params, inputs, formula, options.choice, maps=maps
    )
