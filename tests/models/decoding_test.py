"""Decoding: against teacher forcing, and what the constraint promises."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import decoding
from rahf.models.batch import example_batch
from rahf.models.rahf import RAHF, make_model
from tests.support import step_by_step, tiny


@pytest.fixture(scope="module")
def encoded():
    config = tiny.config()
    model, batch = make_model(config), tiny.batch(config)
    # Those of a new model: random ones are never sure of a mark.
    key, example = jax.random.key(0, impl="rbg"), example_batch(config)
    variables = jax.jit(lambda: nn.unbox(model.init(key, example)))()

    @jax.jit
    def encode(image, inputs):
        tokens = model.apply(variables, image, method=RAHF.encode_image)
        encoding = model.apply(variables, tokens, inputs, method=RAHF.encode)
        return encoding.feature_map, encoding.memory, encoding.memory_mask

    encoding = decoding.Encoding(*encode(batch["image"], batch["inputs"]))
    return model, variables, encoding, batch


def _say(model, variables, encoding, said):
    """Teacher forcing: the logits of each piece."""
    run = jax.jit(
        lambda said: model.apply(variables, encoding, said, method=RAHF.decode)
    )
    return np.asarray(run(said))


def test_greedy_says_what_teacher_forcing_finds_likeliest(encoded):
    model, variables, encoding, _ = encoded
    said = np.asarray(decoding.greedy(model, variables, encoding, 10))
    logits = _say(model, variables, encoding, said)
    of_said = np.take_along_axis(logits, said[..., None], axis=-1)[..., 0]
    before_end = np.cumsum(said == decoding.EOS_ID, axis=1) == 0
    assert before_end.sum() > 10
    # Not argmax itself: of two that are all but alike, rounding chooses.
    behind = (logits.max(-1) - of_said)[before_end]
    assert behind.max() < 1e-3 < np.std(logits)


@pytest.mark.parametrize("mark_ids", [(5,), (5, 9)])
def test_constrained_probabilities_are_those_of_teacher_forcing(encoded, mark_ids):
    """Rebuild, a word at a time, the text that was decided on; at each word end the
    probability of the suffix must be the reported one."""
    model, variables, encoding, batch = encoded
    prompt, ends = batch["prompt"], batch["word_ends"]
    marks = np.asarray(
        decoding.constrained(
            model, variables, encoding, jnp.asarray(prompt), jnp.asarray(ends), mark_ids
        )
    )
    assert (marks[ends == 0] == 0).all()
    assert ((marks > 0) & (marks < 1))[ends == 1].all()
    assert (marks > 0.5).any() and (marks[ends == 1] < 0.5).any()

    length = prompt.shape[1] * 2
    said = np.zeros((len(prompt), length), np.int32)
    decisions = []
    for row, (pieces, is_end) in enumerate(zip(prompt, ends, strict=True)):
        text: list[int] = []
        for position, piece in enumerate(pieces[pieces != 0]):
            text.append(piece)
            if is_end[position]:
                decisions.append((row, len(text), position))
                if marks[row, position] > 0.5:
                    text.extend(mark_ids)
        said[row, : len(text)] = text
    logits = _say(model, variables, encoding, said)
    for row, at, position in decisions:
        odds = np.exp(logits[row, at] - logits[row, at].max())
        expected = odds[mark_ids[0]] / odds.sum()
        np.testing.assert_allclose(marks[row, position], expected, atol=2e-4)


def test_constrained_does_not_depend_on_neighbours(encoded):
    model, variables, encoding, batch = encoded
    run = jax.jit(
        lambda e, p, w: decoding.constrained(
            model, variables, decoding.Encoding(*e), p, w, (5,)
        )
    )
    parts = (encoding.feature_map, encoding.memory, encoding.memory_mask)
    whole = run(parts, batch["prompt"], batch["word_ends"])
    one = run(
        tiny.take(parts, slice(3, 4)), batch["prompt"][3:4], batch["word_ends"][3:4]
    )
    np.testing.assert_allclose(one[0], whole[3], atol=1e-5)


def _biased(config, bias, spread, mark_id):
    """Parameters of a model that marks words here and there.

    Every token carries a constant through the decoder, by which the output layer can
    prefer the mark; `spread` is how much else the mark depends on.
    """
    params = tiny.params(config, seed=3)
    table = params["t5"]["token_embedder"]["embedding"].at[:, 0].set(8.0)
    kernel = params["t5"]["decoder"]["logits_dense"]["kernel"].at[0].set(0.0)
    kernel = kernel.at[1:, mark_id].multiply(spread).at[0, mark_id].set(bias)
    params["t5"]["token_embedder"]["embedding"] = table
    params["t5"]["decoder"]["logits_dense"]["kernel"] = kernel
    return {"params": params}


def _prompts(rows, width, seed):
    """Prompts of every length, and where their words end."""
    rng = np.random.default_rng(seed)
    pieces = rng.integers(10, 400, (rows, width))
    end = np.linspace(0, width - 1, rows).astype(int)[:, None]
    places = np.arange(width)
    pieces = np.where(places < end, pieces, places == end)
    ends = (places < end) & ((rng.random(pieces.shape) < 0.7) | (places == end - 1))
    return pieces.astype(np.int32), ends.astype(np.int32)


@pytest.mark.parametrize("width", [12, 75])
@pytest.mark.parametrize("mark_ids", [(5,), (5, 9, 7)])
def test_constrained_is_decoding_step_by_step(width, mark_ids):
    """Marks in many places, prompts below and above a window, batches of many."""
    config = tiny.config()
    config.model.t5.update(gated=True, decoder_layers=2)
    model, rows, length = make_model(config), 24, 9
    rng = np.random.default_rng(width)
    memory = rng.standard_normal((rows, length, 64), np.float32)
    mask = np.arange(length) < rng.integers(2, length + 1, (rows, 1))

    def encode(memory, mask):
        return decoding.Encoding(memory, memory, mask)

    at_once, by_step = (
        jax.jit(
            lambda variables, memory, mask, prompt, ends, decode=decode: decode(
                model, variables, encode(memory, mask), prompt, ends, mark_ids
            )
        )
        for decode in (decoding.constrained, step_by_step.constrained)
    )
    seen = set()
    for seed, (bias, spread) in enumerate(((0.9, 8), (1.3, 8), (-9, 1), (9, 1))):
        variables = _biased(config, bias, spread, mark_ids[0])
        given = (variables, memory, mask, *_prompts(rows, width, seed))
        found, expected = np.asarray(at_once(*given)), np.asarray(by_step(*given))
        for row, ends in enumerate(given[-1] > 0):
            chances = expected[row, ends]
            if (abs(chances - 0.5) < 1e-4).any():
                continue  # rounding decides
            np.testing.assert_allclose(found[row], expected[row], atol=1e-5)
            marks = (chances > 0.5).tolist()
            np.testing.assert_array_equal(found[row, ends] > 0.5, marks)
            seen |= {_where(marks)} if marks else {"no words"}
    assert seen >= {"no words", "none", "all", "first", "last", "both ends", "between"}


def _where(marks):
    if all(marks) or not any(marks):
        return "all" if all(marks) else "none"
    ends = ("", "last"), ("first", "both ends")
    return ends[marks[0]][marks[-1]] or "between"


def test_a_prompt_without_marks_is_read_once(encoded):
    """However long: a pass for each window; and one more for each mark at most."""
    config = tiny.config()
    config.model.t5.gated = True
    model, passes = make_model(config), []

    class Counted:
        def apply(self, variables, *args, method):
            if method is RAHF.decode_step:
                jax.debug.callback(lambda: passes.append(1))
            return model.apply(variables, *args, method=method)

    prompt, ends = _prompts(4, 40, seed=0)
    memory = np.ones((4, 3, 64), np.float32)
    encoding = decoding.Encoding(memory, memory, np.ones((4, 3), bool))
    run = jax.jit(
        lambda v: decoding.constrained(Counted(), v, encoding, prompt, ends, (5,))
    )
    for bias, least, most in ((-9, 2, 2), (9, 3, ends.sum(axis=1).max() + 2)):
        passes.clear()
        marks = np.asarray(run(_biased(config, bias, 1, 5)))
        jax.effects_barrier()
        assert (marks > 0.5).any() == (bias > 0)
        assert least <= len(passes) <= most


@pytest.mark.parametrize("mark_ids", [(), (5,), (5, 9, 7)])
def test_a_text_that_is_expected_changes_only_the_time(mark_ids):
    """Whether it says that text, that text with suffixes, or something else."""
    config = tiny.config()
    config.model.t5.update(gated=True, decoder_layers=2)
    model, rows, passes = make_model(config), 12, []

    class Counted:
        def apply(self, variables, *args, method):
            if method is RAHF.decode_step:
                jax.debug.callback(lambda: passes.append(1))
            return model.apply(variables, *args, method=method)

    rng = np.random.default_rng(0)
    memory = rng.standard_normal((rows, 9, 64), np.float32)
    encoding = decoding.Encoding(memory, memory, np.ones((rows, 9), bool))
    variables = _biased(config, -9, 1, 5)
    plain = jax.jit(lambda v: decoding.greedy(model, v, encoding, 40))
    expected = np.asarray(plain(variables))
    assert len(np.unique(expected)) > 20
    run = jax.jit(
        lambda v, prompt: decoding.greedy(Counted(), v, encoding, 40, prompt, mark_ids)
    )
    other = rng.permuted(expected, axis=1)
    changed = np.where(rng.random(expected.shape) < 0.1, 3, expected)
    without = np.pad(expected[:, 1:], ((0, 0), (0, 1)))  # as after an omission
    most = {}
    for name, prompt in (
        ("right", expected),
        ("short", expected[:, :20]),
        ("changed", changed),
        ("without", without),
        ("other", other),
    ):
        passes.clear()
        np.testing.assert_array_equal(run(variables, prompt), expected, err_msg=name)
        jax.effects_barrier()
        most[name] = len(passes)
    assert most["right"] == 2 < most["changed"] < most["other"] <= 40
    assert most["short"] >= 10  # token by token where nothing is expected any more


def test_suffixes_are_expected_once_they_begin():
    guess = lambda *expected: decoding._guess(
        jnp.array([[11, 12, 13, 1]]),
        tuple(jnp.array([each]) for each in expected),
        (5, 9, 7),
        5,
    ).tolist()[0]
    expect = lambda expected, agreed, odd, mark_ids=(5, 9, 7): tuple(
        each.tolist()[0]
        for each in decoding._expect(
            tuple(jnp.array([e]) for e in expected),
            jnp.array([agreed]),
            jnp.array([odd]),
            mark_ids,
        )
    )
    assert guess(0, 0) == [11, 12, 13, 1, 0]
    assert guess(1, 1) == [9, 7, 12, 13, 1]
    assert guess(1, 2) == [7, 12, 13, 1, 0]
    assert expect((0, 0), 2, 5) == (2, 1)  # a suffix begins after two pieces
    assert expect((2, 1), 2, 40) == (3, 0)  # it ends, and a piece is replaced
    assert expect((2, 1), 1, 40) == (2, 0)  # it is broken off
    assert expect((2, 1), 3, 5) == (3, 1)  # the next word has one, too
    assert expect((0, 0), 5, -1) == (5, 0)  # as expected to the end of the window
    assert expect((2, 1), 1, -1) == (2, 2)  # a window ends within a suffix
    assert expect((0, 0), 2, 5, (5,)) == (2, 0)  # of one piece
    assert expect((0, 0), 2, 40, ()) == (3, 0)
