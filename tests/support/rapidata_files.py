"""A Parquet file as Rapidata publishes its rich feedback, of a few small images."""

import io
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

#: The prompt of `make_row`.
PROMPT = "a yellow cat, on the-mat"
#: Its word scores.
SCORES = [["a", 0.0], ["yellow", 2.1], ["cat,", 0.9], ["on", 1.5], ["the-mat", 1.4],
          ["[No_mistakes]", 1.45]]  # fmt: skip
#: The columns on Hugging Face.
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("prompt", pa.string()),
        ("word_scores", pa.string()),
        ("alignment_score_norm", pa.float32()),
        ("coherence_score_norm", pa.float32()),
        ("style_score_norm", pa.float32()),
        ("alignment_heatmap", pa.list_(pa.list_(pa.float16()))),
        ("coherence_heatmap", pa.list_(pa.list_(pa.float16()))),
        ("alignment_score", pa.float32()),
        ("coherence_score", pa.float32()),
        ("style_score", pa.float32()),
    ]
)


def _image():
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 8, 7)).save(file, "JPEG")
    return file.getvalue()


def make_row(**fields: Any) -> dict[str, Any]:
    """Returns a row; its alignment heatmap is null, as where nobody was asked."""
    heatmap = np.zeros((16, 16), np.float16)
    heatmap[4:8, 8:12] = 0.5
    return {
        "image": {"bytes": _image(), "path": "x.jpg"},
        "prompt": PROMPT,
        "word_scores": json.dumps(SCORES),
        "alignment_heatmap": None,
        "coherence_heatmap": list(heatmap),
        "alignment_score": 2.5,
        "coherence_score": 4.0,
        "style_score": 1.0,
    } | fields


def write(path: pathlib.Path, *rows: dict[str, Any]) -> pathlib.Path:
    """Writes rows, absent columns as null, and returns the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row.get(name) for row in rows] for name in SCHEMA.names}
    pq.write_table(pa.table(columns, schema=SCHEMA), path)
    return path.parent
