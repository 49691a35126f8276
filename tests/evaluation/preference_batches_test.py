"""How many images a model's scorer holds decoded at the same time."""

import io
import types

import numpy as np
import pytest
from PIL import Image

from rahf.datasets.preference_pairs import Pair
from rahf.evaluation import preference_scores
from rahf.inference import stream


def _png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 5), (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


class _Predictor:
    def __init__(self):
        self.calls = []

    def predict(self, pictures, prompts, batch_size):
        self.calls.append((len(pictures), batch_size))
        assert len(pictures) == len(prompts)
        return [types.SimpleNamespace(scores={"overall": p.mean()}) for p in pictures]


@pytest.mark.parametrize(
    ("limit", "calls"),
    # A pair takes 2 * 4 * 5 * 3 = 120 bytes; a larger one than the limit is alone.
    [(10**6, [4, 4, 2]), (240, [4, 4, 2]), (239, [2] * 5), (1, [2] * 5)],
)
def test_pairs_are_flushed_by_bytes_and_by_number(monkeypatch, limit, calls):
    monkeypatch.setattr(stream, "BATCH_BYTES", limit)
    pairs = [
        Pair((f"{n}a", f"{n}b"), "x", 1.0, (_png(n), _png(n + 100)), f"row {n}")
        for n in range(5)
    ]
    predictor = _Predictor()
    scored = preference_scores.by_model(predictor, batch_size=4)(pairs)
    assert predictor.calls == [(number, 4) for number in calls]
    values = [[each["overall"] for each in pair] for pair in scored]
    np.testing.assert_array_equal(values, [[n, n + 100] for n in range(5)])
