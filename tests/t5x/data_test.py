"""T5X's side of the data, as far as it runs without T5X."""

import jax
import numpy as np
import pytest
import seqio

from rahf.input.loader import make_eval_batches
from rahf.t5x import data
from rahf.weights import matching
from tests.support import tiny


def test_a_row_is_one_of_our_batch():
    config = tiny.config()
    config.input.update(image_size=64, loader="seqio")
    config.task.modules = ("tasks.scenes",)
    data.serve(config)
    converter = data.make_feature_converter(config)(pack=False)
    lengths = data.task_feature_lengths(config)
    task = seqio.get_mixture_or_task(config.task.name)
    dataset = task.get_dataset(
        sequence_length=lengths, split="dev", shuffle=False, try_in_mem_cache=False
    )
    rows = list(converter(dataset.take(2), lengths).as_numpy_iterator())
    batches = make_eval_batches(
        config, split="dev", targets=config.task.targets, batch_size=2, examples=2
    )
    [(batch, _)] = list(batches)
    assert rows[0].keys() == converter.MODEL_FEATURES.keys()
    for i, row in enumerate(rows):
        ours = matching.flatten(jax.tree.map(lambda x, i=i: x[i], batch))
        assert ours.keys() == row.keys()
        for name, value in row.items():
            np.testing.assert_array_equal(value, ours[name])
    needed = converter.get_model_feature_lengths(lengths)
    assert needed["inputs"] == config.input.text_length
    with pytest.raises(ValueError, match="TASK_FEATURE_LENGTHS has {'inputs': 3}, but"):
        converter(dataset, lengths | {"inputs": 3})
    with pytest.raises(ValueError, match="images cannot be packed"):
        data.make_feature_converter(config)(pack=True)
