"""Arrays of PyTorch and JAX: one memory, and gradients through both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module", name="library")
def _library():
    """A slow import, so not at the top."""
    import torch

    from rahf.generators import torch_arrays

    return torch, torch_arrays


def test_memory_is_shared(library):
    torch, arrays = library
    tensor = torch.arange(2 * 3 * 64 * 64, dtype=torch.float32).reshape(2, 3, 64, 64)
    array = arrays.to_jax(tensor)
    assert isinstance(array, jax.Array) and array.shape == (2, 3, 64, 64)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    back = arrays.to_torch(array)
    assert back.data_ptr() == tensor.data_ptr() and back.dtype == torch.float32
    turned = tensor.permute(0, 2, 3, 1)  # not contiguous
    np.testing.assert_array_equal(arrays.to_jax(turned), turned.numpy())
    half = torch.ones(8, dtype=torch.bfloat16, requires_grad=True)
    assert arrays.to_jax(half).dtype == jnp.bfloat16


def test_gradients_pass(library):
    torch, arrays = library

    def score(images):  # [B, 3, H, W] -> [B]
        return jnp.tanh(images**2).mean(axis=(1, 2, 3))

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(3.0, requires_grad=True)
    weights = torch.tensor([1.0, -2.0])
    (arrays.as_torch(score)(scale * images) * weights).sum().backward()
    mine = scale.grad.item()
    scale.grad = None
    (torch.tanh((scale * images) ** 2).mean(dim=(1, 2, 3)) * weights).sum().backward()
    assert mine == pytest.approx(scale.grad.item(), rel=1e-5)


def test_what_comes_out_may_be_written_to(library):
    torch, arrays = library
    images = torch.ones(4, requires_grad=True)
    found = arrays.as_torch(lambda x: x)(images)
    with torch.no_grad():
        found.mul_(5.0)
    assert images.tolist() == [1.0] * 4
