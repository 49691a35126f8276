"""The pictures that are written of a prediction: heatmaps, and overlays for viewing."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf import durable, images

#: Which heatmaps are written: none, those of the model's size, or of the image's.
HEATMAPS = ("none", "native", "full")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Which pictures of an image are written.

    Attributes:
      heatmaps: one of `HEATMAPS`.
      overlays: whether to write overlays.

    Raises:
      ValueError: there are no such heatmaps.
    """

    heatmaps: str = "full"
    overlays: bool = True

    def __post_init__(self):
        if self.heatmaps not in HEATMAPS:
            raise ValueError(f"heatmaps={self.heatmaps!r}: expected one of {HEATMAPS}")

    def __str__(self) -> str:
        return (
            f"--heatmaps={self.heatmaps} --overlays={'on' if self.overlays else 'off'}"
        )

    @property
    def folders(self) -> dict[str, bool]:
        """The folders of pictures, and whether any are written there."""
        return {"heatmaps": self.heatmaps != "none", "overlays": self.overlays}

    def as_fields(self) -> dict[str, Any]:
        """Returns what a line says of them: nothing if they are the usual ones."""
        return {} if self == Pictures() else {"pictures": dataclasses.asdict(self)}

    def check_line(self, where: str, row: Mapping[str, Any]) -> None:
        """Raises ValueError if a finished image has other pictures than these.

        Args:
          where: the file and line, for the message.
          row: the line.
        """
        had = Pictures(**row.get("pictures", {}))
        if had != self:
            raise ValueError(
                f"{where}: was predicted with {had}, not {self}; use those again, or "
                "choose another --output"
            )

    def write(
        self,
        folder: pathlib.Path,
        name: str,
        image: np.ndarray,
        predicted: Mapping[str, np.ndarray],
    ) -> dict[str, dict[str, str]]:
        """Writes the pictures of one image, each whole or not at all.

        Args:
          folder: the folder of the predictions.
          name: the image's name in file names.
          image: uint8[H, W, 3].
          predicted: heatmaps by target, float[h, w] in [0, 1].

        Returns:
          The fields "heatmaps" and "overlays" of its line: paths by target.

        Raises:
          ValueError: a heatmap is outside [0, 1].
          OSError: a file cannot be written.
        """
        paths: dict[str, dict[str, str]] = {"heatmaps": {}, "overlays": {}}
        size = (image.shape[0], image.shape[1]) if self.heatmaps == "full" else None
        for target, heatmap in predicted.items():
            heatmap = np.asarray(heatmap)
            if self.heatmaps != "none":
                path = f"heatmaps/{name}.{target}.png"
                with durable.writing(folder / path) as temporary:
                    images.write_heatmap(temporary, heatmap, size)
                paths["heatmaps"][target] = path
            if self.overlays:
                path = f"overlays/{name}.{target}.jpg"
                picture = images.overlay_picture(image, heatmap)
                picture.thumbnail((65500, 65500))  # JPEG's limit on a side
                with durable.writing(folder / path) as temporary:
                    picture.save(temporary, "JPEG", quality=90)
                paths["overlays"][target] = path
        return paths


def picture_names(row: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names in the file names of a line's pictures, in lower case."""
    names = set()
    for field, suffix in (("heatmaps", "png"), ("overlays", "jpg")):
        for target, path in row.get(field, {}).items():
            name = path.removeprefix(f"{field}/").removesuffix(f".{target}.{suffix}")
            names.add(name.casefold())
    return frozenset(names)


#: All pictures, of the image's own size.
ALL = Pictures()
