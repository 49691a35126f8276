"""Resizes parameters that depend on the image, patch or vocabulary size."""

import jax
import numpy as np


def grid(length: int) -> int:
    """Returns the grid side for a number of positions, with or without a class token.

    Returns:
      The side; 0 if the length is neither a square nor one more than a square.
    """
    for count in (length, length - 1):
        side = round(max(count, 0) ** 0.5)
        if side and side * side == count:
            return side
    return 0


def positions(embedding: np.ndarray, side: int) -> np.ndarray:
    """Resizes learned position embeddings to another grid.

    As vision_transformer and big_vision do when loading a checkpoint: linear
    interpolation with aligned corners (`scipy.ndimage.zoom` of order 1). The class
    token's position, if any, is unchanged.

    Args:
      embedding: float32[1, N, D], N a square, or one more than a square.
      side: the side of the new grid, in patches.

    Returns:
      float32[1, side * side (+ 1), D].
    """
    _, length, width = embedding.shape
    old = grid(length)
    head, table = np.split(embedding[0], [length - old * old])
    table = table.reshape(old, old, width)
    at = np.linspace(0, old - 1, side)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    share = (at - low).astype(np.float32)[:, None, None]
    for axes in ((0, 1, 2), (1, 0, 2)):  # rows, then columns
        rows_ = table.transpose(axes)
        high = rows_[np.minimum(low + 1, old - 1)]
        table = (rows_[low] * (1 - share) + high * share).transpose(axes)
    return np.concatenate([head, table.reshape(side * side, width)])[None]


def patches(kernel: np.ndarray, side: int) -> np.ndarray:
    """Resizes a patch embedding so that resized patches give the same tokens.

    The pseudo-inverse of bilinear resizing, section 3.4 of "FlexiViT" (Beyer et
    al., 2023), as big_vision does it.

    Args:
      kernel: float32[P, P, C, D].
      side: the patch side of the result.

    Returns:
      float32[side, side, C, D].
    """
    old = kernel.shape[0]
    # [side, old], one axis of the resizing of a patch.
    matrix = jax.image.resize(np.eye(old, dtype=np.float32), (side, old), "bilinear")
    inverse = np.linalg.pinv(np.asarray(matrix, np.float64).T)
    resized = np.einsum("ay,bx,yxcd->abcd", inverse, inverse, kernel)
    return resized.astype(np.float32)


def rows(table: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Truncates a table of pieces, or pads it with its mean.

    Args:
      table: float32[V, D] or float32[D, V].
      count: V of the result.
      axis: the axis of V.
    """
    kept = np.take(table, range(min(count, table.shape[axis])), axis=axis)
    mean = table.mean(axis=axis, keepdims=True)
    missing = count - kept.shape[axis]
    return np.concatenate([kept, np.repeat(mean, missing, axis=axis)], axis=axis)
