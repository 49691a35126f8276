"""What the chunks of a zarr array say of their size, before they are unpacked.

tensorstore unpacks a chunk whole and compares its size afterwards: 4 MB of gzip may
become 4 GB. gzip says at its end how much it unpacks to. That finds a file that belongs
to another array or was damaged; not one that is made to lie, nor one of several gzip
members, nor chunks in a bucket or of another compression, all of which are unpacked
before their size is known. Take checkpoints from people you trust.
"""

import math
import pathlib
from typing import Any

import numpy as np
import tensorstore as ts


def check_sizes(array: ts.TensorStore) -> None:
    """Compares the chunks of a local array in gzip with the size that its shape gives.

    Raises:
      ValueError: a chunk unpacks to more bytes than it has values for, naming the file.
    """
    spec: dict[str, Any] = array.spec().to_json()
    compressor = spec.get("metadata", {}).get("compressor") or {}
    store = spec.get("kvstore", {})
    if compressor.get("id") != "gzip" or store.get("driver") != "file":
        return
    shape = [int(n or 1) for n in array.chunk_layout.read_chunk.shape or array.shape]
    most = math.prod(shape) * np.dtype(array.dtype.numpy_dtype).itemsize
    for path in sorted(pathlib.Path(store["path"]).iterdir()):
        if path.name.startswith("."):
            continue  # .zarray
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4))
            unpacked = int.from_bytes(file.read(4), "little")  # modulo 4 GiB
        if unpacked > most:
            raise ValueError(
                f"{path} unpacks to {unpacked:,} bytes, expected {most:,} at most"
            )
