"""Operations, collectives and memory of functions whose costs are known on paper."""

import jax
import jax.numpy as jnp
import pytest

from rahf.benchmarks.counting import count

WIDTH = 32
PRODUCT = 2 * WIDTH**3  # operations of one product of two matrices
MATRIX = jnp.ones((WIDTH, WIDTH))
# A network of two layers: 8 examples, 16 -> 64 -> 4.
B, D, F, O = 8, 16, 64, 4
X = jax.ShapeDtypeStruct((B, D), jnp.float32)
WEIGHTS = {
    "in": jax.ShapeDtypeStruct((D, F), jnp.float32),
    "out": jax.ShapeDtypeStruct((F, O), jnp.float32),
}


def _loss(weights, x):
    return (jnp.square(jax.nn.relu(x @ weights["in"]) @ weights["out"])).sum()


def _train(weights, x):
    gradients = jax.grad(_loss)(weights, x)
    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients)


def _count(function, *arguments, **options):
    return count(jax.jit(function).trace(*arguments).jaxpr, **options)


def _flops(function, *arguments):
    return _count(function, *arguments).flops


def _train_on(splits, **axes):
    found = _count(
        _train, WEIGHTS, X, axes=axes, inputs=[*splits, {}], outputs=list(splits)
    )
    exchanged = {key: tuple(value) for key, value in found.collectives.items()}
    return found, exchanged


def test_a_network_on_paper():
    forward = 2 * B * D * F + 2 * B * F * O
    assert _flops(_loss, WEIGHTS, X) == forward
    # Backward, each product has two; but nobody asks for the gradient of the input.
    backward = 2 * B * D * F + 2 * (2 * B * F * O)
    found, exchanged = _train_on([{}, {}])
    assert found.flops == found.device_flops == forward + backward
    assert not exchanged


def test_data_adds_gradients():
    found, exchanged = _train_on([{}, {}], data=4)
    assert exchanged == {("all-reduce", "data"): (4 * (D * F + F * O), 2)}
    assert found.flops == found.device_flops


def test_fsdp_gathers_parameters_and_scatters_gradients():
    _, exchanged = _train_on([{"fsdp": 0}, {"fsdp": 1}], data=2, fsdp=4)
    # Forward both; backward the second alone, for the gradient of its input.
    assert exchanged == {
        ("all-gather", "fsdp"): (4 * (D * F + 2 * F * O), 3),
        ("reduce-scatter", "fsdp"): (4 * (D * F + F * O), 2),
        ("all-reduce", "data"): (4 * (D * F + F * O) / 4, 2),
    }


def test_an_axis_that_does_not_divide_leaves_a_parameter_whole():
    _, exchanged = _train_on([{"fsdp": 0}, {"fsdp": 1}], fsdp=8)
    assert exchanged["all-gather", "fsdp"] == (4 * D * F, 1)
    assert exchanged["all-reduce", "fsdp"] == (4 * F * O, 1)


def test_model_shares_the_work_and_adds_activations():
    found, exchanged = _train_on([{"model": 1}, {"model": 0}], model=2)
    assert found.device_flops == found.flops / 2
    assert exchanged == {("all-reduce", "model"): (4 * B * O, 1)}
    whole, _ = _train_on([{}, {}], model=2)  # nothing is split: all do all
    assert whole.device_flops == whole.flops == found.flops


def test_heads_stay_split_through_changes_of_shape():
    def attend(weights, x):  # [B, 16] -> 4 heads of 16 -> [B, 64] -> [B, 4]
        heads = (x @ weights["in"]).reshape(B, 4, 16).transpose(1, 0, 2)
        scores = jnp.einsum("hbk,hck->hbc", heads, heads)
        mixed = jnp.einsum("hbc,hck->bhk", scores, heads).reshape(B, F)
        return mixed @ weights["out"]

    splits = [{"model": 1}, {"model": 0}, {}]
    found = _count(attend, WEIGHTS, X, axes={"model": 4}, inputs=splits)
    assert found.device_flops == found.flops / 4
    assert found.collectives["all-reduce", "model"] == [4 * B * O, 1]


@pytest.mark.parametrize("trips", [0, 1, 6])
def test_a_scan_counts_its_trips(trips):
    def layers(x):
        body = lambda x, _: (jnp.tanh(x @ MATRIX), None)
        return jax.lax.scan(body, x, None, length=trips)[0].sum()

    assert _flops(layers, MATRIX) == trips * PRODUCT
    # Backward there is another product a trip: of the gradient.
    assert _flops(jax.grad(layers), MATRIX) == 2 * trips * PRODUCT


