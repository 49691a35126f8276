"""The folder of a dataset, which is written completely or not at all."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Self

from etils import epath


@dataclasses.dataclass(frozen=True)
class DatasetFolder:
    """The folder of a TFDS dataset; local, or anything TensorFlow writes to (gs://).

    Attributes:
      folder: the folder of all versions, `<data directory>/<name>`.
      version: the version, such as "1.0.0".
    """

    folder: epath.Path
    version: str

    @classmethod
    def in_data_dir(cls, data_dir: str | os.PathLike, name: str, version: str) -> Self:
        """Returns the folder of a dataset in a data directory."""
        return cls(epath.Path(data_dir) / name, version)

    @property
    def name(self) -> str:
        """The dataset's name, as `tfds.load` takes it."""
        return self.folder.name

    @property
    def dataset(self) -> epath.Path:
        """The folder of the finished dataset; exists once it is complete."""
        return self.folder / self.version

    @property
    def staging(self) -> epath.Path:
        """The data directory of the dataset while it is being written."""
        return self.folder / "incomplete"

    def prepare(self) -> None:
        """Makes the folder and removes what a killed process has left in it.

        Raises:
          ValueError: the dataset already exists.
        """
        if self.dataset.exists():
            raise ValueError(
                f"{self.dataset} already exists and is complete; remove it to build it "
                "again, or choose another output"
            )
        if self.staging.exists():
            self.staging.rmtree()
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what is written to `staging` inside into the dataset, in one step.

        An error leaves nothing behind. A killed process leaves nothing that looks
        like a dataset, and `prepare` removes the rest.
        """
        self.staging.mkdir()
        try:
            yield
            (self.staging / self.name / self.version).replace(self.dataset)
        finally:
            self.staging.rmtree()
