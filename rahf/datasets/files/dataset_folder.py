"""Where a dataset is written: whole, or not at all."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Self

from etils import epath


@dataclasses.dataclass(frozen=True)
class DatasetFolder:
    """The folder of a TFDS dataset; local, or what TensorFlow writes (gs://).

    Attributes:
      folder: of all versions, `<data directory>/<name>`.
      version: as 1.0.0.
    """

    folder: epath.Path
    version: str

    @classmethod
    def in_data_dir(cls, data_dir: str | os.PathLike, name: str, version: str) -> Self:
        """Names the folder of a dataset in a data directory."""
        return cls(epath.Path(data_dir) / name, version)

    @property
    def name(self) -> str:
        """The dataset's, as `tfds.load` is to find it."""
        return self.folder.name

    @property
    def dataset(self) -> epath.Path:
        """The finished dataset: there once it is complete."""
        return self.folder / self.version

    @property
    def staging(self) -> epath.Path:
        """A data directory for the dataset while it is being written."""
        return self.folder / "incomplete"

    def prepare(self) -> None:
        """Makes the folder, without what a killed process has left.

        Raises:
          ValueError: the dataset is there already.
        """
        if self.dataset.exists():
            raise ValueError(
                f"{self.dataset} is there already, and whole; remove it to build it "
                "again, or write elsewhere"
            )
        if self.staging.exists():
            self.staging.rmtree()
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Makes what is written to `staging` inside the dataset, in one step.

        An error leaves nothing. Nor does a process that is killed: nothing that
        looks like a dataset, and `prepare` removes the rest.
        """
        self.staging.mkdir()
        try:
            yield
            (self.staging / self.name / self.version).replace(self.dataset)
        finally:
            self.staging.rmtree()