def test_scans_in_scans_and_in_what_is_computed_again():
    def inner(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ MATRIX, x)

    def outer(x):
        body = lambda x, _: (jax.checkpoint(inner)(jax.jit(inner)(x)), None)
        return jax.lax.scan(body, x, None, length=5)[0]

    assert _flops(outer, MATRIX) == 5 * 2 * 3 * PRODUCT


def test_remat_repeats_the_forward_pass():
    def block(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def loss(w, block):
        body = lambda x, w: (block(x, w), None)
        return jax.lax.scan(body, MATRIX, w)[0].sum()

    stack = jnp.ones((3, WIDTH, WIDTH))
    plain = _flops(jax.grad(lambda w: loss(w, block)), stack)
    again = _flops(jax.grad(lambda w: loss(w, jax.checkpoint(block))), stack)
    assert plain == 3 * 6 * PRODUCT
    assert again == 3 * 8 * PRODUCT
    policy = jax.checkpoint_policies.dots_saveable
    kept = jax.checkpoint(block, policy=policy)
    assert _flops(jax.grad(lambda w: loss(w, kept)), stack) == plain


def test_custom_rules_and_the_longer_branch():
    @jax.custom_vjp
    def double(x):
        return x @ MATRIX

    double.defvjp(lambda x: (x @ MATRIX, None), lambda _, g: (g @ MATRIX @ MATRIX,))
    assert _flops(double, MATRIX) == PRODUCT
    assert _flops(jax.grad(lambda x: double(x).sum()), MATRIX) == 3 * PRODUCT

    def either(x):
        long, short = (
            lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, x: x @ MATRIX, x)
            for n in (5, 2)
        )
        return jax.lax.cond(x[0, 0] > 0, long, short, x)

    assert _flops(either, MATRIX) == 5 * PRODUCT


def test_a_loop_of_unknown_trips_is_counted_once_and_named():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ MATRIX, x)

    found = _count(loop, MATRIX)
    assert (found.flops, found.unknown_loops) == (PRODUCT, 1)


def test_convolutions_without_the_zeros_between():
    image, kernel = jnp.ones((1, 10, 10, 3)), jnp.ones((3, 3, 3, 7))
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolve(image, **options):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=numbers, **options
        )

    assert _flops(convolve, image) == 2 * 10 * 10 * 7 * 3 * 3 * 3
    dilated = lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 2), (1, 2)), (2, 2), dimension_numbers=numbers
    )
    assert _flops(dilated, image) == 2 * 20 * 20 * 7 * 3 * 3 * 3 / 4


def test_memory_is_held_from_made_to_last_read():
    size = 4 * WIDTH**2

    def chain(x):  # each product is read by the next alone: two are held at a time
        for _ in range(5):
            x = jnp.square(x @ MATRIX)
        return x

    assert _count(chain, MATRIX).peak_bytes == 2 * size

    def loss(x):  # all five stay for the backward pass, and a gradient is made
        return jnp.square(chain(x)).sum()

    assert _count(jax.grad(loss), MATRIX).peak_bytes == 6 * size
    again = jax.checkpoint(chain)
    kept = _count(jax.grad(lambda x: jnp.square(again(again(x))).sum()), MATRIX)
    plain = _count(jax.grad(lambda x: jnp.square(chain(chain(x))).sum()), MATRIX)
    assert kept.peak_bytes < 0.7 * plain.peak_bytes


def test_traffic_of_a_product():
    found = _count(lambda x, y: jnp.tanh(x) @ y, MATRIX, MATRIX)
    assert found.hbm_bytes == 3 * 4 * WIDTH**2  # two read, one written
    update = _count(lambda x, y: (x + y, x * y), MATRIX, MATRIX)
    assert update.hbm_bytes == 4 * 4 * WIDTH**2  # in one pass

    def residual(x):
        y = x @ MATRIX + x  # is what the product writes: three read, one written
        return y @ MATRIX, 2 * y  # two read and one written, one read and one written

    assert _count(residual, MATRIX).hbm_bytes == (4 + 3 + 2) * 4 * WIDTH**2


@pytest.mark.parametrize(("batch", "depth"), [(512, 4), (2048, 8)])
def test_the_estimate_against_the_compiler(batch, depth):
    weights = [jnp.ones((256, 256))] * depth

    def train(weights, x):
        def loss(weights):
            y = x
            for weight in weights:
                y = y + jax.nn.relu(y @ weight)
            return jnp.square(y).mean()

        gradients = jax.grad(loss)(weights)
        return [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]

    traced = jax.jit(train, donate_argnums=0).trace(weights, jnp.ones((batch, 256)))
    compiled = traced.lower().compile().memory_analysis().temp_size_in_bytes
    found = count(traced.jaxpr, outputs=[{}] * depth).peak_bytes
    assert found == pytest.approx(compiled, rel=0.25)
