"""Where a build reads and writes."""

import dataclasses

from etils import epath

from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.datasets.richhf import NAME, VERSION
from rahf.datasets.richhf.labels import label_files


@dataclasses.dataclass(frozen=True)
class BuildPaths:
    """Paths of a build; local, or on a file system that TensorFlow reads (gs://).

    Attributes:
      labels: split -> label file.
      pickapic: the folder of Pick-a-Pic's Parquet files.
      output: the folder of the dataset.
    """

    labels: dict[str, str]
    pickapic: str
    output: DatasetFolder

    @classmethod
    def from_arguments(
        cls, labels: str, pickapic: str, output: str, *, partial: bool
    ) -> "BuildPaths":
        """Finds the label files; raises ValueError as `label_files` does."""
        found = label_files(labels, partial=partial)
        return cls(found, pickapic, DatasetFolder.in_data_dir(output, NAME, VERSION))

    @property
    def report(self) -> epath.Path:
        """The report of the last build."""
        return self.output.folder / "build_report.json"
