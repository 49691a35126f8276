"""The pictures that are written of a prediction: heatmaps, overlays and sheets."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rahf import durable, images, targets
from rahf.inference import sheets
from rahf.inference.jobs import Job

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction

#: Which heatmaps are written: none, those of the model's size, or of the image's.
HEATMAPS = ("none", "native", "full")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Which pictures of an image are written.

    Attributes:
      heatmaps: one of `HEATMAPS`.
      overlays: whether to write overlays.
      sheets: whether to write one picture of all that was predicted of an image.

    Raises:
      ValueError: there are no such heatmaps.
    """

    heatmaps: str = "full"
    overlays: bool = True
    sheets: bool = False

    def __post_init__(self):
        if self.heatmaps not in HEATMAPS:
            raise ValueError(f"heatmaps={self.heatmaps!r}: expected one of {HEATMAPS}")

    def __str__(self) -> str:
        switches = {"overlays": self.overlays, "sheets": self.sheets}
        said = [f"--{name}={'on' if on else 'off'}" for name, on in switches.items()]
        return " ".join([f"--heatmaps={self.heatmaps}", *said])

    @property
    def folders(self) -> dict[str, bool]:
        """The folders of pictures, and whether any are written there."""
        return {
            "heatmaps": self.heatmaps != "none",
            "overlays": self.overlays,
            "sheets": self.sheets,
        }

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
        self, folder: pathlib.Path, job: Job, image: np.ndarray, found: "Prediction"
    ) -> dict[str, Any]:
        """Writes the pictures of one image, each whole or not at all.

        Args:
          folder: the folder of the predictions.
          job: the image's name in file names, and its prompt.
          image: uint8[H, W, 3].
          found: what was predicted; its heatmaps are float[h, w] in [0, 1].

        Returns:
          The fields "heatmaps" and "overlays" of its line, paths by target, and "sheet",
          a path, if there is one.

        Raises:
          ValueError: a heatmap is outside [0, 1].
          OSError: a file cannot be written.
        """
        fields: dict[str, Any] = {"heatmaps": {}, "overlays": {}}
        size = (image.shape[0], image.shape[1]) if self.heatmaps == "full" else None
        for target, heatmap in found.heatmaps.items():
            heatmap = np.asarray(heatmap)
            if self.heatmaps != "none":
                path = f"heatmaps/{job.name}.{target}.png"
                with durable.writing(folder / path) as temporary:
                    images.write_heatmap(temporary, heatmap, size)
                fields["heatmaps"][target] = path
            if self.overlays:
                path = f"overlays/{job.name}.{target}.jpg"
                picture = images.overlay_picture(
                    image,
                    heatmap,
                    title=target.replace("_", " "),
                    threshold=targets.threshold_of(target),
                )
                _write_jpeg(folder / path, picture)
                fields["overlays"][target] = path
        if self.sheets:
            fields["sheet"] = f"sheets/{job.name}.jpg"
            _write_jpeg(folder / fields["sheet"], sheets.draw(image, job.prompt, found))
        return fields


def _write_jpeg(path: pathlib.Path, picture: Image.Image) -> None:
    with durable.writing(path) as temporary:
        picture.save(temporary, "JPEG", quality=90)


def picture_names(row: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names in the file names of a line's pictures, in lower case."""
    names = set()
    for field, suffix in (("heatmaps", "png"), ("overlays", "jpg")):
        for target, path in row.get(field, {}).items():
            name = path.removeprefix(f"{field}/").removesuffix(f".{target}.{suffix}")
            names.add(name.casefold())
    if "sheet" in row:
        name = row["sheet"].removeprefix("sheets/").removesuffix(".jpg")
        names.add(name.casefold())
    return frozenset(names)


#: Heatmaps of the image's own size, and overlays.
ALL = Pictures()
