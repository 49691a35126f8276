"""RAHF: rich automatic human feedback for text-to-image generation.

    import rahf
    predictor = rahf.load("runs/scenes")
    predictions = predictor.predict(images, prompts)

`import rahf` imports neither JAX nor TensorFlow; the first use of `rahf.load` imports
JAX (docs/predict.md).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rahf.inference.predictor import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "load":
        from rahf.inference.predictor import load

        return load
    raise AttributeError(f"module 'rahf' has no attribute {name!r}; it has: load")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
