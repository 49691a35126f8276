"""RAHF: rich automatic human feedback for text-to-image generation.

    import rahf
    predictor = rahf.load("runs/scenes")
    predictions = predictor.predict(images, prompts)

`import rahf` imports neither JAX nor TensorFlow; the first use of `rahf.load` imports
JAX (docs/predict.md).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rahf.inference.clip_predictor import load_clip
    from rahf.inference.predictor import load

__all__ = ["load", "load_clip"]
__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "load":
        from rahf.inference.predictor import load

        return load
    if name == "load_clip":
        from rahf.inference.clip_predictor import load_clip

        return load_clip
    raise AttributeError(
        f"module 'rahf' has no attribute {name!r}; it has: {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
