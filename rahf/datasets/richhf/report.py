"""The report of a build: its counts and problems."""

import collections
import dataclasses
import json
from typing import Any

from etils import epath

from rahf.datasets.richhf.joining import POLICIES, Joined, Problem


@dataclasses.dataclass
class BuildReport:
    """Counts and problems, collected during a build.

    Attributes:
      policy: a key of `joining.POLICIES`.
      read: split -> number of records in the label files.
      written: split -> number of records in the dataset.
      problems: all problems.
      unreadable: the Parquet files that were skipped, with the reason.
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
        """Returns kind of problem -> number of problems."""
        return dict(collections.Counter(problem.kind for problem in self.problems))

    def finish(self, path: epath.Path) -> None:
        """Writes the report, and raises if the policy does not allow the problems.

        Args:
          path: the report file.

        Raises:
          ValueError: there are problems and the policy is "fail", or there are no
            records.
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
                f"no dataset was written because of problems: {self._describe()}. "
                f"{path} lists them. Choose a policy to continue with what was found: "
                "--policy=mask keeps such records and marks the unusable label as "
                "missing, --policy=exclude omits them"
            )
        if not sum(self.written.values()):
            return (
                f"there are no usable records: {self._describe()}. {path} lists them; "
                "does --pickapic have the shards with these images?"
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
        part.replace(path)  # written completely or not at all

    def summary(self) -> str:
        """Returns the counts and problems in words."""
        parts = (
            f"{split} {self.written.get(split, 0):,} of {number:,}"
            for split, number in self.read.items()
        )
        return f"{', '.join(parts)}; {self._describe()}"

    def _describe(self) -> str:
        found = [f"{number:,} {kind}" for kind, number in self.counts().items()]
        if self.unreadable:
            found.append(f"{len(self.unreadable)} Parquet files could not be read")
        return ", ".join(found) or "no problems"
