"""Writes predictions of `t5x.infer` as JSON lines and heatmaps.

It is the `write_fn` of configs/t5x/infer.gin, and nothing else refers to this module. A
line has those fields of `rahf.bin.predict` that the task provides.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from rahf import images, targets, words
from rahf.inference.jobs import safe_name
from rahf.input import vocabulary
from rahf.targets import Kind


class Writer:
    """Writes chunks of predictions."""

    def __init__(self, config):
        """Reads the vocabulary; `config` is the training config."""
        self._vocabulary = vocabulary.load(config.input.vocabulary)
        rows = targets.select(config.task.targets)
        self._prefixes = {
            row.name: self._vocabulary.encode(row.prompt)
            if config.model.variant == "augmented"
            else []
            for row in targets.ordered({row.name: row for row in rows}).values()
            if row.kind in (Kind.HEATMAP, Kind.SCORE, Kind.WORDS)
        }

    def __call__(
        self,
        path: str,
        inferences: tuple[Sequence[Any], Mapping[str, Any]],
        task_ds: Any,
        mode: str,
        unused_vocabulary: Any = None,
    ) -> None:
        """Writes a line for each example, and its heatmaps into a folder beside it.

        Args:
          path: the file of the chunk, in a folder inside the output folder that T5X
            removes once it has joined the chunks.
          inferences: the outputs of `predict_batch_with_aux` for each example.
          task_ds: the task features of the examples.
          mode: T5X's mode; must be "predict_with_aux".
          unused_vocabulary: the task's vocabulary, which passes ids through.

        Raises:
          ValueError: the mode is another.
        """
        if mode != "predict_with_aux":
            raise ValueError(f"infer.mode={mode!r}; expected 'predict_with_aux'")
        said, outputs = inferences
        folder = epath.Path(path).parent.parent / "heatmaps"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for i, example in enumerate(task_ds.as_numpy_iterator()):
            answers = {name: np.asarray(outputs[name][i]) for name in outputs}
            line = self._line(example, answers, folder)
            line["said"] = self._vocabulary.decode(np.asarray(said[i]))
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        epath.Path(path).write_text("".join(lines))

    def _line(self, example, answers, folder) -> dict[str, Any]:
        uid, prompt = example["uid"][0].decode(), example["text"][0].decode()
        line: dict[str, Any] = {"id": uid, "prompt": prompt}
        line |= {"prompt_truncated": bool(example["truncated"][0])}
        line |= {"scores": {}, "words": [], "heatmaps": {}}
        for name, prefix in self._prefixes.items():
            if list(example["inputs"][: len(prefix)]) != prefix:
                continue  # an augmented prompt asks for one target
            row, answer = targets.get(name), answers[name]
            if row.kind is Kind.SCORE:
                line["scores"][name] = round(float(answer), 6)
            elif row.kind is Kind.WORDS:
                chances = answer[np.flatnonzero(example["word_ends"])].tolist()
                line["words"] = [
                    {"text": w, "probability": round(p, 6), "misaligned": p > row.cut}
                    for w, p in zip(words.split(prompt), chances, strict=False)
                ]
            else:
                file = f"{safe_name(uid)}.{name}.png"
                with (folder / file).open("wb") as opened:
                    images.write_heatmap(opened, answer)
                line["heatmaps"][name] = f"heatmaps/{file}"
        return line
