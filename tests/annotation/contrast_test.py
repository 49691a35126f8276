"""The page's colours: text must be readable (WCAG 2.2, 1.4.3, level AA)."""

import pathlib
import re

import pytest

from rahf.annotation import server

CSS = (pathlib.Path(server.__file__).parent / "page" / "style.css").read_text("utf-8")
NAMED = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", CSS))


def _luminance(colour: str) -> float:
    linear = []
    for at in (1, 3, 5):
        value = int(colour[at : at + 2], 16) / 255
        linear.append(
            value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        )
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *((NAMED[text], NAMED["paper"]) for text in ("ink", "soft", "bad")),
        (NAMED["ink"], NAMED["shade"]),
        ("#ffffff", NAMED["main"]),
        ("#7f1d1d", "#fee2e2"),  # a word that is not shown
    ],
)
def test_contrast(text, ground):
    assert {text, ground} <= {*re.findall("#[0-9a-f]{6}", CSS), "#ffffff"}
    light, dark = sorted((_luminance(text), _luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
