"""Where a build reads and writes."""

import dataclasses

from etils import epath

from rahf.data.richhf import NAME, VERSION
from rahf.data.richhf.labels import label_files


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a build reads and writes; local, or what TensorFlow reads (gs://).

    Attributes:
      labels: split -> label file.
      pickapic: folder of Pick-a-Pic's Parquet files.
      folder: of the dataset, all its versions.
    """

    labels: dict[str, str]
    pickapic: str
    folder: epath.Path

    @classmethod
    def of(cls, labels: str, pickapic: str, output: str, *, partial: bool) -> "Places":
        """Finds the label files; raises ValueError as `label_files` does."""
        found = label_files(labels, partial=partial)
        return cls(found, pickapic, epath.Path(output) / NAME)

    @property
    def dataset(self) -> epath.Path:
        """The finished dataset: there once it is complete."""
        return self.folder / VERSION

    @property
    def staging(self) -> epath.Path:
        """A data directory for the dataset while it is being written."""
        return self.folder / "incomplete"

    @property
    def report(self) -> epath.Path:
        """The report of the last build."""
        return self.folder / "build_report.json"

    def prepare(self) -> None:
        """Makes the folders, without what a killed build has left.

        Raises:
          ValueError: the dataset is there already.
        """
        if self.dataset.exists():
            raise ValueError(
                f"{self.dataset} is there already, and whole; remove it to build it "
                "again"
            )
        if self.staging.exists():
            self.staging.rmtree()
        self.folder.mkdir(parents=True, exist_ok=True)

    def publish(self) -> None:
        """Makes the staged dataset the finished one, in one step."""
        (self.staging / NAME / VERSION).replace(self.dataset)
        self.staging.rmtree()
