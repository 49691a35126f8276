"""Chunks that would unpack to more than the array holds."""

import gzip

import numpy as np
import pytest
import tensorstore as ts

from rahf.weights import chunks


def _array(folder, compressor):
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(folder)},
        "metadata": {"chunks": [2, 3], "compressor": compressor, "shape": [3, 3]},
    }
    array = ts.open(spec, create=True, dtype=ts.float32).result()
    array.write(np.ones((3, 3), np.float32)).result()
    return array


def test_a_chunk_that_unpacks_to_more_is_refused(tmp_path):
    array = _array(tmp_path, {"id": "gzip"})
    chunks.check_sizes(array)
    (tmp_path / "1.0").write_bytes(gzip.compress(bytes(25)))
    with pytest.raises(
        ValueError, match="1.0 unpacks to 25 bytes, expected 24 at most"
    ):
        chunks.check_sizes(array)


def test_of_other_compressions_nothing_is_known(tmp_path):
    chunks.check_sizes(_array(tmp_path, None))
