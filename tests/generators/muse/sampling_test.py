"""Sampling: which tokens are kept, by what they are drawn, and what stays as it was."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.generators.muse import sampling
from rahf.generators.muse.sampling import ORDERS, SamplingOptions

GRID, CODES = 4, 5
TEXT = jnp.asarray([[3, 1], [4, 1]])


def _keys(*seeds):
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))


def _fill(logits, options, tokens=None, unknown=None, seeds=(0, 1), text=TEXT):
    shape = (len(text), GRID, GRID)
    tokens = jnp.zeros(shape, jnp.int32) if tokens is None else tokens
    unknown = jnp.ones(shape, bool) if unknown is None else unknown
    return np.asarray(
        sampling.fill(logits, tokens, unknown, text, _keys(*seeds), options, CODES)
    )


def _certain(tokens, text):
    """The prompt's first piece says which code every token has."""
    return 50.0 * jax.nn.one_hot(text[:, :1, None] % CODES, CODES) + jnp.zeros(
        (*tokens.shape, CODES)
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, 3, 16, 40])
def test_nothing_stays_masked_and_the_prompt_decides(order, steps):
    options = SamplingOptions(steps=steps, guidance=1.0, order=order)
    found = _fill(_certain, options)
    assert (found[0] == 3).all() and (found[1] == 4).all()


def _counting(seen):
    def logits(tokens, text):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), (tokens == CODES))
        return jnp.zeros((*tokens.shape, CODES))

    return logits


@pytest.mark.parametrize("order", ORDERS)
def test_the_schedule_is_the_cosine_and_what_is_known_stays_known(order):
    seen = []
    options = SamplingOptions(steps=4, guidance=1.0, order=order)
    _fill(_counting(seen), options)
    jax.effects_barrier()
    counts = [masked.sum(axis=(1, 2)).tolist() for masked in seen]
    expected = [16] + [int(16 * np.cos(np.pi / 2 * t / 4)) for t in (1, 2, 3)]
    assert counts == [[n, n] for n in expected]
    for before, after in itertools.pairwise(seen):
        assert not (after & ~before).any()  # nothing is masked again


def test_known_tokens_are_kept_and_the_schedule_is_of_the_unknown_ones():
    unknown = np.zeros((2, GRID, GRID), bool)
    unknown[0, :2] = True  # eight of one image
    unknown[1, 0, 0] = True  # one of the other
    tokens = jnp.full((2, GRID, GRID), 2)
    for order in ORDERS:
        seen = []
        options = SamplingOptions(steps=4, guidance=1.0, order=order)
        found = _fill(_counting(seen), options, tokens, jnp.asarray(unknown))
        jax.effects_barrier()
        assert (found[~unknown] == 2).all() and (found < CODES).all()
        assert [int(masked[0].sum()) for masked in seen] == [8, 7, 5, 3]
        assert [int(masked[1].sum()) for masked in seen] == [1, 1, 1, 1]


def test_an_image_depends_on_its_own_seed_and_prompt_alone():
    logits = lambda tokens, text: (
        jax.random.normal(jax.random.key(5), (1, GRID, GRID, CODES))
        + 0.1 * text[:, :1, None, None] * jnp.ones((*tokens.shape, CODES))
    )
    options = SamplingOptions(steps=5, guidance=2.0, order="confidence")
    both = _fill(logits, options, seeds=(7, 8))
    alone = _fill(logits, options, seeds=(8,), text=TEXT[1:])
    np.testing.assert_array_equal(both[1], alone[0])
    assert (_fill(logits, options, seeds=(9, 8))[0] != both[0]).any()


def test_tokens_are_drawn_by_their_probabilities():
    share = jnp.asarray([0.5, 0.25, 0.125, 0.125, 0.0])
    logits = lambda tokens, text: jnp.log(share) + jnp.zeros((*tokens.shape, CODES))
    text = jnp.ones((200, 2), jnp.int32)
    options = SamplingOptions(steps=2, guidance=1.0)
    found = _fill(logits, options, seeds=range(200), text=text)
    counts = np.bincount(found.reshape(-1), minlength=CODES) / found.size
    np.testing.assert_allclose(counts, share, atol=0.03)


def test_guidance_goes_from_the_image_alone_beyond_the_prompt():
    """c = (0, x), u = (0, 0): the guided logit of the second code is s x."""

    def logits(tokens, text):
        prompted = (text[:, :1] != 0).astype(jnp.float32)[..., None, None]
        return prompted * jnp.log(jnp.asarray([1.0, 3.0, 0, 0, 0]) + 1e-9) + (
            1 - prompted
        ) * jnp.log(jnp.asarray([1.0, 1.0, 0, 0, 0]) + 1e-9) * jnp.ones(
            (*tokens.shape, CODES)
        )

    text = jnp.ones((300, 2), jnp.int32)
    for guidance, expected in ((0.0, 0.5), (1.0, 0.75), (2.0, 0.9)):
        options = SamplingOptions(steps=1, guidance=guidance)
        found = _fill(logits, options, seeds=range(300), text=text)
        assert abs((found == 1).mean() - expected) < 0.03


def test_tokens_under_a_mask_are_grown_by_one():
    masks = np.zeros((1, 16, 16), np.float32)
    masks[0, 7, 8] = 0.1  # token (1, 2) of four pixels
    found = np.asarray(sampling.tokens_under(jnp.asarray(masks), 4))[0]
    assert found.tolist() == [[False, True, True, True]] * 3 + [[False] * 4]
    exact = np.asarray(sampling.tokens_under(jnp.asarray(masks), 4, grow=0))[0]
    assert np.argwhere(exact).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps=0: expected at least 1"),
        ({"order": "random"}, "order='random'; known: halton, confidence"),
        ({"guidance": -1.0}, "guidance=-1.0 and"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**fields)
