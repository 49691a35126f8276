"""Rapidata's public rich feedback -> the dataset that rahf.bin.consolidate writes.

`Rapidata/text-2-image-Rich-Human-Feedback` on Hugging Face has one row for each image:

    image                  struct<bytes, path>
    prompt                 string
    word_scores            string, JSON: [["a", 0.2], ["cat,", 3.1], ["[No_mistakes]", 1]]
    alignment_score, coherence_score, style_score          float32, 1 to 5
    alignment_heatmap, coherence_heatmap    list<list<float16>> in [0, 1], may be null

These are sums over many people, whose answers were not published. A raters' file of them
would invent people, so they become labels at once: coherence is plausibility, style is
aesthetics, and (score - 1) / 4 is what consolidation makes of a mean. There is no overall
score. A map that is null was not asked for, and is unknown, not empty.

A word is misaligned if more weight says so than says that nothing is wrong. How many
people were asked is not published, so a majority cannot be told; but where this does not
hold, there was none.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rahf import durable, images, strict_json, words
from rahf.datasets import splits
from rahf.datasets.files import parquet
from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.datasets.ratings import consolidated

NO_MISTAKES = "[No_mistakes]"
# Column -> field of a record.
_SCORES = {
    "coherence_score": "artifact_score",
    "alignment_score": "misalignment_score",
    "style_score": "aesthetics_score",
}
_MAPS = {"coherence_heatmap": "artifact_map", "alignment_heatmap": "misalignment_map"}
_COLUMNS = ["image", "prompt", "word_scores", *_SCORES, *_MAPS]
_WORDS = "prompt_misalignment_label"
# Two heatmaps of a megapixel a row.
_AT_ONCE = 8
# float16 has eleven bits.
_ROUNDING = 2e-3


@dataclasses.dataclass(kw_only=True)
class RapidataReport:
    """Counts of what was written.

    Attributes:
      images: their number.
      splits: split -> number of images.
      labels: field -> number of images with this label.
      without_words: row -> why its words are unknown.
    """

    images: int = 0
    splits: dict[str, int] = dataclasses.field(default_factory=dict)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    without_words: dict[str, str] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """Returns the counts in words."""
        parts = ", ".join(f"{name} {n}" for name, n in sorted(self.splits.items()))
        labels = ", ".join(f"{name} {n}" for name, n in sorted(self.labels.items()))
        text = f"{self.images} images ({parts}); labels: {labels}"
        if self.without_words:
            text += (
                f"; the words of {len(self.without_words)} images are unknown, see "
                f"{consolidated.REPORT}"
            )
        return text


def write_dataset(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    map_size: int = 512,
) -> RapidataReport:
    """Writes the dataset `<output>/consolidated/1.0.0`, a few rows at a time.

    Args:
      source: a Parquet file, or a folder with `*.parquet` in it or below.
      output: the data directory.
      dev_share, test_share, seed: the splits, by prompt (`rahf.datasets.splits`).
      map_size: the longer side of maps at most, in pixels.

    Returns:
      The counts.

    Raises:
      ValueError: a file or row is wrong, or the dataset exists.
    """
    source = pathlib.Path(source)
    shards = parquet.find_shards(source, below=source.is_dir())
    prompts = [
        (f"{where}: {number}", row["prompt"])
        for where, number, row in _rows(shards, ["prompt"])
    ]
    groups = [splits.name_group(prompt or "", row) for row, prompt in prompts]
    cut = splits.cut(
        groups, seed=seed, dev_share=dev_share, test_share=test_share, option="--"
    ).tolist()
    target = DatasetFolder.in_data_dir(output, consolidated.NAME, consolidated.VERSION)
    target.prepare()
    from rahf.datasets.files import tfds_records  # imports TensorFlow when it writes

    report = RapidataReport()
    with target.writing():
        tfds_records.write(
            target,
            description="Rapidata's rich feedback, read by rahf.bin.annotate import.",
            splits=splits.SPLITS,
            records=_records(shards, cut, map_size, report),
        )
        durable.write_text(
            target.folder / consolidated.REPORT,
            json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False) + "\n",
        )
    return report


def _rows(
    shards: Sequence[pathlib.Path], columns: list[str]
) -> Iterator[tuple[pathlib.Path, int, dict[str, Any]]]:
    """Yields (file, row from 0, column -> pyarrow scalar; strings are decoded)."""
    for shard in shards:
        file, number = parquet.open_shard(shard, _COLUMNS), 0
        for batch in file.iter_batches(_AT_ONCE, columns=columns, use_threads=False):
            for at in range(batch.num_rows):
                row = {name: batch.column(name)[at] for name in columns}
                row["prompt"] = row["prompt"].as_py()
                yield shard, number, row
                number += 1


def _records(
    shards: Sequence[pathlib.Path], cut: list[str], map_size: int, report
) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, (shard, number, row) in enumerate(_rows(shards, _COLUMNS)):
        where = f"{shard}, row {number}"
        try:
            record = _record(row, f"rapidata-{index:06d}", map_size)
            try:
                record[_WORDS] = read_words(row["word_scores"].as_py(), row["prompt"])
            except ValueError as error:
                report.without_words[f"{shard.name}, row {number}"] = str(error)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        report.images += 1
        split = cut[index]
        report.splits[split] = report.splits.get(split, 0) + 1
        for field in (*_SCORES.values(), *_MAPS.values(), _WORDS):
            if field in record:
                report.labels[field] = report.labels.get(field, 0) + 1
        yield split, record


def _record(row: dict[str, Any], uid: str, map_size: int) -> dict[str, Any]:
    image, prompt = row["image"].as_py() or {}, row["prompt"]
    if not image.get("bytes"):
        raise ValueError("column 'image': expected bytes, got none")
    if not isinstance(prompt, str):
        raise ValueError(f"column 'prompt': expected text, got {prompt!r}")  # noqa: TRY004
    data = consolidated.encode_image(image["bytes"], images.read_image(image["bytes"]))
    record: dict[str, Any] = {
        "uid": uid,
        "filename": image.get("path") or uid,
        "image": data,
        "prompt": prompt,
    }
    for column, field in _SCORES.items():
        if (score := row[column].as_py()) is None:
            continue
        if not 1 <= score <= 5:
            raise ValueError(f"column {column!r}: expected 1 to 5, got {score}")
        record[field] = (score - 1) / 4
    for column, field in _MAPS.items():
        if (heatmap := _heatmap(column, row[column])) is not None:
            record[field] = consolidated.encode_map(_shrink(heatmap, map_size))
    return record


def _heatmap(column: str, cell: Any) -> np.ndarray | None:
    """Returns a heatmap as float32[H, W] in [0, 1], None if there is none."""
    if not cell.is_valid or not len(cell):
        return None
    rows = cell.values
    flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    lengths = rows.value_lengths().to_numpy(zero_copy_only=False)
    if rows.null_count or not flat.size or lengths.min() != lengths.max():
        raise ValueError(f"column {column!r}: expected rows of one length")
    if not (flat.min() >= -_ROUNDING and flat.max() <= 1 + _ROUNDING):  # nor NaN
        raise ValueError(
            f"column {column!r}: expected values from 0 to 1, got {flat.min():g} to "
            f"{flat.max():g}"
        )
    return np.clip(flat, 0, 1).reshape(len(rows), -1)


def _shrink(heatmap: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(heatmap.shape)
    if scale >= 1:
        return heatmap
    height, width = (max(1, round(n * scale)) for n in heatmap.shape)
    return images.resize(heatmap, (height, width))


def read_words(text: str | None, prompt: str) -> np.ndarray:
    """Returns the label of each word of a prompt, as `rahf.words.split` has them.

    Rapidata splits prompts at spaces, with punctuation in the words; a word here gets
    the highest score of those that it is part of.

    Args:
      text: the cell `word_scores`.
      prompt: the prompt.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned.

    Raises:
      ValueError: the cell is no such list, or its words are not the prompt's.
    """
    pairs = strict_json.loads(text) if text else None
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise ValueError(
            f"word_scores: expected [[word, score], ...], got {text!r:.60}"
        )
    scores = [(word, score) for word, score in pairs if word != NO_MISTAKES]
    nothing = [score for word, score in pairs if word == NO_MISTAKES]
    if len(nothing) != 1:
        raise ValueError(f"word_scores: expected one {NO_MISTAKES!r}")
    spans = words.spans(prompt)
    label, end = np.ones(len(spans), np.int8), 0
    for word, score in scores:
        start = prompt.find(word, end)
        if start < 0 or prompt[end:start].strip():
            raise ValueError(f"word_scores: {word!r:.60} does not follow in the prompt")
        end = start + len(word)
        if score > nothing[0]:
            label[[a < end and start < b for a, b in spans]] = 0
    if prompt[end:].strip():
        raise ValueError(f"word_scores: nothing about {prompt[end:]!r:.60}")
    return label


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], int | float)
        and bool(pair[0])
    )
