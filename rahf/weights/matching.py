"""Which tensors of a checkpoint go where in a model, and a report of every one.

Parameters are flat here: {"vit/cls": array}, names joined by "/".
"""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from rahf import durable
from rahf.weights import resizing, values

#: Beside the config of a run or an import, what became of every tensor.
REPORT_FILE = "weights.json"

_SHOWN = 8  # tensors named in an error
# Of the MLP, here and in Hugging Face's names.
_GATED = ("mlp/wi_0/kernel", "DenseReluDense.wi_0.weight")
_PLAIN = ("mlp/wi/kernel", "DenseReluDense.wi.weight")
_VOCABULARY = ("token_embedder/embedding", "logits_dense/kernel")
#: In the files of T5 1.0 on the hub, and read by nobody.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What became of one tensor.

    Attributes:
      name: of the parameter, "/" for nesting.
      status: "loaded", "resized", "missing" (fresh, as was expected) or
        "unexpected" (in the checkpoint, not in the model; left out).
      shape: of the parameter; of the checkpoint's where it is unexpected.
      found: the checkpoint's shape, where it was resized.
    """

    name: str
    status: str
    shape: tuple[int, ...]
    found: tuple[int, ...] | None = None

    @property
    def is_loaded(self) -> bool:
        return self.status in ("loaded", "resized")


@dataclasses.dataclass(frozen=True)
class MatchReport:
    """A row for every tensor of the model and of the checkpoint.

    Attributes:
      source: where the checkpoint is from.
      tensors: what became of each.
      notes: what could not be checked, a sentence each.
    """

    source: str
    tensors: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()

    def names(self, status: str) -> list[str]:
        return [tensor.name for tensor in self.tensors if tensor.status == status]

    def summary(self) -> str:
        """A line of counts, one for each tensor that was not plainly loaded, notes."""
        statuses = ("loaded", "resized", "missing", "unexpected")
        counts = ", ".join(f"{len(self.names(s))} {s}" for s in statuses)
        rows = [_row(tensor) for tensor in self.tensors if tensor.status != "loaded"]
        notes = [f"Note: {note}" for note in self.notes]
        return "\n".join([f"{self.source}: {counts}", *rows, *notes])

    def write(self, folder) -> None:
        """Writes `REPORT_FILE` into a folder."""
        rows = [dataclasses.asdict(tensor) for tensor in self.tensors]
        report = {"source": self.source, "tensors": rows, "notes": self.notes}
        path = epath.Path(folder) / REPORT_FILE
        durable.write_text(path, json.dumps(report, indent=1) + "\n")


def _row(tensor: Tensor) -> str:
    was = f" from {list(tensor.found)}" if tensor.found else ""
    return f"  {tensor.status:<10} {tensor.name} {list(tensor.shape)}{was}"


def flatten(tree) -> dict[str, Any]:
    """Nested dicts -> {"a/b": leaf}."""
    return dict(traverse_util.flatten_dict(tree, sep="/"))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def match(
    wanted: Mapping[str, Any],
    found: Mapping[str, np.ndarray],
    *,
    source: str,
    expect_missing: Sequence[str] = (),
    resize_vocabulary: bool = False,
) -> tuple[dict[str, np.ndarray], MatchReport]:
    """Matches the tensors of a checkpoint to a model's parameters.

    A name and a shape that agree are loaded. Position embeddings and the patch
    embedding of a ViT are resized where only the grid or the patch differ. Heads and
    poolers of the checkpoint may be left over; of a stack that is loaded every tensor
    must have a place, or the model would compute something else.

    Args:
      wanted: flat parameters, arrays or abstract ones.
      found: flat tensors of the checkpoint, under the model's names.
      source: where they come from, for the report and errors.
      expect_missing: glob patterns of the parameters that may be missing, such as
        "heatmap_predictor_*"; "*" takes in any depth.
      resize_vocabulary: take as many rows of the vocabulary as there are on both
        sides; further ones start as the mean row.

    Returns:
      (loaded, report): float32 arrays by name, without the missing ones.

    Raises:
      ValueError: a shape differs, a parameter is missing that no pattern names, or a
        tensor is left over inside a stack; with the shapes and the likely cause. Or
        values are whole or not finite.
    """
    loaded, rows, wrong = {}, [], []
    for name, leaf in sorted(wanted.items()):
        shape = tuple(leaf.shape)
        if name not in found:
            rows.append(Tensor(name, "missing", shape))
            continue
        value = np.asarray(found[name])
        resize = _resizer(name, value.shape, shape, resize_vocabulary)
        if value.shape == shape:
            rows.append(Tensor(name, "loaded", shape))
        elif resize:
            rows.append(Tensor(name, "resized", shape, value.shape))
        else:
            wrong.append(Tensor(name, "shape", shape, value.shape))
            continue
        values.check_dtype(source, name, value.dtype)
        with np.errstate(over="ignore"):  # of float64, which is told below
            value = value.astype(np.float32, copy=False)
        values.check_finite(source, name, value)
        loaded[name] = resize(value) if resize else value
    for name in sorted(found.keys() - wanted.keys()):
        rows.append(Tensor(name, "unexpected", tuple(np.shape(found[name]))))
    report = MatchReport(source, tuple(rows))
    _check(report, wrong, expect_missing)
    return loaded, report


def _resizer(
    name: str, found: Sequence[int], wanted: Sequence[int], vocabulary: bool
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns how to bring a tensor to the wanted shape; None where there is no way."""
    if len(found) != len(wanted) or tuple(found) == tuple(wanted):
        return None
    differs = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    if name.endswith("posembed_input/pos_embedding") and differs == [1]:
        sides = resizing.grid(found[1]), resizing.grid(wanted[1])
        if all(sides) and _has_class_token(found[1]) == _has_class_token(wanted[1]):
            return lambda value: resizing.positions(value, sides[1])
    if name.endswith("vit/embedding/kernel") and differs == [0, 1]:
        return lambda value: resizing.patches(value, wanted[0])
    if vocabulary and name.endswith(_VOCABULARY) and len(differs) == 1:
        return lambda value: resizing.rows(value, wanted[differs[0]], differs[0])
    return None


