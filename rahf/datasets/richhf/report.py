"""What a build found: counts, every problem, and what became of the records."""

import collections
import dataclasses
import json
from typing import Any

from etils import epath

from rahf.datasets.richhf.joining import POLICIES, Joined, Problem


@dataclasses.dataclass
class BuildReport:
    """Counts by split and the problems, as they come.

    Attributes:
      policy: a key of `joining.POLICIES`.
      read: split -> records in the label files.
      written: split -> records in the dataset.
      problems: all of them.
      unreadable: the Parquet files that were passed over, with the reason.
    """

    policy: str
    read: dict[str, int]
    written: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise ValueError(
                f"--policy={self.policy!r} is unknown; options: {', '.join(POLICIES)}"
            )

    def kept(self, joined: Joined) -> bool:
        """Notes a record's problems; returns whether it goes into the dataset."""
        self.problems += joined.problems
        return joined.kept(self.policy)

    def counts(self) -> dict[str, int]:
        """Returns kind of problem -> how many."""
        return dict(collections.Counter(problem.kind for problem in self.problems))

    def finish(self, path: epath.Path) -> None:
        """Writes the report, and refuses what the policy does not allow.

        Args:
          path: of the report file.

        Raises:
          ValueError: there are problems and the policy is "fail", or there is no
            record at all.
        """
        refusal = self._refusal(path)
        if refusal:
            self.written = dict.fromkeys(self.read, 0)
        self._write(path)
        if refusal:
            raise ValueError(refusal)

    def _refusal(self, path: epath.Path) -> str:
        if self.policy == "fail" and self.problems:
            return (
                f"nothing was written, for there are problems: {self._told()}. "
                f"{path} lists them. Name a policy to go on with what was found: "
                "--policy=mask keeps such records and marks the unusable label as "
                "missing, --policy=exclude leaves them out"
            )
        if not sum(self.written.values()):
            return (
                f"no record can be written: {self._told()}. {path} lists them; does "
                "--pickapic hold the shards with these images?"
            )
        return ""

    def _write(self, path: epath.Path) -> None:
        content: dict[str, Any] = {
            "policy": f"{self.policy}: {POLICIES[self.policy]}",
            "read": self.read,
            "written": self.written,
            "counts": self.counts(),
            "unreadable_files": self.unreadable,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)  # whole or not at all

    def summary(self) -> str:
        """Returns what a person wants to know at the end."""
        parts = (
            f"{split} {self.written.get(split, 0):,} of {number:,}"
            for split, number in self.read.items()
        )
        return f"{', '.join(parts)}; {self._told()}"

    def _told(self) -> str:
        told = [f"{number:,} {kind}" for kind, number in self.counts().items()]
        if self.unreadable:
            told.append(f"{len(self.unreadable)} Parquet files could not be read")
        return ", ".join(told) or "no problems"
