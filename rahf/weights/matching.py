"""Matches a checkpoint's tensors to a model's parameters, and reports on each.

Parameters are flat here: {"vit/cls": array}, with names joined by "/".
"""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from rahf import storage
from rahf.weights import resizing, values

#: The report on every tensor, beside the config of a run or an import.
REPORT_FILE = "weights.json"

_SHOWN = 8  # tensors listed in an error
# Parameters of the MLP, under our names and Hugging Face's.
_GATED = ("mlp/wi_0/kernel", "DenseReluDense.wi_0.weight")
_PLAIN = ("mlp/wi/kernel", "DenseReluDense.wi.weight")
_VOCABULARY = ("token_embedder/embedding", "logits_dense/kernel")
#: In the hub's files of T5 1.0, but unused.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """The outcome for one tensor.

    Attributes:
      name: name of the parameter, "/" for nesting.
      status: "loaded", "resized", "missing" (starts fresh) or "unexpected" (in the
        checkpoint, not in the model; left out).
      shape: shape of the parameter; of the checkpoint's tensor if unexpected.
      found: the checkpoint's shape, if it was resized.
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
    """The outcome for every tensor of the model and the checkpoint.

    Attributes:
      source: the checkpoint's origin.
      tensors: the outcome for each tensor.
      notes: sentences on what could not be checked.
    """

    source: str
    tensors: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()

    def names(self, status: str) -> list[str]:
        return [tensor.name for tensor in self.tensors if tensor.status == status]

    def summary(self) -> str:
        """Returns a line of counts, a line per tensor not simply loaded, and notes."""
        statuses = ("loaded", "resized", "missing", "unexpected")
        counts = ", ".join(f"{len(self.names(s))} {s}" for s in statuses)
        rows = [_row(tensor) for tensor in self.tensors if tensor.status != "loaded"]
        notes = [f"Note: {note}" for note in self.notes]
        return "\n".join([f"{self.source}: {counts}", *rows, *notes])

    def write(self, folder) -> None:
        """Writes `REPORT_FILE` into a folder."""
        rows = [dataclasses.asdict(tensor) for tensor in self.tensors]
        report = {"source": self.source, "tensors": rows, "notes": self.notes}
        path = storage.place(folder) / REPORT_FILE
        storage.write_text(path, json.dumps(report, indent=1) + "\n")


def _row(tensor: Tensor) -> str:
    was = f" from {list(tensor.found)}" if tensor.found else ""
    return f"  {tensor.status:<10} {tensor.name} {list(tensor.shape)}{was}"


def flatten(tree) -> dict[str, Any]:
    """Flattens nested dicts to {"a/b": leaf}."""
    return dict(traverse_util.flatten_dict(tree, sep="/"))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverts `flatten`."""
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

    Tensors with equal names and shapes are loaded. A ViT's position and patch
    embeddings are resized if only the grid or the patch size differs. Heads and poolers
    of the checkpoint may be left over, but every tensor of a loaded stack must have a
    place, or the model would compute something else.

    Args:
      wanted: flat parameters, arrays or abstract ones.
      found: flat tensors of the checkpoint, under the model's names.
      source: the tensors' origin, for the report and errors.
      expect_missing: glob patterns of the parameters that may be missing, such as
        "heatmap_predictor_*"; "*" also matches "/".
      resize_vocabulary: whether to copy the rows of the vocabulary that both sides
        have; further rows start as the mean row.

    Returns:
      (loaded, report): float32 arrays by name, without the missing ones.

    Raises:
      ValueError: a shape differs, a parameter that no pattern matches is missing, or a
        tensor is left over inside a stack (gives shapes and the likely cause); or
        values are not floating point or not finite.
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
        with np.errstate(over="ignore"):  # from float64; refused below
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
    """Returns a function that resizes a tensor to the wanted shape, or None."""
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
    """Raises ValueError if shapes differ, or tensors are missing or left over."""
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
            f"{t.name}: {list(t.found or ())} in the checkpoint, {list(t.shape)} in "
            "the model"
            for t in wrong
        ]
        parts.append(f"{len(wrong)} tensors have other shapes:" + _list(rows))
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
    """Returns the unexpected tensors of stacks from which other tensors were loaded."""
    stacks = {_stack(tensor.name) for tensor in report.tensors if tensor.is_loaded}
    return [
        tensor
        for tensor in report.tensors
        if tensor.status == "unexpected"
        and not tensor.name.endswith(_UNUSED)
        and _stack(tensor.name) in stacks - {""}
    ]


def _stack(name: str) -> str:
    """Returns a tensor's stack of layers, by our name or Hugging Face's; "" = none."""
    if name.startswith(("vit/Transformer/", "vit.encoder.")):
        return "vit"
    if match := re.match(r"t5[/.](encoder|decoder)[/.]", name):
        return f"t5.{match[1]}"
    return ""


def _loaded(report: MatchReport, stack: str) -> list[str]:
    return [t.name for t in report.tensors if t.is_loaded and _stack(t.name) == stack]


def _causes_of_left(report: MatchReport, left: Sequence[Tensor]) -> Iterator[str]:
    """Yields guesses at why the checkpoint has more layers, or larger ones."""
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
            "every layer has its own position bias (is this umT5?); only T5 1.0 and "
            "1.1 are supported, whose layers share one per stack"
        )


def _layer(name: str) -> int:
    """Returns the index of a tensor's layer in its stack; -1 if it has none."""
    found = re.search(r"(?:encoderblock_|layers_|\.layer\.|\.block\.)(\d+)", name)
    return int(found[1]) if found else -1


def _list(rows: Sequence[str]) -> str:
    more = [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "".join(f"\n  {row}" for row in [*rows[:_SHOWN], *more])


def _causes(
    report: MatchReport, wrong: Sequence[Tensor], missing: Sequence[Tensor]
) -> list[str]:
    """Returns guesses at the user's mistake, each with the key to change."""
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
            f"another vocabulary; set config.model.t5.vocab_size={max(sizes)} and "
            "config.input.vocabulary to the SentencePiece model it was trained with, "
            "or, if the pieces are the same, resize it (--resize_vocabulary of "
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
            "these heads are new in this model; to let them start fresh, set "
            f"config.init_expect_missing=({heads[0].split('/')[0] + '/*'!r}, ...)"
        )
    return causes


def _any(names: Iterable[str], *endings: str) -> bool:
    return any(name.endswith(endings) for name in names)
