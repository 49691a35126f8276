"""The colours of displayed heatmaps."""

import functools

import numpy as np


@functools.cache
def colormap() -> np.ndarray:
    """Returns a perceptual colour scale from violet through red to pale yellow.

    It is a path through OKLCH (Ottosson, "A perceptual color space for image
    processing", 2020, the source of the matrices) on which lightness rises evenly, so
    that equal differences of a heatmap look equal, even when printed in grey.

    Returns:
      uint8[256, 3], sRGB for heatmap values from 0 to 1.
    """
    t = np.linspace(0, 1, 256)
    lightness = 0.30 + 0.64 * t
    hue = np.deg2rad(300 + 165 * t)
    # The most that sRGB can show without clipping, which would distort the path; it is
    # higher around red.
    chroma = 0.15 + 0.05 * np.exp(-(((t - 0.42) / 0.18) ** 2))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1)
    lms = lab @ np.array(
        [
            [1.0, 1.0, 1.0],
            [0.3963377774, -0.1055613458, -0.0894841775],
            [0.2158037573, -0.0638541728, -1.2914855480],
        ]
    )
    linear = lms**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    linear = linear.clip(0, 1)
    srgb = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return np.rint(srgb * 255).astype(np.uint8)
