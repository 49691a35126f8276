"""Which parameters a checkpoint holds, wherever its workdir lies."""

import hashlib
import json
from typing import Any

import jax
import numpy as np

from rahf import storage
from rahf.checkpoints.checksums import CHECKSUMS_FILE
from rahf.checkpoints.workdir import CHECKPOINTS, folder
from rahf.weights import matching


def digest_of(workdir, step: int, params: Any) -> str:
    """Returns a digest that a copy of the checkpoint shares and a new training changes.

    Args:
      workdir: a workdir, or a folder that rahf.bin.export wrote.
      step: of the parameters.
      params: the parameters; they are read only where the step has no checksums.

    Returns:
      "files:<hex>", of the checksums that were written with the step, or else
      "arrays:<hex>". Digests of two kinds say nothing of each other.
    """
    path = folder(workdir) / CHECKPOINTS / str(step) / CHECKSUMS_FILE
    found = hashlib.sha256()
    if path.is_file():
        files = json.loads(storage.read_bytes(path))["files"]
        found.update(json.dumps(files, sort_keys=True).encode())
        return f"files:{found.hexdigest()[:32]}"
    for name, value in sorted(matching.flatten(params).items()):
        array = np.ascontiguousarray(jax.device_get(value))
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.tobytes())
    return f"arrays:{found.hexdigest()[:32]}"
