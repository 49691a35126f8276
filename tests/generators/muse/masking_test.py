"""Which tokens are masked."""

import jax
import numpy as np

from rahf.generators.muse import masking


def test_the_share_of_masked_tokens_follows_the_cosine():
    masks = np.asarray(masking.training_masks(jax.random.key(0), 4000, 8, 0.0))
    shares = masks.mean(axis=(1, 2))
    assert shares.min() >= 1 / 64
    # Of cos(pi r / 2), r uniform: the mean is 2 / pi, the median cos(pi / 4); half a
    # token more, since shares are rounded up.
    np.testing.assert_allclose(shares.mean(), 2 / np.pi + 0.5 / 64, atol=0.01)
    np.testing.assert_allclose(np.median(shares), 0.5**0.5, atol=0.02)
    # No place is masked more often than another.
    np.testing.assert_allclose(masks.mean(axis=0), 2 / np.pi, atol=0.04)


def test_rectangles_are_whole():
    masks = np.asarray(masking.training_masks(jax.random.key(1), 500, 16, 1.0))
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside.all() and mask.sum() == inside.size
        assert min(inside.shape) >= 2
    heights = {int(mask.any(1).sum()) for mask in masks}
    assert heights == set(range(2, 17))
    assert masks[:, 0].any() and masks[:, -1].any()  # they reach the edges
    mixed = np.asarray(masking.training_masks(jax.random.key(2), 500, 16, 0.25))
    whole = sum(_is_rectangle(mask) for mask in mixed)
    assert 80 < whole < 190  # 125, and those of a single token or nearly all


def _is_rectangle(mask):
    return mask.any(1).sum() * mask.any(0).sum() == mask.sum()


def test_halton_order_has_every_place_once_and_spreads_them():
    order = masking.halton_order(16)
    assert sorted(order.reshape(-1).tolist()) == list(range(256))
    for count in (16, 32, 64):
        rows, columns = np.nonzero(order < count)
        # As many in each quarter, and no two side by side among the first.
        quarters = np.bincount(2 * (rows // 8) + columns // 8, minlength=4)
        assert quarters.max() - quarters.min() <= 3
    rows, columns = np.nonzero(order < 16)
    apart = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    assert apart[~np.eye(16, dtype=bool)].min() >= 2