def _has_class_token(length: int) -> bool:
    return resizing.grid(length) ** 2 != length


def _check(
    report: MatchReport, wrong: Sequence[Tensor], patterns: Sequence[str]
) -> None:
    """Raises ValueError naming what differs in shape and what is missing."""
    missing = [
        tensor
        for tensor in report.tensors
        if tensor.status == "missing"
        and not any(fnmatch.fnmatchcase(tensor.name, p) for p in patterns)
    ]
    left = _left_over(report)
    parts = []
    if wrong:
        rows = [
            f"{t.name}: {list(t.found or ())} there, {list(t.shape)} here"
            for t in wrong
        ]
        parts.append(f"{len(wrong)} tensors have another shape:" + _list(rows))
    if missing:
        rows = [f"{t.name} {list(t.shape)}" for t in missing]
        parts.append(f"{len(missing)} tensors are missing:" + _list(rows))
    if left:
        rows = [f"{t.name} {list(t.shape)}" for t in left]
        parts.append(f"{len(left)} tensors have no place in the model:" + _list(rows))
    if parts:
        causes = [*_causes(report, wrong, missing), *_causes_of_left(report, left)]
        parts += ["Likely cause: " + cause for cause in causes]
        raise ValueError(
            f"{report.source} does not fit the model.\n" + "\n".join(parts)
        )


def _left_over(report: MatchReport) -> list[Tensor]:
    """The unexpected tensors inside a stack of which other tensors were loaded."""
    stacks = {_stack(tensor.name) for tensor in report.tensors if tensor.is_loaded}
    return [
        tensor
        for tensor in report.tensors
        if tensor.status == "unexpected"
        and not tensor.name.endswith(_UNUSED)
        and _stack(tensor.name) in stacks - {""}
    ]


