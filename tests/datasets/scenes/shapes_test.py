"""Every kind and texture can be told from every other."""

import numpy as np
import pytest

from rahf.datasets.scenes import grammar, shapes


def test_shapes_and_textures():
    tiles = [shapes.tile(kind, 32, 32, 0) for kind in grammar.KINDS]
    for i, one in enumerate(tiles):
        body = np.isin(one, (shapes.Paint.BODY, shapes.Paint.SHADE))
        assert body.mean() > 0.2
        assert all(np.mean((one > 0) != (o > 0)) > 0.04 for o in tiles[:i])
    patterns = [shapes.pattern(texture, 32, 32) for texture in grammar.TEXTURES]
    for i, one in enumerate(patterns):
        assert 0.2 < one.mean() < 0.6
        assert all(np.mean(one != other) > 0.2 for other in patterns[:i])
    with pytest.raises(ValueError, match="unknown texture"):
        shapes.pattern("furry", 8, 8)
