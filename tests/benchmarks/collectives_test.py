"""Collectives of compiled functions, against counts by hand."""

import jax
import jax.numpy as jnp

from rahf.benchmarks.collectives import count_collectives


def test_collectives_in_loops_count_each_trip():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    def summed(x):
        turn = lambda x, _: (jnp.sin(x + jax.lax.psum(x, "data")), None)
        return jax.lax.scan(turn, x, None, length=6)[0] + jax.lax.psum(x, "data")

    text = summed.lower(jnp.ones((8, 5))).compile().as_text()
    assert count_collectives(text) == {"all-reduce": (7, 7 * 5 * 4)}
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 2


def test_results_of_several_arrays_and_those_only_started():
    text = """HloModule m
ENTRY %main (a: f32[8]) -> f32[8] {
  %r = (f32[8,2]{1,0:T(8,128)S(1)}, bf16[4]{0}) all-reduce(%a, %b), to_apply=%add
  %s = (bf16[4]{0}, bf16[4]{0}) all-reduce-start(%c, %d), to_apply=%add
  %g = (f32[2,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%p), dimensions={0}
  %h = f32[16,8]{1,0} all-gather-done(%g)
  %c = (u8[6]{0}, u8[6]{0}, u32[], u32[]) collective-permute-start(%q)
}
"""
    assert count_collectives(text) == {
        "all-gather": (1, 16 * 8 * 4),
        "all-reduce": (2, 8 * 2 * 4 + 4 * 2 + 2 * 4 * 2),
        "collective-permute": (1, 6),
    }


def test_loops_of_a_tpu_count_up_to_a_constant():
    text = """HloModule m
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %one = s32[] constant(1)
  %r = f32[4]{0} all-reduce(%x), to_apply=%add
}

%until (p: (s32[], f32[4])) -> pred[] {
  %six = s32[]{:T(128)} constant(6)
  ROOT %lt = pred[]{:T(512)} compare(%i, %six), direction=LT
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %nine = s32[] constant(9)
  %w = (s32[]{:T(128)}, f32[4]{0}) while(%t), condition=%until, body=%body
}
"""
    assert count_collectives(text) == {"all-reduce": (6, 6 * 16)}