def _stack(name: str) -> str:
    """The stack of layers that a tensor is of, by our name or Hugging Face's."""
    if name.startswith(("vit/Transformer/", "vit.encoder.")):
        return "vit"
    if match := re.match(r"t5[/.](encoder|decoder)[/.]", name):
        return f"t5.{match[1]}"
    return ""


def _loaded(report: MatchReport, stack: str) -> list[str]:
    return [t.name for t in report.tensors if t.is_loaded and _stack(t.name) == stack]


def _causes_of_left(report: MatchReport, left: Sequence[Tensor]) -> Iterator[str]:
    """Guesses at what has more layers, or more in each, than the model."""
    keys = {"vit": "vit.depth", "t5.encoder": "t5.encoder_layers"}
    keys |= {"t5.decoder": "t5.decoder_layers"}
    for stack, key in keys.items():
        names = [tensor.name for tensor in left if _stack(tensor.name) == stack]
        depth = 1 + max(map(_layer, _loaded(report, stack)), default=-1)
        deepest = max(map(_layer, names), default=-1)
        if deepest >= depth:
            yield f"a deeper model; set config.model.{key}={deepest + 1}"
    if any("relative_attention_bias" in t.name or "relpos" in t.name for t in left):
        yield (
            "every layer has position biases of its own (is this umT5?); T5 1.0 and "
            "1.1, which can be read, share one between the layers of a stack"
        )


def _layer(name: str) -> int:
    """Which layer of its stack a tensor is of, from 0; -1 where of none."""
    found = re.search(r"(?:encoderblock_|layers_|\.layer\.|\.block\.)(\d+)", name)
    return int(found[1]) if found else -1


def _list(rows: Sequence[str]) -> str:
    more = [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "".join(f"\n  {row}" for row in [*rows[:_SHOWN], *more])


def _causes(
    report: MatchReport, wrong: Sequence[Tensor], missing: Sequence[Tensor]
) -> list[str]:
    """Guesses at what the user mixed up, each with the key that mends it."""
    unexpected = report.names("unexpected")
    lost = [tensor.name for tensor in missing]
    gated = [_any(names, *_GATED) for names in (unexpected, lost)]
    plain = [_any(names, *_PLAIN) for names in (unexpected, lost)]
    causes = []
    if gated[0] and plain[1]:
        causes.append("this is T5 1.1; set config.model.t5.gated=True")
    elif plain[0] and gated[1]:
        causes.append("this is T5 1.0; set config.model.t5.gated=False")
    rows = [tensor for tensor in wrong if tensor.name.endswith(_VOCABULARY)]
    if rows:
        sizes = [max(tensor.found or (0,)) for tensor in rows]
        causes.append(
            f"another vocabulary; set config.model.t5.vocab_size={max(sizes)} with the "
            "SentencePiece model it was trained with as config.input.vocabulary, or, if "
            "the pieces are the same, resize it (--resize_vocabulary of "
            "rahf.bin.import_weights)"
        )
    others = [tensor.name for tensor in wrong if tensor not in rows]
    if _any(others, "pos_embedding"):
        causes.append("with or without a class token; see config.model.vit.class_token")
    for part in ("vit", "t5"):
        sized = [n for n in others if n.startswith(part) and "pos_emb" not in n]
        if sized:
            causes.append(f"another size of model; see config.model.{part}")
    heads = [n for n in lost if "_predictor_" in n or "projection" in n]
    if heads:
        causes.append(
            "these heads are new in this model; let them start fresh by naming them, "
            f"config.init_expect_missing=({heads[0].split('/')[0] + '/*'!r}, ...)"
        )
    return causes


def _any(names: Iterable[str], *endings: str) -> bool:
    return any(name.endswith(endings) for name in names)
