"""Operations and collectives in loops, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from rahf.benchmarks import loops

WIDTH = 32
PRODUCT = 2 * WIDTH**3  # operations of one product of two matrices


def _flops(function, *arguments):
    traced = jax.jit(function).trace(*arguments)
    return loops.xla_flops(traced.lower()) + loops.repeated_flops(traced.jaxpr)


@pytest.mark.parametrize(
    ("trips", "unroll"), [(0, 1), (1, 1), (6, 1), (7, 2), (4, 4), (3, 5)]
)
def test_a_scan_counts_its_trips(trips, unroll):
    matrix = jnp.ones((WIDTH, WIDTH))

    def layers(x):
        body = lambda x, _: (jnp.tanh(x @ matrix), None)
        return jax.lax.scan(body, x, None, length=trips, unroll=unroll)[0].sum()

    assert _flops(layers, matrix) == pytest.approx(trips * PRODUCT, abs=3 * WIDTH**2)
    # Backward there is another product a trip: of the gradient.
    assert _flops(jax.grad(layers), matrix) == pytest.approx(
        2 * trips * PRODUCT, rel=0.1
    )


def test_scans_in_scans_and_in_what_is_computed_again():
    matrix = jnp.ones((WIDTH, WIDTH))

    def inner(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ matrix, x)

    def outer(x):
        body = lambda x, _: (jax.checkpoint(inner)(jax.jit(inner)(x)), None)
        return jax.lax.scan(body, x, None, length=5)[0]

    assert _flops(outer, matrix) == pytest.approx(5 * 2 * 3 * PRODUCT, rel=0.01)


def test_the_longer_branch_counts():
    matrix = jnp.ones((WIDTH, WIDTH))

    def either(x):
        long, short = (
            lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, x: x @ matrix, x)
            for n in (5, 2)
        )
        return jax.lax.cond(x[0, 0] > 0, long, short, x)

    assert loops.repeated_flops(jax.jit(either).trace(matrix).jaxpr) == pytest.approx(
        4 * PRODUCT, rel=0.01
    )


def test_a_loop_of_unknown_trips_is_an_error():
    loop = lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: x * 2, x)
    with pytest.raises(ValueError, match="number of trips of a while_loop"):
        loops.repeated_flops(jax.jit(loop).trace(1.0).jaxpr)


def test_collectives_in_loops_count_each_trip():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    def summed(x):
        turn = lambda x, _: (jnp.sin(x + jax.lax.psum(x, "data")), None)
        return jax.lax.scan(turn, x, None, length=6)[0] + jax.lax.psum(x, "data")

    text = summed.lower(jnp.ones(8)).compile().as_text()
    assert loops.count_collectives(text) == {"all-reduce": 7}
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 2
