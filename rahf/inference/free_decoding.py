"""Free decoding: reads the labels of words from generated text, on the host.

`config.model.decoding="free"` is the first author's method: decode greedily, then look
for the suffixes in the text. The constrained decoder (rahf.models.decoding) gives
probabilities and cannot lose a word; free decoding is for comparison with published
models.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rahf import words
from rahf.input import vocabulary

DECODINGS = ("constrained", "free")

_UNREADABLE = "\ufffd"


def is_free(config) -> bool:
    """Returns whether decoding is free; raises ValueError if it is unknown."""
    decoding = config.model.get("decoding", "constrained")
    if decoding not in DECODINGS:
        raise ValueError(
            f"config.model.decoding={decoding!r}; known: "
            f"{', '.join(map(repr, DECODINGS))}"
        )
    return decoding == "free"


class FreeWords:
    """A predict step that turns decoded tokens into labels of words.

    Called like `predict`, which returns int32[B, T] tokens for the word targets.
    Returns float32[B, T] for them, as constrained decoding does: 1 at the ends of words
    that were decoded with the suffix.
    """

    def __init__(self, config, predict: Callable[..., Any], names: Sequence[str]):
        self._predict, self._names = predict, tuple(names)
        self._vocabulary = vocabulary.load(config.input.vocabulary)

    def __call__(self, params, batch) -> dict[str, Any]:
        outputs = dict(self._predict(params, batch))
        prompts = np.asarray(batch["prompt"])
        ends = np.asarray(batch["word_ends"]) > 0
        for name in self._names:
            said = np.asarray(outputs[name])
            found = np.zeros(prompts.shape, np.float32)
            for row in range(len(prompts)):
                labels = self.labels(said[row], prompts[row], ends[row])
                found[row, ends[row]] = labels == 0
            outputs[name] = found
        return outputs

    def labels(self, said, prompt, ends) -> np.ndarray:
        """Returns the labels of the words, 0 = misaligned.

        Args:
          said: int32[T], the tokens of the decoder.
          prompt: int32[T], the tokens of the prompt.
          ends: bool[T], where the words of the prompt end.

        Returns:
          int8[words].
        """
        end = np.append(prompt, vocabulary.EOS_ID).tolist().index(vocabulary.EOS_ID)
        spoken = np.append(said, vocabulary.EOS_ID).tolist()
        spoken = spoken[: spoken.index(vocabulary.EOS_ID)]
        try:  # the prompt's own pieces, whatever their text
            marks = self._vocabulary.separate(spoken, prompt[:end], ends[:end])
            return 1 - np.array(marks, np.int8)[ends[:end]]
        except ValueError:
            pass
        places = np.flatnonzero(ends) + 1
        pieces = np.split(prompt, places)[: len(places)]
        texts = [self._word(piece) for piece in pieces]
        return words.align(self._vocabulary.decode(said), " ".join(texts))

    def _word(self, pieces) -> str:
        found = words.split(self._vocabulary.decode(pieces).replace("\u2047", ""))
        return found[-1] if found else _UNREADABLE
