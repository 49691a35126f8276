"""Arrays between PyTorch and JAX on one device, by DLPack, without a copy.

score = as_torch(lambda images: my_jax_function(images))    # float32[B, 3, H, W] -> [B]
score(decoded).sum().backward()                             # decoded: a torch.Tensor
"""

from collections.abc import Callable

import jax

from rahf import extras

with extras.needing("diffusers", "tensors of PyTorch"):
    import torch


def to_jax(tensor: torch.Tensor) -> jax.Array:
    """Returns a tensor's values as a JAX array on its device.

    They share memory, unless the tensor is not contiguous or lies where JAX cannot read
    it: do not write to the tensor while the array is in use. Gradients do not pass; see
    `as_torch`.
    """
    return jax.dlpack.from_dlpack(tensor.detach().contiguous())


def to_torch(array: jax.Array) -> torch.Tensor:
    """Returns a JAX array's values as a tensor on its device.

    They share memory, and JAX takes arrays to be constant: `clone()` before writing.
    """
    return torch.from_dlpack(array)


def as_torch(
    function: Callable[[jax.Array], jax.Array],
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function of JAX as one of PyTorch, through which gradients pass.

    Args:
      function: one floating array -> another, on the tensor's device.
    """

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tensor):  # type: ignore[override]
            value, ctx.pull = jax.vjp(function, to_jax(tensor))
            return to_torch(value).clone()  # it may be the tensor itself

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[override]
            (found,) = ctx.pull(to_jax(gradient))
            return to_torch(found).clone()  # PyTorch may add to it in place

    apply: Callable[[torch.Tensor], torch.Tensor] = Function.apply
    return apply
